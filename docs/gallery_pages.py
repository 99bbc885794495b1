"""MkDocs hook: the pages of the gallery show the text and the code of their scripts.

In the repository, a page holds a title, the figure, and a link to the script in a line of its own.
The site has, in place of the link, what the script's docstring says, and below it the rest of the
script.
"""

import ast
import re
from pathlib import Path

LINK = re.compile(r"^\[[^\]\n]*\]\((\w+\.py)\)$", re.M)
_PUBLIC_NAME = re.compile(r"`(slowpoints\.\w+)`")


def on_page_markdown(markdown, page, **kwargs):
    """Put the script in place of the link to it."""
    if not page.file.src_uri.startswith("gallery/"):
        return markdown

    def script(link):
        text, code = parts((Path(page.file.abs_src_path).parent / link[1]).read_text("utf-8"))
        text = _PUBLIC_NAME.sub(r"[`\1`][\1]", text)
        # Not a block "```python", which would run while the site is built.
        return f'{text}\n\n```{{.python title="{link[1]}"}}\n{code}\n```'

    return LINK.sub(script, markdown)


def parts(source):
    """Return what the docstring of a script says below its title, and the code below it."""
    docstring = ast.parse(source).body[0]
    _, _, text = docstring.value.value.partition("\n")
    code = "\n".join(source.splitlines()[docstring.end_lineno :])
    return text.strip(), code.strip()
