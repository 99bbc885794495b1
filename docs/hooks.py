"""MkDocs hooks of this site: the pages' Python, mathematics, and nothing from other hosts.

Every block of Python on a page runs while the site is built (`run_page.py`), each page in a process
of its own and two pages at a time. What a block prints, and the figure that its last line evaluates
to, follow it. A block that fails, fails the build. Results are kept in a folder that git ignores,
and used again while neither the page's Python nor the package has changed.

LaTeX between dollar signs becomes MathML, which browsers set without any JavaScript.
"""

import hashlib
import html
import itertools
import json
import logging
import os
import re
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import latex2mathml.converter
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))
import mathml_spacing  # noqa: E402
import run_page  # noqa: E402

log = logging.getLogger("mkdocs.hooks")

# "no" runs no Python, for work on layout and text: pages show the results of an earlier build.
RUN = os.environ.get("DOCS_RUN", "yes") != "no"
RESULTS = Path(os.environ.get("DOCS_RESULTS", DOCS.parent / ".cache" / "docs"))
PAGES_AT_A_TIME = 2
LINE_LENGTH = 100  # of printed sentences, which fits into a page

# Pages with code for several processes or other machines, and without code that is for readers.
_NOT_RUN = {"benchmarks.md", "scaling.md", "changelog.md", "contributing.md"}
_RUN_FIRST = ("tutorials/", "models", "howto/figures", "guide/")  # they take longest
_REMOTE_ASSET = re.compile(
    r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=\"?(?:https?:)?//[^>]*>"
)
_BAR = re.compile(r"\\(?:l|(r))[vV]ert\b")
_PRINTED = re.compile(r"^```text$", re.M)  # what commands print, which do not run here
_MATHEMATICS = re.compile(r'<(span|div) class="arithmatex">(.*?)</\1>', re.S)

_results = {}  # by page, as `run_page.run` returns them
_thread = threading.local()  # the number of the core on which its pages run


def on_files(files, config):
    """Run the Python of all pages, unless its results are known."""
    _results.clear()
    _results.update(
        (file.src_uri, _known_results(file.src_uri, file.content_string))
        for file in files.documentation_pages()
        if file.src_uri not in _NOT_RUN and run_page.blocks(file.content_string)
    )
    missing = [page for page, results in _results.items() if results is None]
    if missing and not RUN:
        log.warning("The Python of these pages was not run: %s", ", ".join(missing))
    missing.sort(key=lambda page: not page.startswith(_RUN_FIRST))
    os.environ.update({"MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})
    cores = itertools.count()

    def take_a_core():
        _thread.core = next(cores)

    with ThreadPoolExecutor(PAGES_AT_A_TIME, initializer=take_a_core) as threads:
        runs = {page: threads.submit(_run, page) for page in missing if RUN}
    if failures := [str(error) for run in runs.values() if (error := run.exception())]:
        raise PluginError("\n\n".join(failures))
    _results.update((page, run.result()) for page, run in runs.items())
    _add_figures_that_turn(files, config)
    return files


def _add_figures_that_turn(files, config):
    """Add figures of Plotly as pages of their own, which are loaded when they come into sight."""
    turning = False
    for page, results in _results.items():
        for number, result in enumerate(results or ()):
            if result.get("turns"):
                up = "../" * page.count("/")
                content = result["turns"].replace('src="plotly', f'src="{up}plotly')
                name = page.replace(".md", f"-figure-{number}.html")
                files.append(File.generated(config, name, content=content))
                frame = f'<iframe class="turns" loading="lazy" src="{Path(name).name}"'
                result["figure"] = f'{frame} title="The figure, which can be turned"></iframe>'
                turning = True
    if turning:
        from plotly.offline import get_plotlyjs

        files.append(File.generated(config, "plotly.min.js", content=get_plotlyjs()))


def _known_results(page, markdown):
    """Return the results of this Python with this version of the package, or None.

    Where pages are not to be run, results of an earlier version will do.
    """
    place = _place(page)
    if not place.is_file():
        return None
    known = json.loads(place.read_text(encoding="utf-8"))
    return known["results"] if known["digest"] == _digest(markdown) or not RUN else None


def _run(page):
    """Return the results of a page, run in a new process, and keep them."""
    results = run_page.run_alone(DOCS / page, _thread.core)
    if isinstance(results, str):
        raise PluginError(f"{page}: a block failed.\n{results}")
    log.info("Ran the Python of %s", page)
    known = {"digest": _digest((DOCS / page).read_text(encoding="utf-8")), "results": results}
    _place(page).parent.mkdir(parents=True, exist_ok=True)
    _place(page).write_text(json.dumps(known), encoding="utf-8")
    return results


def _place(page):
    return RESULTS / page.replace("/", "-").replace(".md", ".json")


def _digest(markdown):
    """Return what changes with a page's Python, with the package, and with what it is built on."""
    digest = hashlib.sha256()
    for part in (*run_page.blocks(markdown), *map(version, ("jax", "numpy", "matplotlib"))):
        digest.update(part.strip().encode() + b"\0")  # wherever on the page it is
    sources = *sorted(DOCS.parent.glob("slowpoints/**/*.py")), *sorted(DOCS.glob("data/*"))
    for source in (*sources, DOCS / "run_page.py"):
        digest.update(source.read_bytes() + b"\0")
    return digest.hexdigest()


def on_page_markdown(markdown, page, **kwargs):
    """Put below each block of Python what it printed and drew."""
    results = iter(_results.get(page.file.src_uri) or ())

    def with_result(block):
        result = next(results, None)
        if result is None:
            return block[0]
        text = block[0]
        if result["text"].strip():
            printed = [part for line in result["text"].splitlines() for part in _wrapped(line)]
            lines = ["", "```{.text .output}", *printed, "```"]
            text += "".join(f"\n{block['indent']}{line}".rstrip(" ") for line in lines)
        if result["figure"]:
            text += f"\n\n{result['figure']}\n"  # not indented, so outside a folded box
        return text

    markdown = _PRINTED.sub("```{.text .output}", markdown)
    return run_page.BLOCK.sub(with_result, markdown)


def _wrapped(line):
    """Return a long sentence as several lines, as a terminal would; rows of tables stay."""
    if len(line) <= LINE_LENGTH or "  " in line.strip():
        return [line]
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.wrap(line, LINE_LENGTH, subsequent_indent=indent + "  ", break_on_hyphens=False)


def on_page_content(content, page, **kwargs):
    """Turn LaTeX, as `pymdownx.arithmatex` marks it, into MathML."""

    def typeset(found):
        latex = html.unescape(found[2]).strip()[2:-2].strip()  # without \( and \), or \[ and \]
        # latex2mathml takes a bar for a fence only after \left or \right, and does not know \arg.
        known = _BAR.sub(lambda bar: (r"\right" if bar[1] else r"\left") + bar[0], latex)
        known = known.replace(r"\arg", r"\operatorname{arg}")
        display = "block" if found[1] == "div" else "inline"
        mathml = latex2mathml.converter.convert(known, display=display)
        if "\\" in mathml:
            log.warning("%s: not all of this LaTeX is known: %s", page.file.src_uri, latex)
        return mathml_spacing.spaced(mathml)

    return _MATHEMATICS.sub(typeset, content)


def on_post_page(output, page, **kwargs):
    """Warn where a page would make a reader's browser fetch something from another host."""
    for tag in _REMOTE_ASSET.findall(output):
        log.warning("%s loads %s", page.file.src_uri, tag)
