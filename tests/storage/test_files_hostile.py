"""Files that somebody made up: each is read, or refused with its name, and none runs code."""

import contextlib
import io
import json
import os
import pickle
import random
import resource
import shutil
import signal
import time
import tracemalloc
import warnings
import zipfile
from collections import Counter
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from networks import leaves_equal

from slowpoints import AbstractSolver, FixedPoints, Search
from slowpoints._core.files import replaced
from slowpoints._core.records import (
    LARGEST_JSON,
    digest_of_file,
    digest_of_record,
    read_record,
    write_record,
)
from slowpoints._storage.row_store import SMALL, RowStore
from slowpoints.solvers import Found

N_INITS, CHUNK, N_STATES = 12, 8, 3
CHUNKS = ("chunk-000000", "chunk-000001")
MIB = 1 << 20
COMPILED = 256 * MIB  # what programs take that JAX compiles for arrays of new shapes


class Stay(AbstractSolver):
    """Leaves every row where it starts, which takes no time to compile."""

    def run(self, F, x_init, inputs, stopping, report=None):
        return Found.nothing(x_init)


def search(directory, **settings):
    """Return a search of two chunks, the second of which is not full."""
    states = np.random.default_rng(0).normal(size=(4, 5, N_STATES)).astype(np.float32)
    settings = {
        "final_q_threshold": None,
        "n_inits": N_INITS,
        "chunk": CHUNK,
        "keep_rows": True,
        "mesh": None,
    } | settings
    return Search(
        lambda x, u: 0.5 * x,
        states,
        np.zeros(2, np.float32),
        directory=directory,
        solver=Stay(),
        **settings,
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Return the directory of a search that is done. To be copied, not changed."""
    pytest.importorskip("zarr")
    directory = tmp_path_factory.mktemp("done")
    search(directory).run()
    return directory


@pytest.fixture
def folder(done, tmp_path):
    return shutil.copytree(done, tmp_path / "search")


def points(n=5, n_states=N_STATES):
    """Return points that have all fields."""
    rng = np.random.default_rng(0)
    square = rng.normal(size=(n, n_states, n_states))
    return FixedPoints(
        **{name: rng.normal(size=(n, n_states)) for name in ("xstar", "F_xstar", "x_init")},
        **{name: rng.normal(size=n) for name in ("qstar", "dq")},
        **{name: np.arange(n) for name in ("n_iters", "period", "cycle_id")},
        **{name: np.arange(n) % 2 == 0 for name in ("is_stable", "valid")},
        inputs=np.ones((n, 2)),
        J_xstar=square,
        dFdu=rng.normal(size=(n, n_states, 2)),
        eigval_J_xstar=square[:, 0] + 1j,
        eigvec_J_xstar=square + 1j,
        cond_id=np.array(["a", "bc", "d", "é", ""][:n]),
        status=np.arange(n, dtype=np.int8) % 6 + 1,
    )


class TouchesAFile:
    """Makes the file `marker` when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


class TookTooLong(BaseException):
    """No `OSError`, as `TimeoutError` is, which could be taken for a file's."""


@contextlib.contextmanager
def within(seconds):
    """Stop what takes longer, such as waiting for the writer of a FIFO."""

    def stop(*_):
        raise TookTooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# ---- mutations ---------------------------------------------------------------------------------


def mutated_bytes(content, draw):
    """Flip, cut out, insert, repeat or cut off some bytes."""
    damaged = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        place = draw.randrange(len(damaged) + 1)
        length = draw.choice((1, 1, 2, 4, 8, 100))
        kind = draw.randrange(6)
        if kind < 2 and place < len(damaged):
            damaged[place] ^= 1 << draw.randrange(8)
        elif kind == 2:
            damaged[place : place + length] = draw.choice((b"\0", b"\xff", b"9")) * length
        elif kind == 3:
            damaged[place:place] = draw.randbytes(length)
        elif kind == 4:
            damaged[place:place] = damaged[max(0, place - length) : place]
        else:
            del damaged[place : draw.choice((place + length, None))]
    return bytes(damaged)


DEEP = json.loads("[" * 200 + "]" * 200)
STRANGE_VALUES = [None, True, False, 0, -1, 1, 3, 8, 12, 10**8, 2**63, 10**30, 1.5, -0.0, 1e308]
STRANGE_VALUES += ["", "x", "8", "\ud800", "0" * 64, "a" * 5000, "float64", "|O", [], {}, [[]]]
STRANGE_VALUES += [DEEP, [1, 2], {"name": "pickle"}, [{"id": "pickle"}], float("nan")]


def mutated_json(content, draw):
    """Replace, remove, rename or double a value somewhere in what JSON can hold."""
    content = json.loads(json.dumps(content))
    places = []

    def collect(value):
        inner = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
        for key, part in inner:
            places.append((value, key))
            if isinstance(part, (dict, list)):
                collect(part)

    collect(content)
    for _ in range(draw.choice((1, 1, 2))):
        where, key = draw.choice(places)
        with contextlib.suppress(KeyError, IndexError):  # an earlier mutation removed it
            kind = draw.randrange(8)
            if kind == 0:
                del where[key]
            elif kind == 1 and isinstance(where, dict):
                where[draw.choice(("x", "codecs", "n_rows"))] = where.pop(key)
            elif kind == 2 and isinstance(where[key], (int, float)):
                where[key] += draw.choice((1, -1, 8, 0.0))
            elif kind == 3 and isinstance(where, list):
                where.append(where[key])
            else:
                where[key] = draw.choice(STRANGE_VALUES)
    return content


STRANGE_TYPES = ["<f4", ">f8", "<f2", "<i8", "|b1", "<c8", "<U3", "<U0", "|S3", "<M8[ns]", "|V8"]
STRANGE_TYPES += ["|O", "<f16", "<f3", "<U999999999", "f8,f8", "x", "'"]
STRANGE_SHAPES = ["()", "(5,)", "(1000000000000,)", "(0, 1000000000000)", "(-1,)", "(5, 3", "(0,)"]
STRANGE_SHAPES += ["(" + "9" * 5000 + ",)", "(5, 3, 1)", "(3, 5)", "(2, 2)", "(" * 300, "(1,) * 9"]


def strange_array(draw, marker):
    """Return the bytes of an array that is of no type or shape that belongs there."""
    values = draw.choice(
        [
            np.array("x"),
            np.array(draw.choice([np.nan, np.inf, -1.0, 0.0])),
            np.array(draw.choice([0, -1, 1, 3, 2**63 - 1])),
            np.array(["2000-01-01"] * 5, "M8[ns]"),
            np.zeros(5, [("a", "f8"), ("b", "f8")]),
            np.asfortranarray(np.arange(15.0).reshape(5, 3)),
            np.zeros((5, 0)),
            np.array([TouchesAFile(marker)] * 5, object),
        ]
    )
    file = io.BytesIO()
    np.save(file, values, allow_pickle=True)
    return file.getvalue()


def mutated_archive(content, draw, marker):
    """Put an archive together again from members one or two of which are changed."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for _ in range(draw.choice((1, 1, 2))):
        name = draw.choice(list(members))
        header, kind = members[name][:128], draw.randrange(8)
        if kind == 0:
            members[name] = mutated_bytes(members[name], draw)
        elif kind == 1:
            members[name] = mutated_bytes(header, draw) + members[name][128:]
        elif kind == 2:
            members[name] = strange_array(draw, marker)
        elif kind == 3:
            members[draw.choice(["x.npy", "xstar", "xstar.npy"])] = members.pop(name)
        elif kind == 4:
            members.pop(name)
        elif kind == 5 and name == "tol_unique.npy":
            members[name] = header + np.array(draw.choice([np.nan, -1.0])).tobytes()
        else:
            parts = header.decode("latin-1").split("'")
            if len(parts) >= 9:
                if draw.random() < 0.5:
                    parts[3] = draw.choice(STRANGE_TYPES)
                else:
                    parts[8] = f": {draw.choice(STRANGE_SHAPES)}, }}"
                text = "'".join(parts)[10:].rstrip().ljust(117) + "\n"
                size = len(text).to_bytes(2, "little")
                members[name] = header[:8] + size + text.encode() + members[name][128:]
        if not members:
            break
    file, method = io.BytesIO(), draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(file, "w", method, compresslevel=1) as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return file.getvalue()


# ---- ten thousand of each format ---------------------------------------------------------------


class Points:
    """One file of points."""

    largest = 2 * MIB

    def __init__(self, done, tmp_path):
        self.path, self.marker = tmp_path / "points.npz", tmp_path / "marker"
        points().save(self.path)
        self.content = self.path.read_bytes()

    def mutate(self, draw):
        if draw.random() < 0.3:
            self.path.write_bytes(mutated_bytes(self.content, draw))
        else:
            self.path.write_bytes(mutated_archive(self.content, draw, self.marker))

    def read(self, draw):
        return FixedPoints.load(self.path)


class Folder:
    """A search's directory, of which each mutation changes a few files."""

    def __init__(self, done, tmp_path):
        self.folder, self.marker = shutil.copytree(done, tmp_path / "search"), tmp_path / "marker"
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        self.contents = {path: path.read_bytes() for path in sorted(files)}
        self.changed = set()

    def restore(self):
        for path in self.changed:
            path.write_bytes(self.contents[path])
        self.changed.clear()

    def write(self, path, content):
        self.changed.add(path)
        path.write_bytes(content)

    def sign(self, path, content):
        """Do as `write_record`, which waits for the disk."""
        record = {"content": content, "sha256": digest_of_record(content)}
        self.write(path, json.dumps(record).encode())


class Records(Folder):
    """The JSON files of a search, and the archives that they vouch for, often by right digests."""

    largest = 32 * MIB

    def mutate(self, draw):
        self.restore()
        manifest, *chunks = (self.folder / f"{k}.json" for k in ("search", *CHUNKS))
        path, kind = draw.choice([manifest, *chunks]), draw.random()
        if kind < 0.3:
            self.write(path, mutated_bytes(self.contents[path], draw))
        elif kind < 0.4:
            content = mutated_json(json.loads(self.contents[path]), draw)
            self.write(path, json.dumps(content).encode())
        elif kind < 0.8:
            self.sign(path, mutated_json(read_record(path), draw))
            if path == manifest:
                search = json.loads(path.read_bytes())["sha256"]
                for chunk in chunks:
                    self.sign(chunk, read_record(chunk) | {"search": search})
        else:
            path = draw.choice(chunks)
            archive = path.with_suffix(".npz")
            self.write(archive, mutated_archive(self.contents[archive], draw, self.marker))
            self.sign(path, read_record(path) | {"points_sha256": digest_of_file(archive)})

    def read(self, draw):
        return Search.load(self.folder) if draw.random() < 0.5 else Search.load_rows(self.folder, 1)


class Rows(Folder):
    """The Zarr group of a search, and the record that says which rows to read."""

    largest = 4 * SMALL

    def mutate(self, draw):
        self.restore()
        rows = [path for path in self.contents if "rows.zarr" in path.parts]
        metadata = [path for path in rows if path.name == "zarr.json"]
        path = draw.choice(metadata)
        piece = draw.choice([path for path in rows if "1" in path.parts[-2:]])
        kind = draw.random()
        if kind < 0.2:
            self.write(piece, mutated_bytes(self.contents[piece], draw))
        elif kind < 0.3:
            size = draw.choice((0, 1, 8, 32, 96, 10**6))
            self.write(piece, packed(np.zeros(size, np.float32)))
        elif kind < 0.35:
            self.changed.add(piece)
            piece.unlink()
        elif kind < 0.5:
            self.write(path, mutated_bytes(self.contents[path], draw))
        elif kind < 0.9:
            content = mutated_json(json.loads(self.contents[path]), draw)
            self.write(path, json.dumps(content).encode())
        else:
            self.claim_more(draw, [path for path in metadata if path.parent.name != "rows.zarr"])

    def claim_more(self, draw, arrays):
        record = self.folder / f"{CHUNKS[1]}.json"
        claims = {"n_rows": draw.choice((4, 8, 10**8)), "first_row": draw.choice((0, 8, 9, 10**8))}
        self.sign(record, read_record(record) | claims)
        n_stored, piece = draw.choice((12, 10**8, 2 * 10**8)), draw.choice((8, 9, 10**8, 10**12))
        for path in arrays if draw.random() < 0.5 else arrays[:1]:
            array = json.loads(self.contents[path])
            array["shape"][0] = n_stored
            array["chunk_grid"]["configuration"]["chunk_shape"][0] = piece
            self.write(path, json.dumps(array).encode())

    def read(self, draw):
        return Search.load_rows(self.folder, 1)


def packed(values):
    from numcodecs.zstd import Zstd

    return Zstd().encode(values)


@pytest.mark.slow
@pytest.mark.checks_input
@pytest.mark.parametrize(
    "n", [300, pytest.param(10_000, marks=pytest.mark.exhaustive)], ids=["some", "ten thousand"]
)
@pytest.mark.parametrize("kind", [Points, Records, Rows])
def test_mutated_files_are_read_or_refused_by_name(kind, n, done, tmp_path):
    """Every tenth is watched by `tracemalloc`, which makes it slow; the others by the system."""
    case, draw = kind(done, tmp_path), random.Random(0)
    outcomes, slowest, most = Counter(), 0.0, 0
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for index in range(n):
        case.mutate(draw)
        if index % 10 == 0:
            tracemalloc.start()
        began = time.perf_counter()
        try:
            with within(20):
                result = case.read(draw)
        except (ValueError, FileNotFoundError) as error:
            assert str(tmp_path) in str(error), (index, error)
            outcomes["refused"] += 1
        else:
            assert isinstance(result, FixedPoints)
            outcomes["loaded"] += 1
        slowest = max(slowest, time.perf_counter() - began)
        if index % 10 == 0:
            most = max(most, tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert not case.marker.exists()
    assert most < case.largest
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident) * 1024
    assert grown < case.largest + COMPILED
    assert outcomes["loaded"] > n / 100 and outcomes["refused"] > n / 3
    print(
        f"\n{kind.__name__}: {dict(outcomes)}; at most {slowest:.2f} s, {most / MIB:.1f} MiB; "
        f"the process grew by {grown / MIB:.0f} MiB"
    )


# ---- archives of points ------------------------------------------------------------------------


def rewritten(path, **members):
    """Replace some members of an archive, given as arrays, as bytes, or as None to leave out."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    for name, member in members.items():
        if not isinstance(member, bytes):
            file = io.BytesIO()
            np.save(file, member, allow_pickle=True)
            member = file.getvalue()
        contents[f"{name}.npy"] = member
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, member in contents.items():
            archive.writestr(name, member)


def header(shape, descr="<f8"):
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.fixture
def archive(tmp_path):
    points().save(tmp_path / "points.npz")
    return tmp_path / "points.npz"


@pytest.mark.checks_input
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("xstar", np.full((5, 3), "x")),
        ("xstar", np.zeros((5, 3), "M8[s]")),
        ("xstar", np.zeros((5, 3), [("a", "f8"), ("b", "f8")])),
        ("xstar", np.zeros((5, 3), complex)),
        ("xstar", np.zeros((5, 3), bool)),
        ("n_iters", np.array(list("abcde"))),
        ("cond_id", np.zeros(5, complex)),
        ("tol_unique", np.array(np.nan)),
        ("tol_unique", np.array(-1.0)),
        ("tol_unique", np.zeros(2)),
        ("tol_unique", np.array("1")),
        ("dtype", np.array("f4,f4")),
        ("dtype", np.array("int32")),
        ("dtype", np.array("float33")),
        ("continuous_time", np.array(0.5)),
        ("fields", np.array("xstar")),
        ("slowpoints_format", np.array(0)),
        ("slowpoints_format", np.array(2.0)),
        ("xstar", header("(1000000000000, 3)")),
        ("xstar", header("(1000000000000, 0)")),
        ("xstar", header("(5, 3), }, 1 + (1)")),
        ("xstar", header("(" * 90)),
        ("xstar", header("(5, 3)", "<f99")),
        ("valid", header("(5,)", "|b1") + b"\0\1\2\3\4"),
        ("cond_id", header("(5,)", "<U1") + b"\xff" * 20),
    ],
)
def test_arrays_that_are_no_fixed_points_are_refused(archive, name, values):
    rewritten(archive, **{name: values})
    with pytest.raises(ValueError, match=r"points\.npz"):
        FixedPoints.load(archive)


def test_an_object_in_an_archive_is_not_unpickled(archive, tmp_path):
    rewritten(archive, xstar=np.array([[TouchesAFile(tmp_path / "marker")] * 3] * 5, object))
    with pytest.raises(ValueError, match=r"points\.npz"):
        FixedPoints.load(archive)
    assert not (tmp_path / "marker").exists()
    with np.load(archive, allow_pickle=True) as content:
        assert content["xstar"].shape == (5, 3)
    assert (tmp_path / "marker").exists(), "the forged array does nothing"


def test_points_in_the_order_of_fortran_are_read(archive):
    values = np.asfortranarray(np.arange(15.0).reshape(5, 3))
    rewritten(archive, xstar=values)
    np.testing.assert_array_equal(FixedPoints.load(archive).xstar, values)


def test_jacobians_of_zeros_are_read_however_well_they_are_packed(tmp_path):
    fps = FixedPoints(xstar=np.zeros((4, 1500)), J_xstar=np.zeros((4, 1500, 1500), np.float32))
    fps.save(tmp_path / "points.npz")
    assert fps.J_xstar.nbytes > 900 * (tmp_path / "points.npz").stat().st_size
    assert not FixedPoints.load(tmp_path / "points.npz").J_xstar.any()


def claiming(path, name, size):
    """Let an archive claim, in both of its places, that a member has this size."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(name)
        content, start = bytearray(path.read_bytes()), archive.start_dir
    entry = content.index(name.encode(), start) - 46
    content[entry + 24 : entry + 28] = size.to_bytes(4, "little")
    content[info.header_offset + 22 : info.header_offset + 26] = size.to_bytes(4, "little")
    path.write_bytes(content)


def peak_of_refusing(path):
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=path.name):
            FixedPoints.load(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.checks_input
def test_memory_is_bounded_by_what_a_file_can_hold(archive):
    n_rows = 1 << 26
    rewritten(archive, qstar=header(f"({n_rows},)"))
    claiming(archive, "qstar.npy", 8 * n_rows + 128)
    assert peak_of_refusing(archive) < MIB


@pytest.mark.checks_input
def test_bytes_that_two_members_share_are_not_unpacked_twice(archive):
    rewritten(archive, qstar=header("(4194304,)") + bytes(8 << 22))
    with zipfile.ZipFile(archive) as opened:
        entry = opened.getinfo("qstar.npy")
        for name in ("dq", "n_iters", "period", "cycle_id"):
            opened.getinfo(f"{name}.npy")
    content = archive.read_bytes()
    with zipfile.ZipFile(archive, "a") as opened:
        for name in ("dq", "n_iters"):
            info = opened.getinfo(f"{name}.npy")
            info.header_offset, info.CRC = entry.header_offset, entry.CRC
            info.compress_size, info.file_size = entry.compress_size, entry.file_size
        opened._didModify = True
    assert len(archive.read_bytes()) <= len(content) + 100
    assert peak_of_refusing(archive) < MIB


@pytest.mark.checks_input
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"xstar": np.zeros((2, 2), jnp.bfloat16)}, "`xstar` is of type bfloat16"),
        ({"xstar": np.zeros((2, 2), "M8[D]")}, "`xstar` is of type datetime64"),
        ({"cond_id": np.array([None])}, "`cond_id` is of type object"),
    ],
)
def test_what_could_not_be_read_is_not_written(tmp_path, fields, message):
    with pytest.raises(ValueError, match=f"FixedPoints.save: {message}"):
        FixedPoints(**fields).save(tmp_path / "new" / "points.npz")
    assert not (tmp_path / "new").exists()


