"""Networks and maps whose fixed points are known, for all tests."""

from contextlib import contextmanager
from functools import cache
from pathlib import Path

import brainpy as bp
import brainpy.math as bm
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from slowpoints import Adam, LevenbergMarquardt, NewtonKrylov, Transition, find_fixed_points

SOLVERS = {
    "default": None,
    "levenberg_marquardt": LevenbergMarquardt(),
    "newton_krylov": NewtonKrylov(),
    "adam": Adam(),
    "adam_sequential": Adam(joint=False),
}
CELLS = ("tanh", "gru", "lstm")
INDEX_COUNTS = {0: 8, 1: 12, 2: 6, 3: 1}
"""How many of the 27 fixed points of each trained network have how many unstable directions."""

_FILES = {
    "tanh": "flipflop3_tanh_16_s0.npz",
    "gru": "flipflop3_gru_16_s1.npz",
    "lstm": "flipflop3_lstm_16_s2.npz",
    "tanh_4": "flipflop3_tanh_4_s42.npz",
    "tanh_6": "flipflop4_tanh_6_s42.npz",
}


# ---- the trained networks of tests/cases -------------------------------------------------------


@cache
def case(cell):
    """Return the arrays of a trained network, by name: see `tests/cases/README.md`."""
    with np.load(Path(__file__).parent / "cases" / _FILES[cell]) as archive:
        return dict(archive)


class Gated(Transition):
    """Weights of a recurrent network with `G` gates; they multiply from the right."""

    Wi: jax.Array  # [G, inputs, units]
    Wh: jax.Array  # [G, units, units]
    b: jax.Array  # [G, units]

    def drive(self, g, h, u):
        return u @ self.Wi[g] + h @ self.Wh[g] + self.b[g]


class TanhNet(Gated):
    def __call__(self, x, u):
        return jnp.tanh(self.drive(0, x, u))


class GRUNet(Gated):
    def __call__(self, x, u):
        r, z = (jax.nn.sigmoid(self.drive(g, x, u)) for g in (0, 1))
        n = jnp.tanh(self.drive(2, r * x, u))
        return (1 - z) * n + z * x


class LSTMNet(Gated):
    def __call__(self, x, u):
        h, c = jnp.split(x, 2)
        i, f, g, o = (self.drive(gate, h, u) for gate in range(4))
        c = jax.nn.sigmoid(f + 1) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jnp.concatenate([jax.nn.sigmoid(o) * jnp.tanh(c), c])


class LeakyNet(Gated):
    alpha: jax.Array  # []

    def __call__(self, x, u):
        return (1 - self.alpha) * x + self.alpha * jnp.tanh(self.drive(0, x, u))


def trained(cell):
    """Return a trained network as a `Transition`."""
    cls = {"gru": GRUNet, "lstm": LSTMNet}.get(cell, TanhNet)
    return cls(*(jnp.asarray(case(cell)[name]) for name in ("Wi", "Wh", "b")))


@cache
def found_in(cell, n=2048):
    """Return the points that a search finds in a trained network, in float32, with Jacobians."""
    traj = case(cell)["traj"]
    rng = np.random.default_rng(0)
    states = traj.reshape(-1, traj.shape[-1])[rng.integers(0, 4096, n)]
    starts = np.float32(states + 0.5 * rng.standard_normal(states.shape))
    zeros = np.zeros(case(cell)["Wi"].shape[1], np.float32)
    fps, _ = find_fixed_points(trained(cell), starts, zeros, decompose_jacobians=False, mesh=None)
    return fps.to_numpy().replace(valid=None)


@cache
def field_case(name):
    """Return the arrays of a network of `tests/cases/field`, by the name of its file."""
    with np.load(Path(__file__).parent / "cases" / "field" / f"{name}.npz") as archive:
        return dict(archive)


def field_network(name):
    """Return a network of `tests/cases/field` as a `Transition`."""
    arrays = field_case(name)
    cls = {"tanh": TanhNet, "gru": GRUNet, "leaky": LeakyNet}[str(arrays["cell"])]
    leaves = ("Wi", "Wh", "b", "alpha") if cls is LeakyNet else ("Wi", "Wh", "b")
    return cls(*(jnp.asarray(arrays[leaf]) for leaf in leaves))


