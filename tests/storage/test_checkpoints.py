"""What checkpoints promise: all of a file in any instance of the class, or nothing and a reason."""

import importlib.util
import os
import pickle
import re
import subprocess
import sys
import warnings
from pathlib import Path

import brainpy as bp
import brainpy.math as bm
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from slowpoints._storage.checkpoints import OWN_ENTRY, load_checkpoint, save_checkpoint
from slowpoints._storage.variable_paths import variables_by_path


class Cell(bp.DynamicalSystem):
    """A weight and a bias."""

    def __init__(self, scale=0.0, n=3):
        super().__init__()
        self.w = bm.TrainVar(scale * jnp.arange(2.0 * n).reshape(2, n))
        self.b = bm.Variable(scale * jnp.ones(n))


class Everything(bp.DynamicalSystem):
    """Holds Variables in every way that BrainPy and Python offer."""

    def __init__(self, scale=0.0):
        super().__init__()
        training = bm.training_mode
        self.scalar = bm.Variable(jnp.asarray(scale))
        self.count = bm.Variable(jnp.full(3, int(scale)))
        self.flag = bm.Variable(jnp.asarray([scale > 0, False]))
        self.half = bm.Variable(jnp.full((2, 2), scale, jnp.bfloat16))
        self.phase = bm.Variable(jnp.full(2, scale * 1j))
        self.empty = bm.Variable(jnp.zeros((0, 3)))
        self.listed = bm.VarList([bm.Variable(jnp.full(i, scale)) for i in (1, 2)])
        self.named = bm.VarDict({"a": bm.Variable(jnp.full(4, scale))})
        self.in_python = {"cells": [Cell(scale), (Cell(2 * scale),)]}
        self.cells = bm.NodeList([Cell(scale), Cell(3 * scale)])
        self.group = bp.DynSysGroup(Cell(4 * scale), inner=Cell(5 * scale))
        self.chain = bp.Sequential(
            bp.dnn.Dense(2, 3, mode=training), bm.tanh, bp.dyn.GRUCell(3, 3, mode=training)
        )
        self.register_implicit_vars(bm.Variable(jnp.full(2, scale)), bm.Variable(jnp.ones(2)))
        self.register_implicit_nodes(Cell(6 * scale), extra=Cell(7 * scale))
        self.tied = self.cells[0].w
        self.parent = self  # a cycle
        self.cells[1].parent = self


class Plain(bp.DynamicalSystem):
    """Nested modules that `brainpy.save_state` covers, with two alike and a shared Variable."""

    def __init__(self, scale=0.0):
        super().__init__()
        self.decoder = Cell(2 * scale)
        self.encoder = Cell(scale)
        self.layers = bp.Sequential(Cell(3 * scale), bp.dnn.Flatten(), Cell(4 * scale))
        self.gains = bm.VarList([bm.Variable(jnp.full(2, scale))])
        self.tied = self.encoder.w


class Holder(bp.DynamicalSystem):
    """Has the Variables that it is given."""

    def __init__(self, **values):
        super().__init__()
        for name, value in values.items():
            setattr(self, name, value if isinstance(value, bm.Variable) else bm.Variable(value))


def everything_of(model):
    """The dtype, shape and bytes of all Variables, in an order that all instances share."""
    found = list(model.vars().unique().values())
    if isinstance(model, Everything):
        inner = model.in_python["cells"]
        found += [v for cell in (inner[0], inner[1][0]) for v in (cell.w, cell.b)]
    values = [np.asarray(variable.value) for variable in found]
    return [(value.dtype, value.shape, value.tobytes()) for value in values]


def assert_rejected(model, path, reason):
    """`load_checkpoint` is False, says why, and leaves the model as it is."""
    before = everything_of(model)
    with pytest.warns(UserWarning, match=reason) as caught:
        assert load_checkpoint(model, path) is False
    assert [repr(str(path)) in str(warning.message) for warning in caught] == [True]
    assert everything_of(model) == before


def write(path, tree):
    bp.checkpoints.save_pytree(str(path), tree, verbose=False)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.msgpack"


# What is saved comes back