# ---- records -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.checks_input
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("search", {"format": True}),
        ("search", {"format": 0}),
        ("search", {"format": "2"}),
        ("search", {"settings": None}),
        ("search", {"settings": {"keep_rows": True}}),
        ("search", {"digests": []}),
        ("search", {"environment": {"jax": ["0"]}}),
        ("chunk-000001", {"search": 1}),
        ("chunk-000001", {"points_sha256": None}),
        ("chunk-000001", {"rows_sha256": "x" * 64}),
        ("chunk-000001", {"first_row": -8}),
        ("chunk-000001", {"first_row": 8.0}),
        ("chunk-000001", {"n_rows": "4"}),
        ("chunk-000001", {"n_rows": 2**63}),
        ("chunk-000001", {"n_new": 5}),
        ("chunk-000001", {"random_state": 0}),
    ],
)
def test_records_that_no_search_writes_are_refused(folder, name, change):
    path = folder / f"{name}.json"
    write_record(path, read_record(path) | change)
    for read in (Search.load, lambda folder: Search.load_rows(folder, 1), search):
        with pytest.raises(ValueError, match=name):
            read(folder)


@pytest.mark.parametrize(
    "content",
    [
        b" " * (LARGEST_JSON + 1),
        b"[" * 100_000,
        b'{"content": {"a": NaN}, "sha256": ""}',
        b'{"content": {"a": 1e999}, "sha256": ""}',
        b'{"content": 1, "sha256": ""}',
        b"[]",
        b"\xff",
    ],
    ids=["large", "deep", "NaN", "infinite", "number", "list", "no text"],
)
def test_what_is_no_record_is_refused(folder, content):
    (folder / "search.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"search\.json"):
        Search.load(folder)


@pytest.mark.checks_input
def test_chunks_of_points_that_differ_are_refused(folder):
    """Each of them may be read, but not joined with the others."""
    points_path, path = folder / "chunk-000001.npz", folder / "chunk-000001.json"
    part = FixedPoints.load(points_path)
    for other in (
        part.replace(tol_unique=0.5),
        part.replace(inputs=np.zeros((part.n, 7), np.float32)),
        part.replace(qstar=None),
        part.replace(F_xstar=np.zeros((part.n, 7), np.float32)),
        FixedPoints(xstar=np.zeros((part.n, 3))),
    ):
        other.save(points_path)
        write_record(path, read_record(path) | {"points_sha256": digest_of_file(points_path)})
        with pytest.raises(ValueError, match=r"chunk-000001\.npz"):
            Search.load(folder)


# ---- rows --------------------------------------------------------------------------------------

UNPICKLING = {
    "a filter": {"filters": [{"id": "vlen-utf8"}, {"id": "pickle"}], "compressor": None},
    "the compressor": {"filters": [{"id": "vlen-utf8"}], "compressor": {"id": "pickle"}},
    "bytes": {"filters": [{"id": "vlen-bytes"}, {"id": "pickle"}], "compressor": None},
}


@pytest.mark.parametrize("codecs", UNPICKLING.values(), ids=UNPICKLING)
def test_a_store_of_an_older_format_is_not_unpickled(folder, tmp_path, monkeypatch, codecs):
    """Until version 0.16.5 numcodecs did so, as Zarr asked it to; later ones of both must be told.

    Nobody is safe who relies on that: so they are told here.
    """
    zarr = pytest.importorskip("zarr")
    monkeypatch.setattr("numcodecs.pickles.ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)
    rows, marker = folder / "rows.zarr", tmp_path / "marker"
    shutil.rmtree(rows)
    (rows / "xstar").mkdir(parents=True)
    (rows / ".zgroup").write_text('{"zarr_format": 2}')
    array = {"zarr_format": 2, "shape": [N_INITS], "chunks": [CHUNK], "dtype": "|O", "order": "C"}
    (rows / "xstar" / ".zarray").write_text(json.dumps(array | {"fill_value": None} | codecs))
    (rows / "xstar" / "0").write_bytes(pickle.dumps(TouchesAFile(marker)))
    with zarr.config.set({"array.allow_unsafe_pickle_decode": True}):
        for read in (lambda: Search.load_rows(folder, 0), search(folder).run):
            with pytest.raises(ValueError, match=r"rows\.zarr"):
                read()
        assert not marker.exists()
        with warnings.catch_warnings(), contextlib.suppress(TypeError):  # of what comes out of it
            warnings.simplefilter("ignore")
            zarr.open_group(rows, mode="r")["xstar"][:CHUNK]
    assert marker.exists(), "the forged store does nothing"


ZSTD = {"name": "zstd", "configuration": {"level": 0, "checksum": False}}
FORGED_ARRAYS = [
    {"zarr_format": 2},
    {"node_type": "group"},
    {"data_type": "string", "codecs": [{"name": "vlen-utf8"}, ZSTD]},
    {"data_type": "float64"},
    {"data_type": {"name": "numpy.datetime64", "configuration": {}}},
    {"codecs": [{"name": "bytes"}, {"name": "numcodecs.pickle", "configuration": {}}]},
    {"codecs": [{"name": "bytes"}, {"name": "blosc", "configuration": {}}]},
    {"codecs": [{"name": "bytes", "configuration": {"endian": "big"}}, ZSTD]},
    {"codecs": [{"name": "sharding_indexed", "configuration": {}}]},
    {"codecs": [{"name": "bytes"}, ZSTD, ZSTD]},
    {"codecs": [{"name": "bytes"}]},
    {"shape": [N_INITS, 4]},
    {"shape": [True, N_STATES]},
    {"shape": [10**30, N_STATES]},
    {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [0, N_STATES]}}},
    {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [CHUNK, 10**9]}}},
    {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [10**9, N_STATES]}}},
    {"chunk_key_encoding": {"name": "v2", "configuration": {"separator": "."}}},
    {"fill_value": 1.0},
    {"fill_value": "NaN"},
    {"attributes": {"a": 1}},
    {"storage_transformers": [{"name": "x"}]},
]


