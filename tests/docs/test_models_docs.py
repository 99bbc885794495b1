"""The page about models says what is true: its blocks run, where their framework is installed."""

import ast
import re
from pathlib import Path

import pytest
from model_checks import fast_compilation as fast_compilation

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
TEXT = PAGE.read_text() if PAGE.is_file() else ""  # docs may be left out of an installation
BLOCKS = [
    (TEXT.rfind("\n#", 0, block.start()), block["code"])
    for block in re.finditer(r"^```python\n(?P<code>.*?)^```$", TEXT, re.M | re.S)
]


def title(block):
    return TEXT[block[0] :].split("\n")[1].strip("# ")


def frameworks(code):
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.one_in(4)
@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS, ids=title)
def test_a_block_runs(block, capsys):
    for name in frameworks(block[1]):
        pytest.importorskip(name, reason=f"{name} is not installed (see the extras)")
    namespace = {}
    exec(compile(block[1], str(PAGE), "exec"), namespace)
    assert namespace["fps"].n > 0


def test_every_framework_has_a_block():
    found = {name.split(".")[0] for block in BLOCKS for name in frameworks(block[1])}
    assert {"brainpy", "brainstate", "equinox", "flax", "keras", "torch"} <= found