@pytest.mark.slow
@pytest.mark.parametrize("model_class", [Everything, Plain, Cell])
def test_a_second_instance_loads_what_the_first_saved(model_class, path, capsys):
    saved, loaded = model_class(1.5), model_class()
    assert everything_of(saved) != everything_of(loaded)
    save_checkpoint(saved, path)
    assert load_checkpoint(loaded, path) is True
    assert everything_of(loaded) == everything_of(saved)
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
def test_a_new_process_loads_the_file_and_the_import_is_cheap(path):
    for save in (
        lambda model: save_checkpoint(model, path),
        lambda model: write(f"{path}.brainpy", bp.save_state(model)),
    ):
        save(Plain(1.5))
    program = f"""
import sys, warnings
import slowpoints
assert "brainpy" not in sys.modules
sys.path[:0] = {[str(Path(__file__).parents[k]) for k in (0, 1)]!r}
from test_checkpoints import Cell, Plain, everything_of
others = [Cell() for _ in range(3)]  # so that BrainPy's count differs
for file in ({str(path)!r}, {str(path) + ".brainpy"!r}):
    model = Plain()
    assert slowpoints.load_checkpoint(model, file) is True
    assert everything_of(model) == everything_of(Plain(1.5))
with warnings.catch_warnings(record=True) as caught:
    assert slowpoints.load_checkpoint(model, "missing") is False
assert [warning.filename for warning in caught] == ["<string>"]  # the caller's line
print("loaded")
"""
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, cwd=root
    )
    assert done.stdout == "loaded\n", done.stderr


@pytest.mark.slow
def test_loading_sets_the_variables_in_place_and_keeps_sharing(path):
    saved, loaded = Everything(1.5), Everything()
    variable = loaded.tied
    save_checkpoint(saved, path)
    assert load_checkpoint(loaded, path)
    assert loaded.tied is variable is loaded.cells[0].w
    np.testing.assert_array_equal(loaded.tied.value, saved.cells[0].w.value)


@pytest.mark.slow
def test_a_network_with_delays_and_an_optimiser_round_trips(path):
    class Network(bp.DynSysGroup):
        def __init__(self):
            super().__init__()
            self.pre = bp.dyn.LifRef(4, V_initializer=bp.init.Normal(-55.0, 2.0))
            self.post = bp.dyn.LifRef(4, V_initializer=bp.init.Normal(-55.0, 2.0))
            self.synapse = bp.dyn.FullProjAlignPreSDMg(
                pre=self.pre,
                syn=bp.dyn.Expon.desc(size=4, tau=5.0),
                delay=1.0,
                comm=bp.dnn.AllToAll(4, 4, bp.init.Normal(), mode=bm.training_mode),
                out=bp.dyn.COBA(E=0.0),
                post=self.post,
            )
            self.optimiser = bp.optim.Adam(0.1, self.train_vars())

    saved, loaded = Network(), Network()
    for variable in saved.optimiser.implicit_vars.values():
        variable.value = variable.value + 1
    save_checkpoint(saved, path)
    loaded.weights = loaded.train_vars()  # a collection of its own Variables changes nothing
    assert load_checkpoint(loaded, path) is True
    assert everything_of(loaded) == everything_of(saved)


def test_attributes_with_dots_in_their_names_are_told_apart(path):
    saved, loaded = (Holder(a=jnp.zeros(1)) for _ in range(2))
    for model, scale in ((saved, 1.5), (loaded, 0.0)):
        model.cell = Cell(scale)
        setattr(model, "cell.w", bm.Variable(jnp.full(2, scale)))
    save_checkpoint(saved, path)
    assert load_checkpoint(loaded, path) is True
    assert everything_of(loaded.cell) == everything_of(saved.cell)
    assert getattr(loaded, "cell.w").value.tolist() == [1.5, 1.5]


def test_keys_that_show_an_address_do_not_matter(path):
    """BrainPy makes such keys from the arguments of a `desc`."""
    saved, loaded = (Holder(a=jnp.zeros(1)) for _ in range(2))
    for model, scale in ((saved, 1.5), (loaded, 0.0)):
        model.add_aft_update(f"made by <f at 0x{id(model):x}>", Cell(scale))
    save_checkpoint(saved, path)
    assert load_checkpoint(loaded, path) is True
    assert everything_of(loaded) == everything_of(saved)


