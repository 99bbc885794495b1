"""Spaces in formulas, where latex2mathml leaves them out or a browser would put too many.

Names of functions are set apart from what is beside them, as in `α tanh(x)` and `c cos θ`; and a
sign behind an operator or an opening bracket belongs to what follows, as in `x = −y`.
"""

import itertools
import xml.etree.ElementTree as ET

_FUNCTIONS = {"arg", "artanh", "cos", "det", "exp", "Im", "ln", "log", "max", "min", "rank", "Re"}
_FUNCTIONS |= {"sign", "sin", "span", "tan", "tanh"}
_PLUS_MINUS = "±"
_SIGNS = {"\N{MINUS SIGN}", "+", _PLUS_MINUS}
_CLOSING = {")", "]", "}", "|", "‖", "⟩", "!"}
_ROWS = {"math", "mrow", "mtd", "mstyle", "msqrt"}  # of any number of parts
_THIN = "0.167em"  # what LaTeX has there


def spaced(mathml):
    """Return a formula, an element `math`, with these spaces."""
    root = ET.fromstring(mathml.replace(' xmlns="', ' data-xmlns="'))
    for row in [element for element in root.iter() if element.tag in _ROWS]:
        parts = list(row)
        for part in parts:
            if part.tag == "mo" and part.text in _FUNCTIONS:
                part.tag = "mi"
                part.attrib.clear()
            if part.text == _PLUS_MINUS:
                part.tag = "mo"
        for left, right in itertools.pairwise(parts):
            if right.tag == "mo" and right.text in _SIGNS and _opens(left):
                right.set("form", "prefix")
            is_before = _is_function(right) and not _opens(left)
            is_behind = _is_function(left) and right.tag != "mo"
            if (is_before or is_behind) and "mspace" not in (left.tag, right.tag):
                row.insert(list(row).index(right), ET.Element("mspace", width=_THIN))
    return ET.tostring(root, encoding="unicode").replace(' data-xmlns="', ' xmlns="')


def _opens(part):
    return part.tag == "mo" and part.text not in _CLOSING


def _is_function(part):
    base = part[0] if part.tag in ("msub", "msup", "munder", "msubsup") and len(part) else part
    return base.tag in ("mi", "mo") and base.text in _FUNCTIONS
