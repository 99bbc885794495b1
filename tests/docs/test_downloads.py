"""Pages as notebooks and scripts: what the site offers for download."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
if not DOCS.is_dir():
    pytest.skip("docs/ is left out of this installation", allow_module_level=True)
HOOK = runpy.run_path(str(DOCS / "downloads.py"))
PAGES = sorted([*DOCS.glob("tutorials/*.md"), *DOCS.glob("gallery/*.md")])


class Page:
    """What the hook reads of a page of MkDocs."""

    def __init__(self, path):
        self.content_string, self.abs_src_path = path.read_text(encoding="utf-8"), str(path)


def notebook(name):
    page = Page(DOCS / name)
    return HOOK["notebook_of"](HOOK["_script_of"](page) or page.content_string)


def code_of(book):
    return "\n".join(cell.source for cell in book.cells if cell.cell_type == "code")


def test_text_and_code_are_cells_in_their_order():
    page = """---
title: x
---
# A page

See [this](other.md), [`F`][slowpoints.F], [a site](https://example.org) and
![a figure](a.png){ width="3" }.

```python
x = open("docs/data/net.pt")
```

??? note

    ```python
    y = 1
    ```
"""
    cells = HOOK["notebook_of"](page).cells
    assert [cell.cell_type for cell in cells] == ["markdown", "code", "markdown", "code"]
    expected = "See this, `F`, [a site](https://example.org) and\n*a figure*."
    assert cells[0].source == f"# A page\n\n{expected}"
    assert cells[1].source == 'x = open("net.pt")' and cells[3].source == "y = 1"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_page_is_a_notebook_whose_code_compiles(path):
    book = notebook(path.relative_to(DOCS))
    code = code_of(book)
    if path.stem == "index":
        assert not code
        return
    compile(code, str(path), "exec")
    assert "docs/data" not in code and "__file__" not in code and "sys.argv" not in code
    assert book.cells[0].source.startswith("# ")


@pytest.mark.one_in(2)
@pytest.mark.slow
@pytest.mark.parametrize("name", ["gallery/hopfield.md", "tutorials/sine_wave.md"])
def test_a_script_runs_in_a_folder_of_its_own(name, tmp_path, monkeypatch):
    pytest.importorskip("optax")
    import jupytext
    import matplotlib.pyplot as plt

    monkeypatch.chdir(tmp_path)
    path = tmp_path / "page.py"
    path.write_text(jupytext.writes(notebook(name), fmt="py:percent"), encoding="utf-8")
    runpy.run_path(str(path), run_name="__main__")
    assert plt.get_fignums()
    plt.close("all")