def field_starts(name, n=128):
    """Return the states `[n, N]` from which its known points were found: see the cases' README."""
    rng = np.random.RandomState(0)
    visited = field_case(name)["traj"]
    visited = visited.reshape(-1, visited.shape[-1])
    chosen = visited[rng.choice(len(visited), n, replace=False)]
    return np.float32(chosen + 0.1 * rng.randn(*chosen.shape))


class FlipFlop(bp.DynamicalSystem):
    """A trained network, written as BrainPy's users write one."""

    def __init__(self, cell):
        super().__init__()
        self.cell = cell
        self.Wi, self.Wh, self.b = (bm.Variable(case(cell)[name]) for name in ("Wi", "Wh", "b"))

    def drive(self, g, u, h):
        return u @ self.Wi.value[g] + h @ self.Wh.value[g] + self.b.value[g]

    def __call__(self, inputs, hidden):
        u = inputs[:, 0, :]
        if self.cell == "tanh":
            h_next = jnp.tanh(self.drive(0, u, hidden))
        elif self.cell == "gru":
            r, z = (jax.nn.sigmoid(self.drive(g, u, hidden)) for g in (0, 1))
            h_next = (1 - z) * jnp.tanh(self.drive(2, u, r * hidden)) + z * hidden
        else:
            h, c = jnp.split(hidden, 2, axis=-1)
            i, f, g, o = (self.drive(gate, u, h) for gate in range(4))
            c = jax.nn.sigmoid(f + 1) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h_next = jnp.concatenate([jax.nn.sigmoid(o) * jnp.tanh(c), c], axis=-1)
        return h_next[:, None, :], h_next


# ---- maps with fixed points in closed form -----------------------------------------------------


class Affine(Transition):
    """`A x + B u`: the one fixed point is `(I - A)^-1 B u`."""

    A: jax.Array
    B: jax.Array

    def __call__(self, x, u):
        return self.A @ x + self.B @ u


class OneOf(Transition):
    """One of several maps `f(p, x)`, by its number, so that all share one compiled search."""

    maps: tuple = eqx.field(static=True)
    which: jax.Array
    p: jax.Array

    def __call__(self, x, u):
        return jax.lax.switch(self.which, self.maps, self.p, x)


def _logistic(r, x):
    return r * x * (1 - x)


def _fading(p, x):
    return x + jnp.exp(-x)


def _square_root(p, x):
    return jnp.sqrt(x)


def _double_well(p, x):
    return jnp.stack([x[0] + x[0] * (1 - x[0] ** 2) / 2, x[1] / 2])


def _henon(p, x):
    return jnp.stack([1 - p[0] * x[0] ** 2 + x[1], p[1] * x[0]])


def _in_one_dimension(which, p=0.0):
    return OneOf((_logistic, _fading, _square_root), jnp.int32(which), jnp.float32(p))


def _in_two_dimensions(which, p=(0.0, 0.0)):
    return OneOf((_double_well, _henon), jnp.int32(which), jnp.asarray(p, jnp.float32))


def logistic(r):
    """Return `r x (1 - x)`: fixed points 0 and `1 - 1/r`, with slopes `r` and `2 - r`."""
    return _in_one_dimension(0, r)


def fading():
    """Return `x + exp(-x)`: no fixed point, though `q` passes below any threshold."""
    return _in_one_dimension(1)


def square_root():
    """Return `sqrt(x)`: fixed points 0, where the slope is infinite, and 1; NaN below 0."""
    return _in_one_dimension(2)


def double_well():
    """Return a map with a saddle at the origin, and stable points at `(-1, 0)` and `(1, 0)`.

    It is `(x + x (1 - x^2) / 2, y / 2)`, with eigenvalues 3/2 and 1/2 at the saddle, and 1/2 and 0
    at the stable points.
    """
    return _in_two_dimensions(0)


