"""What is said of speed is what the stored benchmarks say, and names the packages it is about."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = (ROOT / "docs" / "benchmarks.md").read_text()
FRONT = {name: (ROOT / name).read_text() for name in ("README.md", "docs/index.md")}
PACKAGES = {"SciPy hybr": "SciPy's `hybr`", "Optimistix LM": "Optimistix' Levenberg-Marquardt"}
NUMBER_WORDS = {6: "six", 7: "seven", 8: "eight", 9: "nine"}

pytestmark = pytest.mark.fast


def table(title):
    """Return the rows of the last table under a title that compares with a fastest package."""
    section = BENCHMARKS.partition(f"### {title}\n")[2].partition("\n### ")[0]
    rows = re.findall(r"^\|(.+)\|$", section, re.M)
    cells = [[cell.strip() for cell in row.split("|")] for row in rows]
    return [row for row in cells if row[-1].endswith(" x")]


FIELD = table("Networks as laboratories train them")
RATIOS = [float(row[-1].removesuffix(" x")) for row in FIELD]


@pytest.mark.parametrize("page", FRONT)
def test_the_front_pages_say_how_fast_compared_with_what(page):
    text = " ".join(FRONT[page].split())
    (claim,) = re.findall(r"[^.]*(?:\.\d[^.]*)*times as long(?:[^.]|\.\w)*", text)
    assert f"{min(RATIOS)} to {max(RATIOS)} times as long" in claim
    assert {row[-2] for row in FIELD} == set(PACKAGES)
    assert all(package in claim for package in PACKAGES.values())
    networks = {row[0].partition(",")[0] for row in FIELD}
    assert f"{NUMBER_WORDS[len(networks)]} networks" in claim
    assert "python -m tests.benchmarks field" in claim
    assert "canns, BrainPy and FixedPointFinder for PyTorch were compared on flip-flops" in text
    assert not re.search(r"times (as fast|faster)", text)  # than what?


def test_units_of_the_networks_are_those_that_are_named():
    units = [int(re.search(r"_(\d+)_s\d+", row[0])[1]) for row in FIELD]
    assert f"of {min(units)} to {max(units)} units" in FRONT["README.md"]


def test_what_is_read_from_the_flip_flops_is_in_their_table():
    of_16 = [row for row in table("Beside other tools") if row[0].endswith(" 16")]
    assert all(row[2].startswith("Optimistix LM: ") for row in of_16)
    ratios = [float(row[-1].removesuffix(" x")) for row in of_16]
    said = re.search(r"Optimistix,\s+takes (\d+) to (\d+) times as long", BENCHMARKS)
    assert [int(said[1]), int(said[2])] == [round(min(ratios)), -int(-max(ratios) // 1)]
