"""The page on validation names tests that exist, so that no number on it is without one."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.fast

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "validation.md"
TEXT = PAGE.read_text()
ENTRIES = re.findall(r"^\*\*.+?(?=\n\n(?:\*\*|## ))", TEXT, re.M | re.S)
every_entry = pytest.mark.parametrize(
    "entry", ENTRIES, ids=lambda entry: entry.strip("*").split("**")[0]
)


@cache
def marks_of_tests(name):
    """Return the tests of a file, each with the words of its decorators."""
    tree = ast.parse((TESTS / name).read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return {node.name: " ".join(map(ast.unparse, node.decorator_list)) for node in functions}


@every_entry
def test_an_entry_names_tests_that_exist(entry):
    named = re.findall(r"`tests/([\w/]+\.py)::(\w+)`", entry)
    assert named
    for file, test in named:
        assert test.startswith("test_") and test in marks_of_tests(file)


def test_entries_are_found_and_no_test_is_named_outside_of_them():
    assert len(ENTRIES) > 30
    in_entries = len(re.findall(r"`tests/[\w/]*test_", "\n".join(ENTRIES)))
    assert in_entries == len(re.findall(r"`tests/[\w/]*test_", TEXT)) > len(ENTRIES)


@every_entry
def test_an_entry_says_if_a_test_of_it_is_slow(entry):
    for file, test in re.findall(r"`tests/([\w/]+\.py)::(\w+)`", entry):
        all_are = "pytestmark = pytest.mark.slow" in (TESTS / file).read_text()
        this_is = re.search(r"(^| )pytest\.mark\.slow( |$)", marks_of_tests(file)[test])
        assert not (all_are or this_is) or re.search(r"\*slow", entry, re.I)


@every_entry
def test_an_entry_says_if_only_a_part_of_a_test_is_run_without_being_asked_for(entry):
    for file, test in re.findall(r"`tests/([\w/]+\.py)::(\w+)`", entry):
        is_in_part = re.search(r"one_in|exhaustive", marks_of_tests(file)[test])
        assert not is_in_part or re.search(r"\*slow,\sin part", entry, re.I)
