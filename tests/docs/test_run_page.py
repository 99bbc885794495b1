"""The pages' Python is run as a reader would run it, and a block that fails is not passed over."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.fast

SCRIPT = Path(__file__).parents[2] / "docs" / "run_page.py"
if not SCRIPT.is_file():
    pytest.skip("docs/ is left out of this installation", allow_module_level=True)
spec = importlib.util.spec_from_file_location("run_page", SCRIPT)
assert spec is not None and spec.loader is not None
run_page = importlib.util.module_from_spec(spec)
spec.loader.exec_module(run_page)

PAGE = """# A page

```python
a = 2
print("first")
```

```sh
exit 1
```

??? note

    ```python
    a + 1  # nothing is printed
    if a:
        print(a)
    ```
"""


def test_blocks_share_a_namespace_and_what_they_print_is_told_apart():
    assert run_page.run(PAGE, "page.md") == [
        {"text": "first", "figure": None, "turns": None},
        {"text": "2", "figure": None, "turns": None},
    ]


def test_a_figure_in_the_last_line_is_returned_as_an_image_with_its_title():
    code = 'import matplotlib\nmatplotlib.use("Agg")\nimport matplotlib.pyplot as plt\n'
    code += 'fig, ax = plt.subplots(figsize=(3, 2))\nax.set_title("a < b")\nfig\n'
    (result,) = run_page.run(f"```python\n{code}```\n", "page.md")
    assert '<img alt="a &lt; b" width="' in result["figure"]
    width = int(result["figure"].split('width="')[1].split('"')[0])
    assert 200 < width < 320  # pixels of CSS, of which an inch has 96


def test_a_figure_of_plotly_is_returned_as_a_page_that_loads_its_script_from_the_site():
    page = "```python\nimport plotly.graph_objects as go\n\ngo.Figure()\n```\n"
    (result,) = run_page.run(page, "page.md")
    assert result["figure"] is None and 'src="plotly.min.js"' in result["turns"]
    assert "https://" not in result["turns"]


def test_a_block_that_fails_ends_the_run_with_its_line_on_the_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE.replace("print(a)", "print(a / 0)"))
    done = subprocess.run([sys.executable, SCRIPT, page], capture_output=True, text=True)
    assert done.returncode == 1
    assert f'"{page}", line 17' in done.stderr and "ZeroDivisionError" in done.stderr


ALONE = """
import sys
from pathlib import Path

sys.path.insert(0, {docs!r})
import run_page

if __name__ == "__main__":
    print(run_page.run_alone(Path({page!r}), 0))
"""


@pytest.mark.one_in(2)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("last", "what_is_printed"),
    [
        ("print(a)", ["'text': 'first'", "'text': '2'"]),
        ("import os; print(os.path.exists('docs/run_page.py'))", ["'text': 'True'"]),
        ("print(a / 0)", ["line 17", "ZeroDivisionError", "of interest"]),
        ("exit(3)", ["line 17", "SystemExit: 3"]),
        ("import os; os._exit(3)", ["BrokenProcessPool"]),
    ],
)
def test_a_page_in_a_process_of_its_own_gives_results_or_what_went_wrong(
    tmp_path, last, what_is_printed
):
    page, script = tmp_path / "page.md", tmp_path / "script.py"
    page.write_text(
        PAGE.replace("print(a)", last)
        .replace("a = 2", "import warnings; a = 2")
        .replace('print("first")', 'print("first"); warnings.warn("of interest")')
    )
    script.write_text(ALONE.format(docs=str(SCRIPT.parent), page=str(page)))
    command = [sys.executable, script]  # from elsewhere
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert all(words in done.stdout for words in what_is_printed), done.stdout + done.stderr
