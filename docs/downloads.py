"""MkDocs hook: tutorials, guides and gallery pages as notebooks and as scripts, to download.

Both are made from the page while the site is built, so they never differ from it. A notebook has
the page's text and Python as cells; a script has the text as comments, in cells that editors know
(the "percent" format). Files that the code loads are offered as well, and are loaded from the
folder in which it runs.
"""

import re
import sys
import textwrap
from pathlib import Path

import jupytext
import nbformat

sys.path.insert(0, str(Path(__file__).parent))
import gallery_pages
from run_page import BLOCK

_FOLDERS = ("tutorials/", "gallery/")
_TITLE = re.compile(r"^# .*$", re.M)
_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.S)
_FIGURE = re.compile(r"!\[([^\]]*)\]\([^)]*\)")
_LINK = re.compile(r"\[([^\]]*)\](?:\((?!https?:)[^)]*\)|\[[^\]]*\])")
_ATTRIBUTES = re.compile(r" *\{ [^}\n]* \}")
_DATA = re.compile(r"docs/data/([\w.]+)")


def on_files(files, config):
    """Add a notebook and a script for each page that has code."""
    from mkdocs.structure.files import File

    for page in [*files.documentation_pages()]:
        if not page.src_uri.startswith(_FOLDERS):
            continue
        source = _script_of(page) or page.content_string
        if not BLOCK.search(source):
            continue
        notebook = notebook_of(source)
        name = page.src_uri.removesuffix(".md")
        script = jupytext.writes(notebook, fmt="py:percent")
        if own := files.get_file_from_path(name + ".py"):  # of a gallery page
            files.remove(own)
        files.append(File.generated(config, name + ".ipynb", content=nbformat.writes(notebook)))
        files.append(File.generated(config, name + ".py", content=script))
    return files


def on_page_markdown(markdown, page, config, files):
    """Offer them below the page's title."""
    name = page.file.src_uri.removesuffix(".md")
    if files.get_file_from_path(name + ".ipynb") is None:
        return markdown
    stem = Path(name).name
    needed = sorted(set(_DATA.findall(page.file.content_string + (_script_of(page.file) or ""))))
    data = "".join(f", and [{file}](../data/{file}), which it loads" for file in needed)
    offer = f"Download this page as a [notebook]({stem}.ipynb) or a [script]({stem}.py){data}."
    return _TITLE.sub(lambda title: f"{title[0]}\n\n{offer}\n{{ .download }}", markdown, count=1)


def _script_of(page):
    """Return the script of a gallery page as a page with its text and its code; else `None`."""
    link = gallery_pages.LINK.search(page.content_string)
    if link is None or page.abs_src_path is None:
        return None
    text, code = gallery_pages.parts((Path(page.abs_src_path).parent / link[1]).read_text("utf-8"))
    title = _TITLE.search(page.content_string)[0]
    code = code.partition("\npath = sys.argv")[0] + "\nplt.show()"  # in place of writing a file
    for line, name in (("import sys\n", "sys."), ("from pathlib import Path\n", "Path(")):
        code = code if name in code else code.replace(line, "")
    return f"{title}\n\n{text}\n\n```python\n{code}\n```\n"


def notebook_of(markdown):
    """Return a page as a notebook."""
    markdown = _FRONT_MATTER.sub("", markdown)
    cells, end = [], 0
    for block in BLOCK.finditer(markdown):
        cells += _text_cells(markdown[end : block.start()])
        code = textwrap.dedent(block["code"]).rstrip()
        cells.append(nbformat.v4.new_code_cell(_DATA.sub(r"\1", code)))
        end = block.end()
    cells += _text_cells(markdown[end:])
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"  # so that each build makes the same file
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    plain = {"notebook_metadata_filter": "-all", "cell_metadata_filter": "-all"}  # in the script
    metadata = {"kernelspec": kernel, "jupytext": plain}
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)


def _text_cells(text):
    """Return text as a cell, without links to other pages of the site; none if it is empty."""
    text = _ATTRIBUTES.sub("", _LINK.sub(r"\1", _FIGURE.sub(r"*\1*", text))).strip()
    return [nbformat.v4.new_markdown_cell(text)] if text else []