def test_the_size_of_a_batch_axis_may_differ(path):
    saved, loaded = (Holder(h=bm.Variable(jnp.ones((n, 2)), batch_axis=0)) for n in (5, 1))
    save_checkpoint(saved, path)
    assert load_checkpoint(loaded, path) is True
    assert everything_of(loaded) == everything_of(saved)
    write(path, {"h": np.ones((5, 3), np.float32)})
    assert_rejected(loaded, path, r"h has shape \(5, 3\) in the file and \(5, 2\) in the model")


def test_float64_round_trips_whether_or_not_it_is_enabled_when_loading(path):
    with jax.enable_x64(True):
        value = jnp.asarray([np.pi, np.nan, -0.0])
        saved, loaded = Holder(w=value), Holder(w=0 * value)
        save_checkpoint(saved, path)
    assert load_checkpoint(loaded, path) is True
    assert everything_of(loaded) == everything_of(saved)


@pytest.mark.devices
def test_values_stay_on_the_device_they_were_put_on(path):
    device = jax.devices()[-1]
    put = Holder(w=jax.device_put(jnp.ones(2), device))
    save_checkpoint(put, path)
    assert load_checkpoint(put, path)
    assert put.w.value.committed
    assert put.w.value.devices() == {device}
    free = Holder(w=jnp.ones(2))
    assert load_checkpoint(free, path)
    assert not free.w.value.committed


DTYPES = [
    "float32",
    "float64",
    "float16",
    "bfloat16",
    "complex64",
    "int8",
    "int64",
    "uint32",
    "bool",
]


@st.composite
def arrays(draw):
    """Arrays of any bits: NaNs with payloads, infinities, denormal numbers, zeros of both signs."""
    dtype = jnp.dtype(draw(st.sampled_from(DTYPES)))
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    n_bytes = int(np.prod(shape)) * dtype.itemsize
    data = draw(st.binary(min_size=n_bytes, max_size=n_bytes))
    if dtype.kind == "b":
        data = bytes(byte % 2 for byte in data)
    return np.frombuffer(data, dtype).reshape(shape)


@settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(values=st.dictionaries(st.from_regex(r"[a-z]{1,5}0?", fullmatch=True), arrays(), min_size=1))
@pytest.mark.slow
def test_any_bits_of_any_dtype_round_trip(values, path):
    # Prefixed, as names such as "mode" are BrainPy's.
    values = {f"v_{name}": value for name, value in values.items()}
    with jax.enable_x64(True):
        saved = Holder(**{name: jnp.asarray(value) for name, value in values.items()})
        # NumPy's zeros, as JAX's would be compiled for each shape.
        zeros = {name: np.zeros_like(value) for name, value in values.items()}
        loaded = Holder(**{name: jnp.asarray(zero) for name, zero in zeros.items()})
    save_checkpoint(saved, path)
    assert load_checkpoint(loaded, path) is True
    for name, value in values.items():
        found = np.asarray(getattr(loaded, name).value)
        assert (found.dtype, found.shape) == (value.dtype, value.shape)
        assert found.tobytes() == value.tobytes()


# Files that earlier versions wrote


def test_files_without_a_checksum_that_hold_values_by_path_are_loaded(path):
    """As earlier versions wrote them, with the paths that they gave to the Variables."""
    saved = Plain(1.5)
    children = saved.layers.children.values()
    first, last = [child for child in children if isinstance(child, Cell)]
    variables = {
        "tied": saved.encoder.w,
        "decoder.w": saved.decoder.w,
        "decoder.b": saved.decoder.b,
        "encoder.b": saved.encoder.b,
        "layers.children[#0].w": first.w,
        "layers.children[#0].b": first.b,
        "layers.children[#2].w": last.w,
        "layers.children[#2].b": last.b,
        "gains[0]": saved.gains[0],
    }
    write(path, variables)
    loaded = Plain()
    assert load_checkpoint(loaded, path) is True
    assert everything_of(loaded) == everything_of(saved)


