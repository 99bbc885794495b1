"""The documentation is whole: every public name, every page, every link. Needs no MkDocs."""

import ast
import inspect
import pickle
import re
import runpy
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import slowpoints

pytestmark = pytest.mark.fast

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


def public_names():
    """Return what `slowpoints/__init__.pyi` lists: `from ... import name as name`."""
    tree = ast.parse(Path(slowpoints.__file__).with_suffix(".pyi").read_text())
    imports = [part for part in tree.body if isinstance(part, ast.ImportFrom)]
    names = [alias.asname or "_" for node in imports for alias in node.names]
    return [name for name in names if not name.startswith("_") and name != "solvers"]  # a module


@cache
def documented():
    """Return the identifiers that the reference pages render."""
    pages = (DOCS / "reference").glob("*.md")
    return re.findall(r"^::: (\S+)$", "\n".join(page.read_text() for page in pages), re.M)


@cache
def prose(page):
    """Return the page without its blocks of code."""
    return re.sub(r"^( *)```.*?^\1```$", "", page.read_text(), flags=re.M | re.S)


@cache
def anchors(page):
    """Return the ids that Python-Markdown gives to the page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    slugs = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings)
    return {re.sub(r"[-\s]+", "-", slug) for slug in slugs}


def resolve(identifier):
    value = slowpoints
    for name in identifier.split(".")[1:]:
        value = getattr(value, name)
    return value


def test_the_package_exports_names():
    assert {"q_fn", "FixedPoints", "FixedPointFinder"} <= set(public_names())


@pytest.mark.parametrize("name", public_names())
def test_every_public_name_is_in_the_reference_once(name):
    assert documented().count(f"slowpoints.{name}") == 1


def test_the_source_of_every_public_object_is_found_and_classes_are_pickled():
    for where in (slowpoints, slowpoints.solvers):
        values = [getattr(where, name) for name in dir(where) if name[0] != "_"]
        own = [value for value in values if getattr(value, "__module__", "")[:10] == "slowpoints"]
        assert len(own) > 8
        for value in own:
            assert re.search(rf"^(class|def) {value.__name__}\b", inspect.getsource(value), re.M)
            assert pickle.loads(pickle.dumps(value)) is value


def test_every_public_name_is_there_at_first_use():
    exported = set(slowpoints.__all__)
    assert sorted(exported) == sorted([*public_names(), "solvers"])
    assert exported <= set(dir(slowpoints))
    for name in exported:
        assert getattr(slowpoints, name).__name__.rpartition(".")[2] == name
    with pytest.raises(AttributeError, match=r"slowpoints.* attribute '?no_such_name"):
        slowpoints.no_such_name  # noqa: B018


@pytest.mark.slow
def test_nothing_is_loaded_before_it_is_used():
    # In a process of its own, since here everything has been loaded.
    program = """if True:
        import sys, slowpoints
        assert "jax" not in sys.modules
        slowpoints.find_fixed_points
        later = ("slowpoints._modes.", "slowpoints._continuation.")
        later += ("brainpy", "sklearn", "matplotlib", "scipy", "tqdm")
        assert not any(name.startswith(later) for name in sys.modules)
    """
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_reference_has_only_names_that_exist():
    for identifier in documented():
        assert resolve(identifier).__doc__, identifier


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<code>q</code>", "<code>q</code>"),
        ("<code>find_fixed_points</code>", '<code class="name">find_<wbr>fixed_<wbr>points</code>'),
        ("<code>a_long(name, of_two)</code>", "<code>a_<wbr>long(<wbr>name, of_<wbr>two)</code>"),
        (
            "<code>test_a.py::test_b_c</code>",
            '<code class="name">test_<wbr>a.<wbr>py::<wbr>test_<wbr>b_<wbr>c</code>',
        ),
        (
            "<code>Finder(coverage=0.99)</code>",
            '<code class="name">Finder(<wbr>coverage=<wbr>0.99)</code>',
        ),
        ("<code>--noise-scale</code>", '<code class="whole">--noise-scale</code>'),
        ("<p>up to 13.5 x</p>", "<p>up to 13.5&nbsp;x</p>"),
        ("<p>in 3 steps</p>", "<p>in 3 steps</p>"),
        ('<img alt="a" width="640" src="b">', '<img class="wide" alt="a" width="640" src="b">'),
        ('<img alt="a" width="639" src="b">', '<img alt="a" width="639" src="b">'),
        (
            '<math display="inline"><mi>q</mi></math>, and',
            '<span class="whole"><math display="inline"><mi>q</mi></math>,</span> and',
        ),
        (
            '<math display="inline"></math> of <math display="inline"></math>.',
            '<math display="inline"></math> of '
            '<span class="whole"><math display="inline"></math>.</span>',
        ),
        ("<td>11.7 ms</td>", '<td class="short">11.7&nbsp;ms</td>'),
        ("<td>as many words as this</td>", "<td>as many words as this</td>"),
        ('<th style="x"><code>q</code></th>', '<th style="x" class="short"><code>q</code></th>'),
        (
            "<pre><span></span><code>find_fixed_points 3 s</code></pre>",
            "<pre><span></span><code>find_fixed_points 3 s</code></pre>",
        ),
    ],
)
def test_lines_of_pages_break_where_readers_expect_it(before, after):
    assert runpy.run_path(str(DOCS / "line_breaks.py"))["on_post_page"](before) == after


X, TANH, MINUS = "<mi>a</mi>", "<mi>tanh</mi>", "<mo>\N{MINUS SIGN}</mo>"
PREFIX = '"prefix"'
THIN = '<mspace width="0.167em" />'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (f"{X}{TANH}<mo>(</mo>", f"{X}{THIN}{TANH}<mo>(</mo>"),
        (f"{TANH}{X}", f"{TANH}{THIN}{X}"),
        (f"<mo>=</mo>{TANH}<mo>(</mo>", f"<mo>=</mo>{TANH}<mo>(</mo>"),
        (f"<msub>{X}<mi>max</mi></msub>", f"<msub>{X}<mi>max</mi></msub>"),
        (f"<mn>1</mn>{MINUS}<mo>rank</mo>", f"<mn>1</mn>{MINUS}<mi>rank</mi>"),
        (f"<mo>=</mo>{MINUS}{X}", f"<mo>=</mo>{MINUS[:3]} form={PREFIX}{MINUS[3:]}{X}"),
        (f"<mo>)</mo>{MINUS}{X}", f"<mo>)</mo>{MINUS}{X}"),
        (f"<mn>1</mn><mi>±</mi>{X}", f"<mn>1</mn><mo>±</mo>{X}"),
    ],
)
def test_formulas_are_spaced_as_in_print(before, after):
    spaced = runpy.run_path(str(DOCS / "mathml_spacing.py"))["spaced"]
    head = '<math xmlns="http://www.w3.org/1998/Math/MathML" display="inline">'
    assert spaced(f"{head}<mrow>{before}</mrow></math>") == f"{head}<mrow>{after}</mrow></math>"


CITATION = re.compile(
    r"((?:[A-Z][\w-]+(?:, | & ))*[A-Z][\w-]+)(?: et al\.)?,? \(?((?:19|20)\d\d)\b"
)


def test_every_paper_that_the_reference_cites_is_in_its_literature():
    literature = (DOCS / "reference" / "literature.md").read_text()
    entries = re.findall(r"^- (.+?) \((\d{4})\)", literature, re.M)
    assert entries == sorted(entries, key=lambda entry: entry[0].replace("&", "").lower())
    cited = set()
    for name in documented():
        value = resolve(name)
        parts = [value, *(vars(value).values() if inspect.isclass(value) else ())]
        texts = [inspect.getdoc(part) or "" for part in parts if hasattr(part, "__doc__")]
        cited |= {found for text in texts for found in CITATION.findall(" ".join(text.split()))}
    assert len(cited) > 20
    for names, year in cited:
        first = re.split(", | & ", names)[0]
        assert any(authors.startswith(first) and y == year for authors, y in entries), (names, year)


def test_the_places_where_to_add_something_exist():
    page = (DOCS / "architecture.md").read_text()
    rooms, where = page.split("## Where to add")
    table = re.findall(r"^\| (`_.+?) \|", rooms, re.M)
    listed = {name.rstrip("/") for cell in table for name in re.findall(r"`(\S+?)`", cell)}
    package = Path(slowpoints.__file__).parent
    there = {path.name for path in package.iterdir() if path.suffix not in (".pyi", ".typed")}
    assert listed == there - {"__init__.py", "__pycache__", "py.typed"}
    places = re.findall(r"`((?:_|slowpoints/|tests/)[\w./]+?/?)`", page)
    assert len(places) > 20
    for place in places:
        root = DOCS.parent if place.startswith(("slowpoints/", "tests/")) else package
        assert (root / place).exists(), place
    assert where.count("\n- **") >= 6


def test_every_page_is_in_the_navigation():
    navigation = (DOCS.parent / ".mkdocs.yml").read_text()
    listed = re.findall(r"[\w/]+\.md", navigation)
    assert sorted(listed) == sorted(page.relative_to(DOCS).as_posix() for page in PAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_links_lead_somewhere(page):
    text = re.sub(r"`[^`\n]*`", "code", prose(page))
    for target in re.findall(r"\]\((?!\w+:)([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.is_file(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(linked), f"{page.name} links to {target}"
    for identifier in re.findall(r"\]\[(slowpoints\.[\w.]+)\]", text):
        owner = identifier.rpartition(".")[0]
        assert identifier in documented() or owner in documented(), identifier
        assert resolve(identifier) is not None
