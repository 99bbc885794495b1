"""Files that somebody made up: each is read, or refused with its name, and none runs code."""

import contextlib
import io
import json
import random
import resource
import shutil
import signal
import time
import tracemalloc
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from slowpoints import FixedPoints, LevenbergMarquardt, Search
from slowpoints.records import digest_of_file, digest_of_record, read_record
from slowpoints.row_store import SMALL

N_INITS, CHUNK, N_STATES = 12, 8, 3
CHUNKS = ("chunk-000000", "chunk-000001")
MIB = 1 << 20
COMPILED = 256 * MIB  # what programs take that JAX compiles for arrays of new shapes


def search(directory, **settings):
    """Return a search of two chunks, the second of which is not full."""
    states = np.random.default_rng(0).normal(size=(4, 5, N_STATES)).astype(np.float32)
    settings = {"n_inits": N_INITS, "chunk": CHUNK, "keep_rows": True, "mesh": None} | settings
    return Search(
        lambda x, u: 0.5 * x,
        states,
        np.zeros(2, np.float32),
        directory=directory,
        solver=LevenbergMarquardt(),
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
    )


class TouchesAFile:
    """Makes the file `marker` when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@contextlib.contextmanager
def within(seconds):
    """Raise an error in what takes longer, such as waiting for the writer of a FIFO."""

    def stop(*_):
        raise TimeoutError

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


@pytest.mark.checks_input
@pytest.mark.parametrize(
    "n", [300, pytest.param(10_000, marks=pytest.mark.slow)], ids=["some", "ten thousand"]
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
