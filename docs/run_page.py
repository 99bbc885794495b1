"""Run the Python of a page in the order of the page and in one namespace, as in a notebook.

    python docs/run_page.py docs/guide/points.md

prints what each block prints. The site's build runs each page so, in a process of its own
(`run_alone`), and puts what a block prints, and the figure that its last line evaluates to, below
the block. A block that fails ends the run with its traceback.

Blocks of Python start with a line "```python". Code that is to be shown but not run goes into a
block of another kind, such as "```py" or "```sh".
"""

import argparse
import ast
import base64
import contextlib
import html
import io
import multiprocessing
import os
import re
import sys
import traceback
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path

BLOCK = re.compile(r"^(?P<indent> *)```python\n(?P<code>.*?)^(?P=indent)```$", re.M | re.S)
_CSS_PIXELS_PER_INCH = 96
_DOTS_PER_PIXEL = 2  # so that figures are sharp on the screens of phones and laptops
_COLORS = 256  # which takes a third of the bytes, and looks the same
# What most pages import, and what takes long. None of it starts a thread of JAX.
_IMPORTED = (
    "jax",
    "matplotlib.pyplot",
    "PIL.Image",
    "scipy.stats",
    "sklearn.decomposition",
    "slowpoints._finder.fixed_point_finder",
    "slowpoints._plots.fixed_points",
    "torch",
)


def blocks(markdown):
    """Return the code of each block, below as many empty lines as precede it on the page.

    The lines in tracebacks are therefore those of the page.
    """
    found = []
    for block in BLOCK.finditer(markdown):
        code = "".join(
            line.removeprefix(block["indent"]) for line in block["code"].splitlines(True)
        )
        found.append("\n" * markdown.count("\n", 0, block.start("code")) + code)
    return found


def run(markdown, filename):
    """Run all blocks, and return what each printed and its figure as HTML, or None."""
    namespace = {"__name__": "__main__"}
    results = []
    for code in blocks(markdown):
        text, value = _execute(code, filename, namespace)
        figure = _image(value) if hasattr(value, "savefig") else None
        turns = _that_turns(value) if hasattr(value, "to_html") else None
        results.append({"text": text.strip("\n"), "figure": figure, "turns": turns})
    return results


def _execute(code, filename, namespace):
    """Return what `code` prints, and the value of its last line if that is an expression."""
    printed = io.StringIO()
    tree = ast.parse(code, filename)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, filename, "exec"), namespace)
        if last is None:
            return printed.getvalue(), None
        value = eval(compile(ast.Expression(last.value), filename, "eval"), namespace)
    return printed.getvalue(), value


def _that_turns(fig):
    """Return a page of HTML that holds a figure of Plotly; its script is a file of the site."""
    return fig.to_html(include_plotlyjs="plotly.min.js", config={"displaylogo": False})


def _image(fig):
    """Return HTML that holds the figure itself, so that a page needs no other files."""
    from PIL import Image

    drawn, file = io.BytesIO(), io.BytesIO()
    dots_per_inch = _CSS_PIXELS_PER_INCH * _DOTS_PER_PIXEL
    fig.savefig(drawn, format="png", dpi=dots_per_inch, bbox_inches="tight")
    image = Image.open(drawn).convert("RGB")
    image.quantize(_COLORS, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    titles = fig.get_suptitle() or "; ".join(filter(None, (ax.get_title() for ax in fig.axes)))
    alt = html.escape(titles.replace("\n", " ") or "Figure drawn by the code above")
    data = base64.b64encode(file.getvalue()).decode()
    width = image.width // _DOTS_PER_PIXEL
    return f'<img alt="{alt}" width="{width}" src="data:image/png;base64,{data}">'


def prepare(page, core=None):
    """Choose, before JAX starts, how a page's programs are compiled and on which core they run.

    Most of a page's time is compilation, of which a third goes without fusion emitters (from 0.11
    on there is no such choice), and half of the rest without optimisations. Tutorials train
    networks, which optimisations make faster.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11):
        flags += " --xla_cpu_use_fusion_emitters=false"
    if "tutorials" not in page.parts:
        flags += " --xla_backend_optimization_level=0"
    os.environ["XLA_FLAGS"] = flags
    if core is not None and hasattr(os, "sched_setaffinity"):  # of Linux
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[core % len(cores)]})


def run_alone(page, core):
    """Run a page in a new process, and return its results, or the text of what went wrong.

    Pages that run side by side take a sixth less time if each keeps to a core of its own, and three
    seconds less if what they import is there already: new processes come from one that holds it.
    """
    if (folder := str(Path(__file__).parent)) not in sys.path:  # where the process finds this file
        sys.path.append(folder)
    forks = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if forks else "spawn")
    if forks:
        context.set_forkserver_preload(list(_IMPORTED))
    with ProcessPoolExecutor(1, context) as pool:
        try:
            return pool.submit(_run_here, page.resolve(), core).result()
        except Exception:  # the process was ended by something else
            return traceback.format_exc()


def _run_here(page, core):
    os.chdir(Path(__file__).parents[1])  # from where pages name files
    prepare(page, core)
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        try:
            return run(page.read_text(encoding="utf-8"), str(page))
        except BaseException:
            traceback.print_exc()
    return errors.getvalue().strip()


def main():
    """Run one page, and print its results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path)
    page = parser.parse_args().page
    os.environ.setdefault("MPLBACKEND", "Agg")  # before a block imports Matplotlib
    prepare(page)
    for result in run(page.read_text(encoding="utf-8"), str(page)):
        print(result["text"] + ("\n[figure]" if result["figure"] else ""))


if __name__ == "__main__":
    main()