def test_the_paths_of_variables_are_those_of_earlier_versions():
    chain = ["[#0].W", "[#0].b", "[#2].Wi", "[#2].Wh", "[#2].b", "[#2].state"]
    assert list(variables_by_path("here", Everything())) == [
        *("scalar", "count", "flag", "half", "phase", "empty", "tied"),
        *("cells[0].b", "cells[1].w", "cells[1].b"),
        *("group.children[#0].w", "group.children[#0].b"),
        *("group.children['inner'].w", "group.children['inner'].b"),
        *(f"chain.children{child}" for child in chain),
        *("_implicit_vars[#0]", "_implicit_vars[#1]"),
        *("_implicit_nodes[#0].w", "_implicit_nodes[#0].b"),
        *("_implicit_nodes['extra'].w", "_implicit_nodes['extra'].b"),
        *("listed[0]", "listed[1]", "named['a']"),
        *("in_python['cells'][0].w", "in_python['cells'][0].b"),
        *("in_python['cells'][1][0].w", "in_python['cells'][1][0].b"),
    ]


# BrainPy, and canns with it, loads our files


def brainpy_loads(model, path):
    result = bp.load_state(model, bp.checkpoints.load_pytree(str(path)))
    assert result.missing_keys == []
    assert result.unexpected_keys == []


def reached_by_brainpy(model):
    state = bp.save_state(model)
    return [np.asarray(value).tobytes() for node in state.values() for value in node.values()]


def reset(model):
    for variable in model.vars().unique().values():
        variable.value = jnp.zeros_like(variable.value)


@pytest.mark.slow
@pytest.mark.parametrize("model_class", [Everything, Plain, Cell])
def test_brainpy_loads_the_file_into_the_instance_that_was_saved(model_class, path):
    model = model_class(1.5)
    expected = reached_by_brainpy(model)
    save_checkpoint(model, path)
    reset(model)
    assert reached_by_brainpy(model) != expected
    brainpy_loads(model, path)
    assert reached_by_brainpy(model) == expected


def test_brainpy_loads_the_file_into_an_instance_with_the_same_names(path):
    bm.clear_name_cache()  # BrainPy counts from 0 again, as in a new process
    saved = Plain(1.5)
    save_checkpoint(saved, path)
    bm.clear_name_cache()
    loaded = Plain()
    assert loaded.name == saved.name
    brainpy_loads(loaded, path)
    assert everything_of(loaded) == everything_of(saved)


def test_the_file_holds_what_brainpy_would_save_and_what_it_would_not(path):
    model = Everything(1.5)
    save_checkpoint(model, path)
    state, tree = bp.save_state(model), bp.checkpoints.load_pytree(str(path))
    own = tree.pop(OWN_ENTRY)
    assert {node: list(values) for node, values in tree.items()} == {
        node: list(values) for node, values in state.items()
    }
    assert sorted(own["values"]) == [
        *("in_python['cells'][0].b", "in_python['cells'][0].w"),
        *("in_python['cells'][1][0].b", "in_python['cells'][1][0].w"),
    ]