@pytest.mark.checks_input
@pytest.mark.parametrize("change", FORGED_ARRAYS, ids=json.dumps)
def test_arrays_that_no_search_writes_are_refused(folder, change):
    rows = Search.load_rows(folder, 0)
    path = folder / "rows.zarr" / "xstar" / "zarr.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | change))
    with within(10), pytest.raises(ValueError, match=r"rows\.zarr"):
        RowStore(folder).write(0, rows, CHUNK)
    for read in (lambda: Search.load_rows(folder, 0), search(folder).run):
        with pytest.raises(ValueError, match=r"rows\.zarr"):
            read()


@pytest.mark.checks_input
def test_rows_are_dropped_that_are_ahead_but_not_more_than_can_be(folder):
    rows, path = Search.load_rows(folder, 0), folder / "rows.zarr" / "xstar" / "zarr.json"
    RowStore(folder).write(0, rows, CHUNK)
    array = json.loads(path.read_bytes())
    assert array["shape"] == [CHUNK, N_STATES]
    path.write_text(json.dumps(array | {"shape": [10**8, N_STATES]}))
    with within(10), pytest.raises(ValueError, match="claims 100000000 rows, but 8 are known"):
        RowStore(folder).write(0, rows, CHUNK)


def test_arrays_described_by_their_group_are_refused(folder):
    path = folder / "rows.zarr" / "zarr.json"
    inner = {"kind": "inline", "must_understand": False, "metadata": {}}
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"consolidated_metadata": inner}))
    with pytest.raises(ValueError, match=r"rows\.zarr/zarr\.json"):
        Search.load_rows(folder, 0)


