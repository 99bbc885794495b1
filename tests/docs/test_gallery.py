"""The gallery is whole, and its scripts do what they say: every example has all of its parts."""

import ast
import re
import runpy
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

import slowpoints
from slowpoints._drawing.marks import MARKS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
GALLERY = DOCS / "gallery"
SCRIPTS = sorted(path for path in GALLERY.glob("*.py") if path.stem != "make")
LONGEST = 80  # lines of code that are not empty: more than that is no example

QUICK = {"context_integration", "decision_circuit", "hopfield", "low_rank", "relu_enumeration"}
"""Scripts that take seconds as tests are compiled; others take up to two minutes."""

each = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)


def parts(script):
    """Return the docstring's title and text, and the lines of code that are not empty."""
    source = script.read_text()
    docstring = ast.parse(source).body[0]
    title, _, text = docstring.value.value.partition("\n")
    code = source.splitlines()[docstring.end_lineno :]
    return title, text, [line for line in code if line]


@pytest.mark.fast
def test_there_are_a_dozen_examples():
    assert len(SCRIPTS) >= 12


@pytest.mark.fast
@each
def test_a_docstring_says_what_is_shown_and_where_it_comes_from(script):
    title, text, code = parts(script)
    assert re.fullmatch(r".{5,80}[.?]", title)
    assert "**What to look at.**" in text
    assert re.search(r"\*\*Sources?\.\*\* .+ \(\d{4}\)", text)
    for name in re.findall(r"`slowpoints\.(\w+)", text):
        assert name in slowpoints.__all__
    assert len(code) <= LONGEST
    assert "slowpoints._" not in "\n".join(code)  # what is private is not for examples


@pytest.mark.fast
@each
def test_a_page_a_figure_and_a_card_belong_to_each_script(script):
    name, (title, _, _) = script.stem, parts(script)
    page = (GALLERY / f"{name}.md").read_text()
    assert page.startswith(f"# {title.rstrip('.')}\n")
    figure = rf"!\[(.+)\]\(\.\./figures/gallery/{name}\.png\)"
    assert len(re.search(figure, page)[1]) > 20  # what readers who see no figure are told
    assert re.search(rf"^\[.+\]\({name}\.py\)$", page, re.M)
    cards = (GALLERY / "index.md").read_text()
    assert re.search(rf"\[{figure}\{{ loading=lazy \}}\]\({name}\.md\)", cards)
    assert f"**[{title.rstrip('.')}]({name}.md)**" in cards


@pytest.mark.fast
@each
def test_figures_are_sharp_and_light(script):
    path = DOCS / "figures" / "gallery" / f"{script.stem}.png"
    assert path.stat().st_size < 150_000
    image = Image.open(path).convert("RGB")
    assert 600 <= image.width <= 1300
    corners = [image.getpixel((x, y)) for x in (0, image.width - 1) for y in (0, image.height - 1)]
    assert set(corners) == {(255, 255, 255)}


@pytest.mark.fast
@pytest.mark.parametrize("name", ["decision_circuit", "hopfield", "low_rank", "torch_gru"])
def test_marks_keep_their_colours(name):
    """Figures have 256 colours, and those of a few small marks are easily lost."""
    pixels = np.asarray(Image.open(DOCS / "figures" / "gallery" / f"{name}.png").convert("RGB"))
    for _, color in MARKS[:2]:
        wanted = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
        assert np.abs(pixels.reshape(-1, 3) - wanted).sum(axis=1).min() < 20


@pytest.mark.fast
def test_nothing_is_left_of_an_example_that_is_gone():
    names = {path.stem for path in SCRIPTS}
    assert {path.stem for path in GALLERY.glob("*.md")} == names | {"index"}
    assert {path.stem for path in (DOCS / "figures" / "gallery").glob("*")} == names


@pytest.mark.fast
def test_the_hook_puts_the_script_in_place_of_the_link():
    hook = runpy.run_path(str(DOCS / "gallery_pages.py"))

    class Page:
        class file:
            src_uri = "gallery/chaos.md"
            abs_src_path = str(GALLERY / "chaos.md")

    markdown = hook["on_page_markdown"]((GALLERY / "chaos.md").read_text(), Page)
    assert "(chaos.py)" not in markdown and "**What to look at.**" in markdown
    assert "[`slowpoints.coverage`][slowpoints.coverage]" in markdown
    assert '```{.python title="chaos.py"}\nimport sys' in markdown
    assert markdown.count("```") == 2
    Page.file.src_uri = "guide/points.md"
    assert hook["on_page_markdown"]("[text](chaos.py)", Page) == "[text](chaos.py)"


# How many axes each figure has, and labels in its legends.
SHOWN = {
    "chaos": (2, {"trajectories", "fixed points"}),
    "context_integration": (2, {"line attractor", "selection vector"}),
    "decision_circuit": (2, {"stable fixed point", "saddle, index 1"}),
    "deep_equilibrium": (2, set()),
    "flip_flop": (
        1,
        {
            "stable fixed point (8)",
            "saddle, index 1 (12)",
            "saddle, index 2 (6)",
            "saddle, index 3 (1)",
            "unstable eigenvectors",
        },
    ),
    "hopfield": (
        1,
        {
            "stored pattern (6)",
            "stable fixed point (14)",
            "saddle, index 1 (24)",
            "saddle, index 2 (12)",
            "repeller, index 3 (1)",
        },
    ),
    "input_sweep": (1, {"stable", "index 1", "index 2", "fold (14)", "input rises", "input falls"}),
    "limit_cycle": (4, set()),
    "low_rank": (2, {"saddle, index 1 (2)", "repeller, index 2 (1)"}),
    "phase_memory": (2, {"input", "memory A", "memory B", "memory C", "saddle"}),
    "relu_enumeration": (4, {"missed by the search"}),
    "ring_attractor": (2, {"perfect weights", "random ones added", "stable", "saddle"}),
    "torch_gru": (1, {"stable fixed point (4)"}),
}


def legends(fig):
    found = [ax.get_legend() for ax in fig.axes] + fig.legends
    return {text.get_text() for legend in found if legend for text in legend.get_texts()}


@pytest.mark.slow
@pytest.mark.checks_input  # as users run it, without the type checker of these tests
@pytest.mark.parametrize(
    "script",
    [
        pytest.param(path, marks=() if path.stem in QUICK else pytest.mark.exhaustive)
        for path in SCRIPTS
    ],
    ids=lambda path: path.stem,
)
def test_a_script_checks_its_claims_and_draws_its_figure(script, tmp_path, monkeypatch):
    if script.stem == "torch_gru":
        pytest.importorskip("torch")
    monkeypatch.setattr(sys, "argv", [str(script), str(tmp_path / "figure.png")])
    with matplotlib.rc_context():
        run = runpy.run_path(str(script), run_name="__main__")  # which has assertions of its own
        from matplotlib import pyplot as plt

        plt.close("all")
    n_axes, labels = SHOWN[script.stem]
    fig = run["fig"]
    drawn = [ax for ax in fig.axes if ax.has_data() or ax.get_label() == "<colorbar>"]
    assert len(drawn) == n_axes
    assert labels <= legends(fig)
    pixels = np.asarray(Image.open(tmp_path / "figure.png").convert("L"))
    assert pixels.shape[1] >= 600 and np.mean(pixels < 250) > 0.01  # not an empty canvas