def canns_checkpoints():
    """The module of canns alone, as the package needs much that it does not."""
    package = importlib.util.find_spec("canns")
    if package is None:
        pytest.skip("canns is not installed")
    file = Path(package.submodule_search_locations[0]) / "analyzer/slow_points/checkpoint.py"
    spec = importlib.util.spec_from_file_location("canns_checkpoints", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("model_class", [Everything, Plain, Cell])
def test_files_go_both_ways_between_canns_and_slowpoints(model_class, path):
    canns = canns_checkpoints()
    model = model_class(1.5)
    expected, reached = everything_of(model), reached_by_brainpy(model)
    save_checkpoint(model, path)
    reset(model)
    assert canns.load_checkpoint(model, str(path)) is True
    assert reached_by_brainpy(model) == reached
    if model_class is not Everything:  # parts of which canns does not see
        assert everything_of(model) == expected
        canns.save_checkpoint(model, str(path))
        loaded = model_class()
        assert load_checkpoint(loaded, path) is True
        assert everything_of(loaded) == expected


def view_of(variable):
    return bm.VariableView(variable, slice(0, 2))


def test_what_only_a_view_shows_is_saved(path):
    saved, loaded = (Holder(a=jnp.zeros(1)) for _ in range(2))
    for model, scale in ((saved, 1.5), (loaded, 0.0)):
        model.view = view_of(view_of(bm.Variable(jnp.full(4, scale))))
    save_checkpoint(saved, path)
    assert load_checkpoint(loaded, path) is True
    assert loaded.view.value.tolist() == [1.5, 1.5]


def test_a_view_that_brainpy_saves_is_no_variable_of_its_own(path):
    saved, loaded = (Holder(a=jnp.zeros(1)) for _ in range(2))
    for model, scale in ((saved, 1.5), (loaded, 0.0)):
        model.whole = bm.Variable(jnp.full(4, scale))
        model.register_implicit_vars(part=view_of(model.whole))
    save_checkpoint(saved, path)
    assert load_checkpoint(loaded, path) is True
    assert loaded.whole.value.tolist() == [1.5] * 4
    loaded.whole.value = jnp.zeros(4)
    write(path, bp.save_state(saved))
    assert load_checkpoint(loaded, path) is True
    assert loaded.whole.value.tolist() == [1.5] * 4
    save_checkpoint(saved, path)
    saved.whole.value = jnp.zeros(4)
    brainpy_loads(saved, path)
    assert saved.whole.value.tolist() == [1.5] * 4


class Hooked(Cell):
    """Saves something else beside its Variables, and one of them in another way."""

    def save_state(self):
        return {**super().save_state(), f"{self.name}.b": "ones", "time": np.ones(3), "more": None}


def test_what_a_class_adds_to_its_state_is_left_out_with_a_warning(path):
    saved, loaded = Hooked(1.5), Hooked()
    with pytest.warns(UserWarning, match=r"^save_checkpoint: .* lacks what `brainpy") as caught:
        save_checkpoint(saved, path)
    assert str(caught[0].message).endswith(
        f"{saved.name}: {saved.name}.b, {saved.name}: time, {saved.name}: more"
    )
    assert load_checkpoint(loaded, path) is True
    assert everything_of(loaded) == everything_of(saved)


# Files of BrainPy's own


def test_files_of_save_state_load_into_the_same_and_into_another_instance(path):
    saved = Plain(1.5)
    write(path, bp.save_state(saved))
    expected = everything_of(saved)
    loaded = Plain()
    assert load_checkpoint(loaded, path) is True
    assert everything_of(loaded) == expected
    saved.decoder.w.value = jnp.zeros((2, 3))
    assert load_checkpoint(saved, path) is True
    assert everything_of(saved) == expected


def test_files_of_save_state_must_fit_without_doubt(path):
    class Turned(bp.DynamicalSystem):
        def __init__(self):
            super().__init__()
            self.a, self.b = Cell(), Cell()

    class TurnedInFile(bp.DynamicalSystem):
        def __init__(self):
            super().__init__()
            b, a = Cell(1.0), Cell(2.0)
            self.a, self.b = a, b

    # The numbers rank differently along the attributes, so a and b might be confused.
    state = bp.save_state(TurnedInFile())
    write(path, {name.replace("TurnedInFile", "Turned"): value for name, value in state.items()})
    assert_rejected(Turned(), path, r"it is about Cell\d+, Cell\d+, the model is about")

    state = bp.save_state(Plain(1.5))
    write(path, dict(list(state.items())[:-1]))
    assert_rejected(Plain(), path, "it is about .* the model is about")

    name, values = next((n, v) for n, v in state.items() if n.startswith("Cell"))
    write(path, {**state, name: {f"{name}.w": values[f"{name}.w"]}})
    assert_rejected(Plain(), path, r"it lacks (decoder|encoder)\.b")
    write(path, {**state, name: {**values, f"{name}.c": np.zeros(3)}})
    assert_rejected(Plain(), path, r"the model lacks Cell\d+\.c")
    write(path, {**state, name: {**values, f"{name}.b": np.zeros(3, np.int32)}})
    assert_rejected(Plain(), path, "dtype int32 in the file and float32 in the model")


def test_a_save_state_file_with_two_values_for_one_variable_is_rejected(path):
    model = Plain(1.5)
    state = bp.save_state(model)
    tied = next(key for key in state[model.name] if key.endswith("tied"))
    state[model.name][tied] = state[model.name][tied] + 1
    write(path, state)
    assert_rejected(model, path, r"two values for the shared Variable tied")


def test_a_save_state_file_does_not_cover_modules_that_brainpy_does_not_see(path):
    model = Everything(1.5)
    write(path, bp.save_state(model))
    assert_rejected(model, path, r"it lacks in_python\['cells'\]\[0\]\.b")


# Files that do not fit


class InTraining(bp.DynSysGroup):
    """Has its weights in Variables if it is created in training mode, and else in plain arrays."""

    def __init__(self):
        super().__init__()
        self.rnn = bp.dyn.GRUCell(3, 4)
        self.readouts = bp.Sequential(bp.dnn.Dense(4, 3), bp.dnn.Dense(3, 2))


@pytest.mark.slow
@pytest.mark.parametrize("save", ["own", "brainpy"])
def test_a_model_that_was_created_outside_of_training_mode_is_told_how_to_be(save, path):
    with bm.training_environment():
        saved, loaded = InTraining(), InTraining()
    if save == "own":
        save_checkpoint(saved, path)
    else:
        write(path, bp.save_state(saved))
    layers = [f"readouts.children[#{k}].{name}" for k in range(2) for name in "Wb"]
    names = ", ".join([*layers, "rnn.Wh", "rnn.Wi", "rnn.b"])
    reason = f"the model holds {names} in plain arrays, and only Variables can be loaded"
    assert_rejected(InTraining(), path, re.escape(reason))
    assert_rejected(InTraining(), path, re.escape("`with brainpy.math.training_environment():`"))
    assert load_checkpoint(loaded, path) is True
    assert everything_of(loaded) == everything_of(saved)


@pytest.mark.parametrize("save", ["own", "brainpy"])
def test_a_truncated_file_is_rejected_at_every_length(save, path):
    saved, loaded = Cell(1.5), Cell(2.5)
    if save == "own":
        save_checkpoint(saved, path)
    else:
        write(path, bp.save_state(saved))
    content = path.read_bytes()
    before = everything_of(loaded)
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.warns(UserWarning, match="cannot read it"):
            assert load_checkpoint(loaded, path) is False
    assert everything_of(loaded) == before


@pytest.mark.slow
@settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_damaged_file_never_raises(data, path):
    """A file without a checksum loads if it still holds a value for everything; else not at all."""
    saved = Cell(1.5)
    write(path, {"w": saved.w, "b": saved.b})
    content = bytearray(path.read_bytes())
    leaves = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats())
    leaves |= st.text(max_size=3) | st.binary(max_size=9)
    names = st.sampled_from(["w", "b", "0", "shape", "chunks", "__msgpack_chunked_array__"])
    trees = st.recursive(leaves, lambda t: st.lists(t, max_size=3) | st.dictionaries(names, t))
    arrays = st.tuples(
        st.lists(st.integers(-1, 5), max_size=2),
        st.sampled_from(
            ["float32", "bfloat16", "O", "a5", "V", "(,)f4", "((f4", "f4,O", "M8[s]", ""]
        ),
        st.binary(max_size=24),
    )
    extensions = st.builds(
        lambda code, value: msgpack.ExtType(code, msgpack.packb(value)),
        st.integers(0, 4),
        trees | arrays,
    )
    kind = data.draw(st.sampled_from(["bytes", "flipped", "tree"]))
    if kind == "bytes":
        content = data.draw(st.binary(max_size=60))
    elif kind == "flipped":
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    else:
        tree = data.draw(trees | st.dictionaries(names, trees | extensions))
        content = msgpack.packb(tree)
    path.write_bytes(content)

    model = Cell(2.5)
    before = everything_of(model)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loaded = load_checkpoint(model, path)
    if not loaded:
        assert any("cannot load the checkpoint" in str(w.message) for w in caught)
        assert everything_of(model) == before
    else:
        values = bp.checkpoints.load_pytree(str(path))
        assert everything_of(model) == everything_of(Holder(**values))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"w": np.zeros((3, 2), np.float32)},
            r"w has shape \(3, 2\) in .* and \(2, 3\) in the mod",
        ),
        ({"w": np.zeros(6, np.float32)}, r"w has shape \(6,\) in the file and \(2, 3\)"),
        ({"b": np.zeros((), np.float32)}, r"b has shape \(\) in the file and \(3,\)"),
        ({"b": np.zeros(3)}, r"b has dtype float64 in the file and float32 in the model"),
        ({"b": np.zeros(3, np.int32)}, r"b has dtype int32 in the file and float32"),
        ({"b": None}, "b is not an array but a NoneType"),
        ({"b": {"0": np.zeros(3)}}, "b is not an array but a dict"),
        ({"c": np.zeros(3)}, "the model lacks c"),
    ],
)
def test_a_file_that_does_not_fit_is_rejected(change, reason, path):
    tree = {"w": np.zeros((2, 3), np.float32), "b": np.ones(3, np.float32)}
    write(path, tree)
    assert load_checkpoint(Cell(), path) is True
    write(path, tree | change)
    assert_rejected(Cell(1.5), path, reason)