def test_a_chunk_that_is_larger_than_the_search_takes_no_more_than_it(folder):
    """Files of earlier versions have a piece of the chunk's size there."""
    rows = Search.load_rows(folder, 0)
    for chunk in (10**12, CHUNK):
        store = RowStore(folder / str(chunk))
        for _ in range(2):
            digest = store.write(0, rows[:5], chunk)
        assert leaves_equal(store.read(0, 5, digest, like=rows), rows[:5])
    path = folder / str(CHUNK) / "rows.zarr"
    shutil.rmtree(path)
    shutil.copytree(folder / "rows.zarr", path)
    store.write(0, rows[:5], CHUNK)
    assert json.loads((path / "xstar" / "zarr.json").read_bytes())["shape"] == [5, N_STATES]


def claim(folder, n_rows, keep):
    """Let all arrays, and the record of the first chunk, claim that it has so many rows."""
    for path in (folder / "rows.zarr").glob("*/zarr.json"):
        array = json.loads(path.read_bytes())
        array["shape"][0] = array["chunk_grid"]["configuration"]["chunk_shape"][0] = n_rows
        path.write_text(json.dumps(array))
    for path in (folder / "rows.zarr").glob("*/c"):
        if not keep:
            shutil.rmtree(path)
    record = read_record(folder / "chunk-000000.json") | {"n_rows": n_rows}
    write_record(folder / "chunk-000000.json", record)


