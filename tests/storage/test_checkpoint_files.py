"""What damaged and malicious checkpoint files do: nothing, and in little time and memory."""

import os
import pickle
import sys
import threading
import time
import tracemalloc
import warnings

import brainpy as bp
import brainpy.math as bm
import jax.numpy as jnp
import msgpack
import numpy as np
import pytest
from braintools.file import _msg_checkpoint

from slowpoints._storage.checkpoint_files import (
    MAX_DEPTH,
    UnusableFileError,
    digest_of_tree,
    read_tree,
)
from slowpoints._storage.checkpoints import OWN_ENTRY, load_checkpoint, save_checkpoint


class Part(bp.DynamicalSystem):
    """Two Variables."""

    def __init__(self, scale):
        super().__init__()
        self.w = bm.TrainVar(scale * jnp.arange(6.0).reshape(2, 3))
        self.b = bm.Variable(jnp.full(3, scale, jnp.bfloat16))


class Whole(bp.DynamicalSystem):
    """Variables of several dtypes, a shared one, and one that BrainPy does not see."""

    def __init__(self, scale=0.0):
        super().__init__()
        self.left, self.right = Part(scale), Part(2 * scale)
        self.count = bm.Variable(jnp.full(2, int(scale)))
        self.shared = self.left.w
        self.unseen = [Part(3 * scale)]


def bits_of(model):
    parts = [model.left, model.right, model.unseen[0]]
    found = [model.count, model.shared, *(v for part in parts for v in (part.w, part.b))]
    return [np.asarray(variable.value).tobytes() for variable in found]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.msgpack"