@pytest.mark.parametrize("kept", ["w", "b"])
def test_a_file_that_lacks_a_variable_is_rejected(kept, path):
    model = Cell(1.5)
    write(path, {kept: np.asarray(getattr(model, kept).value)})
    assert_rejected(model, path, "it lacks " + {"w": "b", "b": "w"}[kept])


@pytest.mark.parametrize("tree", [{}, [], 3, None, "text", np.ones(3)])
def test_a_file_that_holds_something_else_is_rejected(tree, path):
    write(path, tree)
    assert_rejected(Cell(1.5), path, "cannot load")


def array_of_dtype(name):
    return msgpack.packb({"w": msgpack.ExtType(1, msgpack.packb(([1], name, b"abcd")))})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x80",  # an empty dictionary, twice
        b"\x81\xa1a" * 1020 + b"\x80",  # deeper than Python recurses
        pickle.dumps(print),
        array_of_dtype("(,)f4"),  # NumPy parses it and raises SyntaxError
        array_of_dtype("O"),  # an array of pointers
        msgpack.packb({"w": msgpack.ExtType(2, msgpack.packb({}))}),  # a complex number
        msgpack.packb({"w": {"__msgpack_chunked_array__": True}}),
        msgpack.packb({b"w": 1}),
        msgpack.packb({"Cell0": {b"Cell0.w": 1}}),
        msgpack.packb({"Cell" + "9" * 5000: {"w": 1}}),  # more digits than `int` takes
    ],
)
def test_a_malicious_file_is_rejected(content, path):
    path.write_bytes(content)
    assert_rejected(Cell(1.5), path, "cannot load the checkpoint")