WELL_POINTS = np.array([[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])


def henon(a=1.4, b=0.3):
    """Return the Hénon map, whose two fixed points are both saddles."""
    return _in_two_dimensions(1, (a, b))


def henon_points(a=1.4, b=0.3):
    root = np.sqrt((1 - b) ** 2 + 4 * a)
    x = np.array([(b - 1 - root) / (2 * a), (b - 1 + root) / (2 * a)])
    return np.stack([x, b * x], axis=1)


class DoubleWell(Transition):
    """`double_well` with an input of any dimension, of which the first element moves the state."""

    def __call__(self, x, u):
        first = x[0] + x[0] * (1 - x[0] ** 2) / 2
        return jnp.stack([first + u[0] if u.size else first, x[1] / 2])


class SigmoidNet(Transition):
    """Wilson & Cowan's units in discrete time: `sigmoid(W x - theta + u)`."""

    W: jax.Array
    theta: jax.Array

    def __call__(self, x, u):
        return jax.nn.sigmoid(self.W @ x - self.theta + u)


def sigmoid_extremum(w, theta, u):
    """Return where `x - F(x)` of one self-exciting unit has its lower extremum, and `q` there.

    The slope of `F` is 1 there. Where `x - F(x)` does not reach zero, `q` has a local minimum: the
    ghost of the two fixed points that met there.
    """
    s = (1 - np.sqrt(1 - 4 / w)) / 2  # the sigmoid's value where its slope `w s (1 - s)` is 1
    x = (np.log(s / (1 - s)) + theta - u) / w
    return x, 0.5 * (x - s) ** 2


# ---- compilation -------------------------------------------------------------------------------

_compiled = []


def _note(event, _duration, **_):
    if event.endswith("backend_compile_duration"):
        _compiled.append(event)


jax.monitoring.register_event_duration_secs_listener(_note)


@contextmanager
def compilations():
    """Yield a list that holds one element per program that was compiled inside of the `with`."""
    before, noted = len(_compiled), []
    yield noted
    noted += _compiled[before:]


# ---- references --------------------------------------------------------------------------------


def in_float64(F):
    """Return `F` with its weights in float64. Call it, and the result, with x64 enabled."""
    real = lambda leaf: jnp.issubdtype(leaf.dtype, jnp.floating)  # noqa: E731
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float64) if real(leaf) else leaf, F)


def newton_polish(F, x, u, n_steps=30):
    """Return where Newton's method in float64 takes each row of `x`, and the `q` there."""
    with jax.enable_x64(True):
        F, x, u = in_float64(F), jnp.asarray(x, jnp.float64), jnp.asarray(u, jnp.float64)

        @jax.jit
        @jax.vmap
        def newton_step(x, u):
            residual = F(x, u) - x
            return x - jnp.linalg.solve(jax.jacobian(F)(x, u) - jnp.eye(x.size), residual)

        for _ in range(n_steps):
            x = newton_step(x, u)
        q = 0.5 * jnp.sum((jax.vmap(F)(x, u) - x) ** 2, axis=1)
        return np.asarray(x), np.asarray(q)


def next_states(F, x, u):
    """Return `F(x, u)` row by row in float64."""
    with jax.enable_x64(True):
        x, u = jnp.asarray(x, jnp.float64), jnp.asarray(u, jnp.float64)
        return np.asarray(jax.vmap(in_float64(F))(x, u))


def index_counts(fps):
    """Return how many points have how many eigenvalues outside the unit circle."""
    index = np.sum(np.abs(np.asarray(fps.eigval_J_xstar)) > 1, axis=1)
    return dict(
        zip(*(column.tolist() for column in np.unique(index, return_counts=True)), strict=True)
    )


def leaves_equal(a, b):
    """Return whether two pytrees are the same to the bit, NaN included."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    same = (np.array_equal(np.asarray(x), np.asarray(y), equal_nan=True) for x, y in pairs)
    return jax.tree.structure(a) == jax.tree.structure(b) and all(same)


def leaves_close(a, b, atol=1e-6):
    """Return whether two pytrees are the same but for rounding, NaN included."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    close = [jnp.allclose(x, y, rtol=1e-5, atol=atol, equal_nan=True) for x, y in pairs]
    return jax.tree.structure(a) == jax.tree.structure(b) and all(close)


class LineOfNetworks(Transition):
    """A network whose weights are on a line."""

    W: jax.Array
    dW: jax.Array
    b: jax.Array

    def __call__(self, x, s):
        return jnp.tanh((self.W + s[0] * self.dW) @ x + self.b)


def random_line_of_networks(seed):
    """Return a network of two or three units."""
    rng = np.random.default_rng(seed)
    d, gain = 2 + seed % 2, rng.choice([0.8, 1.5, 2.5])
    b = rng.choice([0.01, 0.1, 0.5]) * rng.normal(size=d)
    with jax.enable_x64(True):
        return LineOfNetworks(*map(jnp.asarray, (*(gain * rng.normal(size=(2, d, d))), b)))