def mutated(content, random):
    """Change, insert or remove some bytes, or copy a piece of the file over another one."""
    content = bytearray(content)
    place = random.integers(len(content))
    kind = random.choice(["bit", "byte", "bytes", "number", "insert", "remove", "copy", "cut"])
    if kind == "bit":
        content[place] ^= 1 << random.integers(8)
    elif kind == "byte":
        content[place] = random.integers(256)
    elif kind == "bytes":
        for other in random.integers(len(content), size=random.integers(2, 9)):
            content[other] = random.integers(256)
    elif kind == "number":  # that of a size, maybe
        content[place : place + 4] = random.choice([b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\xff" * 4])
    elif kind == "insert":
        content[place:place] = random.bytes(random.integers(1, 9))
    elif kind == "remove":
        del content[place : place + random.integers(1, 9)]
    elif kind == "copy":
        length, source = random.integers(1, 200), random.integers(len(content))
        content[place : place + length] = content[source : source + length]
    else:
        del content[place:]
    return bytes(content)


def outcomes_of_mutations(path, n_mutations):
    """Load so many mutations; return how many were refused, and how many loaded what was saved."""
    saved, model = Whole(1.5), Whole(2.5)
    save_checkpoint(saved, path)
    content, before, expected = path.read_bytes(), bits_of(model), bits_of(saved)
    random = np.random.default_rng(0)
    n_refused = n_loaded = 0
    for _ in range(n_mutations):
        path.write_bytes(mutated(content, random))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loaded = load_checkpoint(model, path)
        if loaded:
            n_loaded += 1
            assert bits_of(model) == expected
            assert not caught
            model = Whole(2.5)
        else:
            n_refused += 1
            assert bits_of(model) == before
            assert [repr(str(path)) in str(warning.message) for warning in caught] == [True]
    return n_refused, n_loaded


@pytest.mark.slow
def test_no_mutation_of_a_file_alters_a_weight(path):
    n_refused, n_loaded = outcomes_of_mutations(path, 500)
    assert n_refused > 450
    assert n_refused + n_loaded == 500


@pytest.mark.exhaustive
def test_none_of_many_mutations_of_a_file_alters_a_weight(path):
    n_refused, n_loaded = outcomes_of_mutations(path, 10_000)
    assert n_refused > 9_000
    assert n_refused + n_loaded == 10_000


def leaves_of(tree, place=()):
    """The places of all values in nested dictionaries."""
    if not isinstance(tree, dict):
        return [place]
    return [leaf for key, value in tree.items() for leaf in leaves_of(value, (*place, key))]


def changed(tree, place, change):
    """The tree with another value in this place."""
    if not place:
        return change(tree)
    return {**tree, place[0]: changed(tree[place[0]], place[1:], change)}


def test_a_change_to_any_value_is_called_damage(path):
    """The file stays whole here, as after somebody has edited it."""
    save_checkpoint(Whole(1.5), path)
    tree, model = read_tree(str(path)), Whole(2.5)
    before = bits_of(model)

    def change(leaf):
        return leaf + leaf.dtype.type(1) if isinstance(leaf, np.ndarray) else f"{leaf}0"

    def reshape(leaf):
        return leaf.reshape(leaf.shape[::-1]) if isinstance(leaf, np.ndarray) else leaf

    def retype(leaf):
        return leaf.view(f"i{leaf.dtype.itemsize}") if isinstance(leaf, np.ndarray) else leaf

    places = leaves_of(tree)
    assert (OWN_ENTRY, "sha256") in places
    for place in places:
        for alter in (change, reshape, retype):
            altered = changed(tree, place, alter)
            if repr(altered) == repr(tree):  # a vector's shape reversed, a text's dtype
                continue
            bp.checkpoints.save_pytree(str(path), altered, verbose=False)
            with pytest.warns(UserWarning, match="it is damaged: its checksum does not match"):
                assert load_checkpoint(model, path) is False
    assert bits_of(model) == before


def test_the_digest_tells_trees_apart():
    zeros = np.zeros(2, np.float32)
    trees = [
        {},
        {"a": {}},
        {"a": zeros},
        {"b": zeros},
        {"a": zeros, "b": {}},
        {"a": {"b": zeros}},
        {"a": zeros.astype(np.int32)},
        {"a": zeros.reshape(2, 1)},
        {"a": zeros.reshape(1, 2)},
        {"a": -zeros},
        {"a": zeros[:0]},
        {"a": zeros[:0].reshape(0, 3)},
        {"a": "0"},
        {"a": 0},
        {"a": 0.0},
        {"a": None},
    ]
    assert len({digest_of_tree(tree) for tree in trees}) == len(trees)
    assert digest_of_tree({"a": 1, "b": 2}) == digest_of_tree({"b": 2, "a": 1})


def packed_array(shape, dtype, content):
    return msgpack.ExtType(1, msgpack.packb((shape, dtype, content)))


@pytest.mark.parametrize(
    "entry",
    [
        None,
        3,
        "text",
        {},
        {"paths": {}, "values": {}},
        {"paths": {}, "values": {}, "sha256": None},
        {"paths": {}, "values": 3},
        {"paths": {"Part0": {"Part0.w": "left.w"}}, "values": {}},
        {"paths": {"Part0": 3}, "values": {}},
        {"paths": {"Cell": {"w": 3}}, "values": {}},
        {"paths": {"Cell": {"w": np.ones(2)}}, "values": {}},
        {"paths": {}, "values": {"left.w": "text"}},
        {"paths": {}, "values": {}, "more": {}},
    ],
)
def test_an_entry_that_only_looks_like_ours_is_refused(entry, path):
    """Even if its checksum is right."""
    tree = {OWN_ENTRY: entry, "Cell": {"w": np.ones(2, np.float32)}}
    if isinstance(entry, dict) and "sha256" not in entry:
        tree[OWN_ENTRY] = {**entry, "sha256": digest_of_tree(tree)}
    bp.checkpoints.save_pytree(str(path), tree, verbose=False)
    model = Whole(1.5)
    with pytest.warns(UserWarning, match="cannot load the checkpoint"):
        assert load_checkpoint(model, path) is False
    assert bits_of(model) == bits_of(Whole(1.5))


def nested(header, depth):
    return header * depth + b"\xc0"


N_PADDING = 2**20  # what claims to be large is read from a file of this size
HUGE = {
    "array32": b"\xdd\x7f\xff\xff\xff",
    "map32": b"\xdf\x7f\xff\xff\xff",
    "bytes32": b"\xc6\x7f\xff\xff\xff",
    "text32": b"\xdb\x7f\xff\xff\xff",
    "extension32": b"\xc9\x7f\xff\xff\xff\x01",
    # Lists that claim as many items as the file has bytes, one in another.
    "lists": nested(b"\xdd\x00\x0f\xff\xff", 500) + bytes(N_PADDING),
    "lists in an array": msgpack.packb(
        {"w": msgpack.ExtType(1, nested(b"\xdd\x00\x0f\xff\xff", 500) + bytes(N_PADDING))}
    ),
    "maps": nested(b"\x81\xa1a", 400_000),
    "shape": msgpack.packb({"w": packed_array([2**40, 2**20], "float32", bytes(24))}),
    "shape that overflows": msgpack.packb({"w": packed_array([2**63 - 1] * 3, "int8", b"")}),
    "shape of no size": msgpack.packb({"w": packed_array([2**40, 0, 2**20], "int8", b"")}),
    "shape of many dimensions": msgpack.packb({"w": packed_array([1] * 10**6, "int8", b"a")}),
    "dtype": msgpack.packb({"w": packed_array([1], "1000000000f4", bytes(24))}),
    "dtype of many parts": msgpack.packb({"w": packed_array([1], "f4," * 10**6, bytes(24))}),
    # Joined as NumPy joins them, each of these bytes would take as much as the whole text.
    "pieces": msgpack.packb(
        {
            "w": {
                "__msgpack_chunked_array__": True,
                "shape": {"0": N_PADDING + 1},
                "chunks": {
                    "0": packed_array([N_PADDING], "int8", bytes(N_PADDING)),
                    "1": packed_array([1], "U250000", bytes(10**6)),
                },
            }
        }
    ),
    "pieces of numbers": msgpack.packb(
        {
            "w": {
                "__msgpack_chunked_array__": True,
                "shape": {"0": N_PADDING + 1},
                "chunks": {
                    "0": packed_array([N_PADDING], "int8", bytes(N_PADDING)),
                    "1": packed_array([1], "complex128", bytes(16)),
                },
            }
        }
    ),
}


@pytest.mark.parametrize("claim", HUGE)
def test_a_claim_of_a_huge_size_takes_little_time_and_memory(claim, path):
    path.write_bytes(HUGE[claim])
    model = Whole(1.5)
    tracemalloc.start()
    start = time.perf_counter()
    try:
        with pytest.warns(UserWarning, match="cannot load the checkpoint"):
            assert load_checkpoint(model, path) is False
        seconds, (_, peak) = time.perf_counter() - start, tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**21 + 6 * len(HUGE[claim])
    assert seconds < 10
    assert bits_of(model) == bits_of(Whole(1.5))


def test_nothing_is_executed(path):
    """Python reports what compiles, runs, imports or unpickles something to audit hooks."""
    events, listening = [], False

    def listen(event, arguments):
        if listening:
            events.append((event, arguments))

    sys.addaudithook(listen)  # for good, but it does nothing later
    pickled = pickle.dumps(print)
    contents = [
        pickled,
        msgpack.packb({"w": msgpack.ExtType(1, pickled)}),
        msgpack.packb({"w": packed_array([1], "O", bytes(8))}),
        msgpack.packb({"w": packed_array([1], "__import__('os')", bytes(8))}),
        msgpack.packb({"w": packed_array([1], "(__import__('os'),)f4", bytes(8))}),
        msgpack.packb({"w": packed_array([1], "(2,)f4", bytes(8))}),
        *(msgpack.packb({"w": msgpack.ExtType(code, pickled)}) for code in range(128)),
    ]
    for content in [contents[0], *contents]:  # the first time, modules may be imported
        path.write_bytes(content)
        with pytest.raises(UnusableFileError, match="cannot read it"):
            read_tree(str(path))
        listening = True
    listening = False
    names = {event for event, _ in events}
    assert "open" in names
    assert not {name for name in names if name.startswith(("pickle", "subprocess", "ctypes"))}
    assert names.isdisjoint({"compile", "exec", "import", "os.system", "os.posix_spawn"})


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_instead_of_waited_for(path):
    os.mkfifo(path)
    model, results = Whole(1.5), []

    def load():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            results.append((load_checkpoint(model, path), str(caught[0].message)))

    thread = threading.Thread(target=load, daemon=True)
    thread.start()
    thread.join(timeout=60)
    assert not thread.is_alive()
    [(loaded, message)] = results
    assert loaded is False
    assert message.endswith("it is not a regular file")


def test_a_link_to_a_file_is_that_file(path, tmp_path):
    save_checkpoint(Whole(1.5), path)
    link = tmp_path / "link"
    link.symlink_to(path)
    model = Whole()
    assert load_checkpoint(model, link) is True
    assert bits_of(model) == bits_of(Whole(1.5))
    path.unlink()
    with pytest.warns(UserWarning, match="there is no such file"):
        assert load_checkpoint(model, link) is False


def test_arrays_that_brainpy_splits_are_loaded(path, monkeypatch):
    monkeypatch.setattr(_msg_checkpoint, "MAX_CHUNK_SIZE", 8)
    save_checkpoint(Whole(1.5), path)
    assert b"__msgpack_chunked_array__" in path.read_bytes()
    model = Whole()
    assert load_checkpoint(model, path) is True
    assert bits_of(model) == bits_of(Whole(1.5))


def test_the_depth_is_bounded(path):
    tree = np.ones(2)
    for _ in range(MAX_DEPTH):
        tree = {"a": tree}
    bp.checkpoints.save_pytree(str(path), tree, verbose=False)
    assert digest_of_tree(read_tree(str(path))) == digest_of_tree(tree)
    bp.checkpoints.save_pytree(str(path), {"a": tree}, verbose=False)
    with pytest.raises(UnusableFileError, match="it is nested too deeply"):
        read_tree(str(path))


@pytest.mark.parametrize(
    ("shape", "name", "content"),
    [([2], "bool", b"\x02\x07"), ([-1, 2], "int8", b"\x01\x01"), ([2], "uint8", b"\x01")],
    ids=["neither True nor False", "a negative size", "too few bytes"],
)
def test_arrays_that_nobody_writes_are_refused(tmp_path, shape, name, content):
    """Files of others have no checksum that would show it."""
    path = tmp_path / "file"
    array = msgpack.ExtType(1, msgpack.packb([shape, name, content]))
    path.write_bytes(msgpack.packb({"w": array}))
    with pytest.raises(UnusableFileError, match="cannot read it: ValueError"):
        read_tree(str(path))