def test_no_file_or_a_directory_is_rejected(tmp_path):
    assert_rejected(Cell(1.5), tmp_path / "missing", "there is no such file")
    assert_rejected(Cell(1.5), tmp_path, "it is a directory")
    assert_rejected(Cell(1.5), "zero\0byte", "there is no such file")


def test_a_file_that_must_not_be_read_is_rejected(path, monkeypatch):
    save_checkpoint(Cell(), path)

    def denied(*args, **kwargs):
        raise PermissionError("not for you")

    monkeypatch.setattr("slowpoints._storage.checkpoint_files.open", denied, raising=False)
    assert_rejected(Cell(1.5), path, "PermissionError: not for you")


class Stubborn(bm.Variable):
    """Fails in the way it is told to when its value is set."""

    failure = None

    @property
    def value(self):
        return bm.Variable.value.fget(self)

    @value.setter
    def value(self, new):
        if isinstance(self.failure, BaseException):
            raise self.failure
        bm.Variable.value.fset(self, new + 1 if self.failure == "changes the value" else new)


@pytest.mark.parametrize("failure", [RuntimeError("no"), "changes the value"])
def test_a_write_that_fails_midway_is_undone(failure, path):
    save_checkpoint(Holder(a=jnp.ones(2), b=jnp.ones(2), c=jnp.ones(2)), path)
    model = Holder(a=jnp.zeros(2), b=Stubborn(jnp.zeros(2)), c=jnp.zeros(2))
    assert load_checkpoint(model, path) is True
    for variable in (model.a, model.b, model.c):
        variable.value = jnp.zeros(2)
    model.b.failure = failure
    if failure == "changes the value":
        # Undoing it goes through the same setter; what is checked is that a and c are as before.
        with pytest.warns(UserWarning, match="b did not take the file's value"):
            assert load_checkpoint(model, path) is False
        assert not model.a.value.any()
        assert not model.c.value.any()
    else:
        assert_rejected(model, path, "RuntimeError: no")


