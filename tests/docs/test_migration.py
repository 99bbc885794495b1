"""The page for users of other finders says what is true: its blocks run, in one namespace.

Those that import PyTorch, which the documentation is built without, run here if it is installed.
"""

import ast
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from model_checks import fast_compilation as fast_compilation

PAGE = Path(__file__).parents[2] / "docs" / "migration.md"
BLOCKS = re.findall(r"^```(python|py)\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
OTHERS = ("FixedPointFinderTorch", "plot_utils")


def imported(code):
    nodes = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)]
    plain = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Import)]
    return {node.module for node in nodes} | {a.name for node in plain for a in node.names}


@pytest.mark.slow
def test_the_blocks_run_one_after_another(capsys):
    namespace = {"__name__": "migration"}
    printed = []
    for kind, code in BLOCKS:
        names = imported(code)
        if names & set(OTHERS):
            assert kind == "py"  # the code of before, which no build may run
            continue
        if "torch" in names and find_spec("torch") is None:
            continue
        exec(compile(code, str(PAGE), "exec"), namespace)
        printed.append(capsys.readouterr().out)
    assert namespace["unique_fps"].n > 0
    told = "".join(printed)
    # BrainPy's finder, its translation, and the search from SciPy's ends agree.
    assert told.count("3 points, Jacobians (3, 8, 8)") == 2 and "\n3 points; " in told


def test_code_of_other_finders_is_shown_and_not_run():
    assert sum(bool(imported(code) & set(OTHERS)) for _, code in BLOCKS) == 1
