"""README's commands, code and links: somebody who follows them gets to what it promises."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def run(block, capsys):
    """Run a block as a script; return its variables and what it printed."""
    namespace = {"__name__": "readme"}
    exec(compile(block, "README.md", "exec"), namespace)
    return namespace, capsys.readouterr().out


@pytest.fixture(autouse=True)
def _in_a_new_folder(tmp_path, monkeypatch):
    """Run in an empty folder, with the data of the checkout where README says that they are."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "data").symlink_to(ROOT / "docs" / "data")
    monkeypatch.chdir(tmp_path)


@pytest.mark.fast
def test_readme_names_the_two_commands():
    assert re.findall(r"^```sh\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL) == [
        "pip install -e . && python -m slowpoints demo\n",
        'pip install -e ".[test]" && pytest\n',
    ]


@pytest.mark.fast
def test_links_lead_to_files():
    links = re.findall(r"\]\((?!#)([^)#:]+)(?:#[^)]*)?\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_there_are_three_blocks_of_python():
    assert [("torch" in block, "brainpy" in block) for block in BLOCKS] == [
        (True, False),
        (False, True),
        (False, False),
    ]


@pytest.mark.slow
def test_a_gru_of_pytorch_gets_to_its_fixed_points_and_a_figure(capsys):
    pytest.importorskip("torch", reason="PyTorch is not installed (see the extras)")
    names, printed = run(BLOCKS[0], capsys)
    assert "Number of fixed points: 27" in printed and "Stable fixed points: 8 / 27" in printed
    assert names["fps"].n == 27
    assert Path("gru.png").read_bytes().startswith(PNG_MAGIC)


@pytest.mark.slow
def test_a_model_of_brainpy_gets_to_its_fixed_points_and_a_figure(capsys):
    names, printed = run(BLOCKS[1], capsys)
    assert "Number of fixed points: 27" in printed and "Stable fixed points: 8 / 27" in printed
    assert names["states"].shape == (100, 60, 32)
    assert Path("network.png").read_bytes().startswith(PNG_MAGIC)


def test_a_function_has_nine_fixed_points(capsys):
    names, printed = run(BLOCKS[2], capsys)
    assert names["fps"].n == 9 and "Stable fixed points: 4 / 9" in printed
    assert Path("flow.png").read_bytes().startswith(PNG_MAGIC)


@pytest.mark.slow
def test_the_figure_of_the_front_page_is_drawn_by_its_script(tmp_path):
    script = runpy.run_path(str(ROOT / "docs" / "figures" / "front.py"))
    script["main"](tmp_path / "front.png")
    assert (tmp_path / "front.png").read_bytes().startswith(PNG_MAGIC)
