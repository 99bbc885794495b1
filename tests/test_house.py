"""The package stays readable: short rooms, files and functions, and one way for all rows."""

import ast
import pickle
from pathlib import Path

import jax.numpy as jnp
import pytest

import slowpoints
from slowpoints._network.comparable import Identity
from slowpoints._network.torch_graphs.program import TorchProgram

pytestmark = pytest.mark.fast

PACKAGE = Path(slowpoints.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
ROOMS = sorted({path.parent for path in FILES} - {PACKAGE})

LONG = {
    "_intervals/rules.py": "a table: a rule for each of JAX's operations",
    "_network/torch_graphs/aten.py": "a table: a rule for each of PyTorch's operations",
    "_points/fixed_points.py": "one class, more than half of it documentation",
    "_finder/fixed_point_finder.py": "one class, more than half of it documentation",
}


def name_of(path):
    return path.relative_to(PACKAGE).as_posix()


def n_lines(path):
    return len(path.read_text().splitlines())


@pytest.mark.parametrize("room", ROOMS, ids=name_of)
def test_a_room_has_at_most_2500_lines_and_says_what_it_is(room):
    assert sum(map(n_lines, room.glob("*.py"))) <= 2500
    assert len(ast.get_docstring(ast.parse((room / "__init__.py").read_text())) or "") > 40


def test_files_have_at_most_400_lines():
    assert {name_of(path) for path in FILES if n_lines(path) > 400} == set(LONG)


def test_functions_have_at_most_60_lines_of_code():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                text = ast.get_docstring(node, clean=False) or ""
                n_code = node.end_lineno - node.lineno + 1 - text.count("\n") - bool(text)
                assert n_code <= 60, f"{name_of(path)}: {node.name}"


def step(x, u):
    return jnp.tanh(x + u)


def test_pickles_of_earlier_versions_find_their_classes():
    twice = slowpoints.iterate(step, 2)
    now = pickle.dumps(twice, protocol=0)  # which writes names of modules as text
    before = now.replace(b"slowpoints._network.frameworks", b"slowpoints._transition.models")
    before = before.replace(b"slowpoints._network.iterate", b"slowpoints._transition.iterates")
    assert before.count(b"slowpoints._transition") == now.count(b"slowpoints._network") == 3
    loaded = pickle.loads(before)
    assert type(loaded) is type(twice) and loaded.F.__class__ is twice.F.__class__
    assert loaded(jnp.ones(1), jnp.ones(1)) == twice(jnp.ones(1), jnp.ones(1))
    with pytest.raises(ModuleNotFoundError):
        pickle.loads(before.replace(b"iterates", b"no_such_room"))


def test_classes_that_were_renamed_are_found_in_pickles_of_earlier_versions():
    torch_program = pickle.loads(b"cslowpoints._transition.models.torch_program\nProgram\n.")
    assert torch_program is TorchProgram
    assert pickle.loads(b"cslowpoints._transition.program\nIdentity\n.") is Identity


@pytest.mark.slow
def test_rows_go_one_way(monkeypatch):
    monkeypatch.syspath_prepend(PACKAGE.parent / "docs" / "figures")
    pytest.importorskip("grimp")
    from rooms import way_of_the_rows

    stays = way_of_the_rows()
    assert 4 <= len(stays) <= 8
    assert stays[0].functions[0] == "find_fixed_points"
    functions = [name for stay in stays for name in stay.functions]
    order = ["check_rows", "optimize_batch", "unique", "select", "account"]
    assert [name for name in functions if name in order] == order
    assert len(frozenset().union(*(stay.names for stay in stays))) <= 8
