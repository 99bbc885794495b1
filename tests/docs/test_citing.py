"""The page on citing agrees with `CITATION.cff` and with the package, and its BibTeX is whole."""

import re
from pathlib import Path

import pytest

import slowpoints

pytestmark = pytest.mark.fast

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "citing.md").read_text()
CFF = (DOCS / "CITATION.cff").read_text()
ENTRIES = dict(re.findall(r"^@\w+\{(\w+),\n(.*?)^\}$", PAGE, re.M | re.S))


def field(entry, name):
    value = re.search(rf"^  {name} *= \{{(.*?)\}},?$", ENTRIES[entry], re.M | re.S)[1]
    return re.sub(r"\s+", " ", value.replace("{", "").replace("}", ""))


def test_every_entry_is_read_and_its_braces_are_balanced():
    assert len(ENTRIES) == PAGE.count("\n@") > 8
    for text in ENTRIES.values():
        assert text.count("{") == text.count("}")


def test_the_software_is_that_of_the_citation_file():
    assert field("slowpoints", "version") == slowpoints.__version__
    for name, line in (("title", "title"), ("note", "abstract"), ("license", "license")):
        assert field("slowpoints", name) == re.search(rf"^{line}: (.+)$", CFF, re.M)[1].rstrip(".")
    assert f"name: {field('slowpoints', 'author')}\n" in CFF


def test_the_paper_is_that_of_the_citation_file():
    for name, line in (("title", "title"), ("journal", "journal"), ("doi", "doi")):
        assert re.search(rf'^ +{line}: "?{re.escape(field("sussillo2013", name))}"?$', CFF, re.M)


def test_every_paper_that_the_table_names_has_an_entry():
    table = PAGE[PAGE.index("| if you used") : PAGE.index("## BibTeX")]
    named = re.findall(r"([A-Z]\w+)[^;|()]*\((\d{4})\)", table)
    assert len(named) > 7
    for first_author, year in named:
        assert f"{first_author.lower()}{year}" in ENTRIES