def test_an_interrupted_write_is_undone_and_goes_on(path):
    save_checkpoint(Holder(a=jnp.ones(2), b=jnp.ones(2)), path)
    model = Holder(a=jnp.zeros(2), b=Stubborn(jnp.zeros(2)))
    model.b.failure = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        load_checkpoint(model, path)
    assert not model.a.value.any()


# Saving


def test_parent_folders_are_created_and_strings_are_paths_too(tmp_path, monkeypatch):
    save_checkpoint(Cell(1.5), str(tmp_path / "a" / "b" / "model.msgpack"))
    assert load_checkpoint(Cell(), str(tmp_path / "a" / "b" / "model.msgpack"))
    monkeypatch.chdir(tmp_path)
    save_checkpoint(Cell(1.5), "here")
    assert load_checkpoint(Cell(), Path("here"))
    assert sorted(os.listdir()) == ["a", "here"]
    assert os.listdir(tmp_path / "a" / "b") == ["model.msgpack"]


def test_saving_replaces_an_older_file(path):
    save_checkpoint(Cell(1.5), path)
    save_checkpoint(Cell(2.5), path)
    model = Cell()
    assert load_checkpoint(model, path)
    assert everything_of(model) == everything_of(Cell(2.5))


@pytest.mark.parametrize("when", ["serialising", "half written", "interrupted", "renaming"])
def test_an_older_file_is_kept_when_saving_fails(when, path, monkeypatch):
    save_checkpoint(Cell(1.5), path)
    error = KeyboardInterrupt if when == "interrupted" else OSError

    def fail(filename, *args, **kwargs):
        if when in ("half written", "interrupted"):
            Path(filename).write_bytes(b"half")
        raise error("disk full")

    if when == "renaming":
        monkeypatch.setattr(os, "replace", fail)
    else:
        monkeypatch.setattr(bp.checkpoints, "save_pytree", fail)
    with pytest.raises(error, match="disk full"):
        save_checkpoint(Cell(2.5), path)
    monkeypatch.undo()
    assert os.listdir(path.parent) == [path.name]
    model = Cell()
    assert load_checkpoint(model, path)
    assert everything_of(model) == everything_of(Cell(1.5))


def test_saving_over_a_directory_raises(tmp_path):
    with pytest.raises(OSError):
        save_checkpoint(Cell(), tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_variable_that_is_no_number_is_named(path):
    with pytest.raises(
        TypeError, match=r"^save_checkpoint: `model` has a Variable key of dtype key<\w+>; expected"
    ):
        save_checkpoint(Holder(key=jax.random.key(0)), path)
    assert not path.exists()
    write(path, {"key": np.zeros((), np.uint32)})
    model = Holder(key=jax.random.key(0))
    with pytest.warns(UserWarning, match="key has dtype uint32 in the file and key"):
        assert load_checkpoint(model, path) is False


@pytest.mark.checks_input
@pytest.mark.parametrize("function", [save_checkpoint, load_checkpoint])
def test_wrong_arguments_are_named(function, path):
    name = function.__name__
    with pytest.raises(
        TypeError, match=f"^{name}: `model` is a dict; expected a brainpy.DynamicalSystem."
    ):
        function({}, path)
    with pytest.raises(ValueError, match=f"^{name}: `model` has no Variables; expected at least"):
        function(bp.dnn.Dense(2, 3), path)
    with pytest.raises(TypeError, match=f"^{name}: `filepath` is 3; expected a str or a pathlib"):
        function(Cell(), 3)
    with pytest.raises(TypeError, match=f"^{name}: `filepath` is b'bytes'; expected a str or"):
        function(Cell(), b"bytes")
