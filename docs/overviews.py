"""MkDocs hook: each page of the reference begins with what is on it, and the site has a version.

A line for each name, with the first sentence of its docstring and the pages that use it.
"""

import inspect
import re
from importlib.metadata import version

import slowpoints

_ENTRY = re.compile(r"^::: (slowpoints\.(?:solvers\.)?(\w+))$", re.M)
_SENTENCE = re.compile(r"(.+?[.:])(?:\s|$)", re.S)
_PAGES_OF = ("guide/", "howto/", "tutorials/")
_MOST_PAGES = 3


def on_config(config):
    """Put the version into the header."""
    config["site_name"] = f"{config['site_name']} {version('slowpoints')}"
    return config


def on_page_markdown(markdown, page, config, files):
    """Put a table of what is on a page of the reference before the first entry."""
    entries = list(_ENTRY.finditer(markdown))
    if not page.file.src_uri.startswith("reference/") or len(entries) < 2:
        return markdown
    others = [f for f in files.documentation_pages() if f.src_uri.startswith(_PAGES_OF)]
    rows = ["| | | used in |", "| --- | --- | --- |"]
    for entry in entries:
        uses = re.compile(rf"\bslowpoints\.{entry[2]}\b|\b{entry[2]}\(")
        pages = [f for f in others if uses.search(f.content_string)][:_MOST_PAGES]
        links = ", ".join(f"[{_title(f)}](../{f.src_uri})" for f in pages)
        rows.append(f"| [`{entry[2]}`][{entry[1]}] | {_first_sentence(entry[1])} | {links} |")
    first = entries[0].start()
    return markdown[:first] + "\n".join(rows) + "\n\n" + markdown[first:]


def _title(file):
    return re.search(r"^# (.*)$", file.content_string, re.M)[1]


def _first_sentence(path):
    value = slowpoints
    for name in path.split(".")[1:]:
        value = getattr(value, name)
    text = " ".join(inspect.getdoc(value).split("\n\n")[0].split())
    return _SENTENCE.match(text)[1].rstrip(":")
