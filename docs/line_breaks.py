"""A MkDocs hook that says where lines of finished pages break, and where not.

A long name in code breaks after an underscore, a full stop or the like, rather than anywhere. A
number keeps its unit, and a formula the comma behind it. A short cell of a table and an option such
as `--noise-scale` stay in one line. Figures that would be illegible on a phone are marked as well.
(`style.css` has the rules for the classes that are given here.)
"""

import html
import re

_CODE = re.compile(r"(?<!<span></span>)<code>([^<\n]+)</code>")  # within a line, not a block
_BREAKABLE = re.compile(  # behind one of these signs, but not within a number
    r"(?:(?<=[\w)][_./=(|,])(?<!\d\.(?=\d))|(?<=::))(?=[\w&\"])"
)
_LONG_NAME, _LONG_OPTION = 16, 24  # letters; what is shorter fits into any column
_FORMULA = re.compile(  # one in a sentence, with what is not to be parted from it
    r"\(?<math[^>]*display=\"inline\"(?:(?!</math>).)*</math>[.,;:)]+", re.S
)
_FIGURE = re.compile(r'<img (?=[^>]*?width="(\d+)")')
_WIDE = 640  # CSS pixels; on a phone, letters of 8 points would be less than 5 high
_CELL = re.compile(r"<(t[dh])((?: [^>]*)?)>(.*?)</\1>", re.S)
_SHORT_CELL = 16  # letters, such as "11.8 ms, 27/27"
_UNIT = re.compile(  # the space before it; the first part passes over what is to stay as it is
    r"<(pre|code|script|style|title)\b.*?</\1>"
    r"|(?<=\d) (?=(?:%|ms|s|x|k|kB|MB|GB|GiB)(?:\W|$))",
    re.S,
)


def on_post_page(output, **kwargs):
    """Mark the places, when the words of the page are in the index of the search already."""
    output = _UNIT.sub(lambda found: found[0] if found[1] else "&nbsp;", output)
    output = _FIGURE.sub(_figure, output)
    output = _FORMULA.sub(r'<span class="whole">\g<0></span>', output)
    return _CELL.sub(_cell, _CODE.sub(_code, output))


def _figure(found):
    return '<img class="wide" ' if int(found[1]) >= _WIDE else found[0]


def _code(found):
    if found[1].startswith("--") and len(found[1]) <= _LONG_OPTION:
        return f'<code class="whole">{found[1]}</code>'
    if len(html.unescape(found[1])) <= _LONG_NAME:
        return found[0]
    opening = "<code>" if " " in found[1] else '<code class="name">'
    return f"{opening}{_BREAKABLE.sub('<wbr>', found[1])}</code>"


def _cell(found):
    n_letters = len(html.unescape(re.sub("<[^>]+>", "", found[3])).strip())
    if n_letters > _SHORT_CELL:
        return found[0]
    return f'<{found[1]}{found[2]} class="short">{found[3]}</{found[1]}>'