@pytest.mark.checks_input
@pytest.mark.parametrize("keep", [True, False])
def test_rows_that_the_files_cannot_hold_are_refused_before_memory_is_taken(folder, keep):
    claim(folder, 10**8, keep)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"rows\.zarr.*claim to hold 5800000000"):
            Search.load_rows(folder, 0)
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()


@pytest.mark.checks_input
def test_a_piece_that_unpacks_to_more_than_its_rows_is_refused(folder):
    piece = folder / "rows.zarr" / "qstar" / "c" / "0"
    piece.write_bytes(packed(np.zeros(1 << 25, np.float32)))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"rows\.zarr/qstar/c/0' is damaged"):
            Search.load_rows(folder, 0)
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()


def test_rows_of_zeros_and_a_last_chunk_of_one_row_are_read(tmp_path, monkeypatch):
    """Zarr fills the last chunk up to 4096 rows, 2000 times what it has to store."""
    pytest.importorskip("zarr")
    monkeypatch.setattr("slowpoints._storage.row_store.SMALL", 0)
    store, n = RowStore(tmp_path), 4096

    def rows(n, alike=False):
        x = np.random.default_rng(0).normal(size=(n, 20)).astype(np.float32)
        x = np.zeros_like(x) if alike else x
        q = np.zeros(n, np.float32)
        counts, valid = np.zeros(n, np.int32), np.zeros(n, bool)
        inputs = np.zeros((n, 2), np.float32)
        return FixedPoints(x, x, x, inputs, q, q, counts, valid=valid)

    for first, part in ((0, rows(n)), (n, rows(1))):
        digest = store.write(first, part, n)
        read = store.read(first, first + part.n, digest, like=part)
        np.testing.assert_array_equal(read.xstar, part.xstar)
    with pytest.raises(ValueError, match="Where rows are so much alike, make `chunk` smaller"):
        RowStore(tmp_path / "alike").write(0, rows(n, alike=True), n)


# ---- links, FIFOs and folders ------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "search.json",
        "chunk-000000.json",
        "chunk-000000.npz",
        "rows.zarr/zarr.json",
        "rows.zarr/xstar/zarr.json",
        "rows.zarr/xstar/c/0/0",
    ],
)
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_regular_file_is_refused_at_once(folder, name, make):
    (folder / name).unlink()
    make(folder / name)
    with within(10), pytest.raises(ValueError, match=Path(name).name):
        Search.load_rows(folder, 0)
    with within(10), pytest.raises(ValueError, match=Path(name).name):
        search(folder).run()
    if name.endswith("npz"):
        with within(10), pytest.raises(ValueError, match="not a regular file"):
            FixedPoints.load(folder / name)


@pytest.mark.parametrize("name", ["rows.zarr", "rows.zarr/xstar", "rows.zarr/xstar/c"])
def test_rows_behind_a_link_are_neither_read_nor_written(folder, tmp_path, name):
    rows, elsewhere = Search.load_rows(folder, 0), tmp_path / "elsewhere"
    (folder / name).rename(elsewhere)
    (folder / name).symlink_to(elsewhere)
    before = {path: path.read_bytes() for path in elsewhere.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"rows\.zarr.* symbolic link"):
        Search.load_rows(folder, 0)
    with pytest.raises(ValueError, match=r"rows\.zarr.* symbolic link"):
        RowStore(folder).write(0, rows, CHUNK)
    after = {path: path.read_bytes() for path in elsewhere.rglob("*") if path.is_file()}
    assert before == after


def test_a_linked_directory_is_a_directory(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    assert Search.load_rows(tmp_path / "link", 0).n == CHUNK


@pytest.mark.parametrize(
    "make", [lambda path, to: path.symlink_to(to), lambda path, _: path.mkdir()]
)
def test_a_lock_that_is_no_file_is_refused(folder, tmp_path, make):
    precious = tmp_path / "precious"
    precious.write_text("content")
    (folder / "lock").unlink()
    make(folder / "lock", precious)
    with pytest.raises(ValueError, match=r"lock' is not a regular file"):
        search(folder).run()
    assert precious.read_text() == "content"


def test_a_lock_is_neither_waited_for_nor_emptied(folder):
    (folder / "lock").write_text("content")
    search(folder).run()
    assert (folder / "lock").read_text() == "content"
    (folder / "lock").unlink()
    os.mkfifo(folder / "lock")
    with within(20), pytest.raises(ValueError, match=r"lock' is not a regular file"):
        search(folder).run()


def test_nothing_is_written_through_a_link(tmp_path):
    """Whatever the names of what a search writes are linked to, that stays as it is."""
    precious = tmp_path / "precious"
    precious.write_text("content")
    folder = tmp_path / "search"
    folder.mkdir()
    for name in ("chunk-000000.npz", "left-over.tmp", "search.json.tmp"):
        (folder / name).symlink_to(precious)
    (folder / "folder.tmp").mkdir()
    assert search(folder, keep_rows=False).run() == 2
    precious_links = [path.name for path in folder.iterdir() if path.is_symlink()]
    assert (precious.read_text(), precious_links) == ("content", [])


def test_a_name_that_is_taken_is_not_written_to(tmp_path, monkeypatch):
    monkeypatch.setattr("secrets.token_hex", lambda n: "0")
    precious = tmp_path / "precious"
    precious.write_text("content")
    (tmp_path / "file.0.tmp").symlink_to(precious)
    with pytest.raises(FileExistsError), replaced(tmp_path / "file"):
        pass
    assert precious.read_text() == "content" and (tmp_path / "file.0.tmp").is_symlink()
