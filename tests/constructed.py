"""Networks of many units whose fixed points and slow points are known by construction.

All are of one class, with all that differs in its leaves, so that a search of a second network of
the same size compiles nothing. The references are written in NumPy, in float64, and share no code
with the library. They take the weights as they were rounded to float32, so that what is known is
exact for the network that is searched.
"""

import dataclasses
from functools import cache, cached_property, partial

import jax
import jax.numpy as jnp
import networks
import numpy as np
from threadpoolctl import threadpool_limits

from slowpoints import Transition, optimize_batch

SIZE = 96
"""States of the networks in the quick tests: beyond 64, where dense linear algebra is no default"""

FOLD_INPUT = np.sqrt(2) - np.arcsinh(1)  # 0.5328399754
"""The input at which the two lower fixed points of `tanh(2 x + u)` meet, where its slope is 1."""

SAME_POINT = 1e-6
"""A row is at a fixed point if Newton's method moves it less than this times `sqrt(N)`.

In float32 states of size one are rounded by up to 6e-8 in each of `N` dimensions.
"""


# ---- one class for all -------------------------------------------------------------------------


class Units(Transition):
    """`Q g(Q^T x)` with `g(z) = linear z + gain tanh(W z + b) + square z^2 + shift`, unit by unit.

    `Q` is orthogonal. It hides which units do what.
    """

    Q: jax.Array  # [N, N]
    linear: jax.Array  # [N]
    gain: jax.Array  # [N]
    W: jax.Array  # [N, N]
    b: jax.Array  # [N]
    square: jax.Array  # [N]
    shift: jax.Array  # [N]

    def __call__(self, x, u):
        z = self.Q.T @ x
        z = self.linear * z + self.gain * jnp.tanh(self.W @ z + self.b) + self.square * z * z
        return self.Q @ (z + self.shift)


def units(n_states, *, rotated=False, **parts):
    """Return `Units` with some parts given, `gain` one, and all else zero."""
    zeros = np.zeros(n_states)
    values = dict.fromkeys(("linear", "b", "square", "shift"), zeros)
    values |= {"gain": zeros + 1, "W": np.zeros((n_states, n_states))} | parts
    values["Q"] = exact_rotation(n_states) if rotated else np.eye(n_states)
    return Units(**{name: jnp.asarray(value, jnp.float32) for name, value in values.items()})


def exact_rotation(n_states, seed=0):
    """Return an orthogonal matrix `[N, N]`, most of it not zero, that float32 holds exactly.

    It is a product of three Householder reflections `I - 2 v v^T / |v|^2`, each with a power of two
    of entries 1 or -1 in `v`, so that all entries are small integers divided by a power of two.
    """
    rng = np.random.default_rng(seed)
    size = 2 ** int(np.log2(n_states))
    Q = np.eye(n_states)
    for _ in range(3):
        v = np.zeros(n_states)
        v[rng.choice(n_states, size, replace=False)] = rng.choice([-1, 1], size)
        Q = Q @ (np.eye(n_states) - 2 / size * np.outer(v, v))
    return Q


# ---- references in float64 ---------------------------------------------------------------------


# Matrices of this size are too small to share out between threads: that takes longer.
_one_thread = threadpool_limits.wrap(limits=1)


class Reference:
    """`Units` in NumPy and float64, with Newton's method and Levenberg-Marquardt's."""

    def __init__(self, F):
        for field in dataclasses.fields(Units):
            setattr(self, field.name, np.asarray(getattr(F, field.name), float))
        self.n_states = self.b.size

    def next(self, x):
        """Return `F(x)` for states `[..., N]`."""
        z = x @ self.Q
        z = self.linear * z + self.gain * np.tanh(z @ self.W.T + self.b) + self.square * z * z
        return (z + self.shift) @ self.Q.T

    def speed(self, x):
        """Return `q` of states `[..., N]`."""
        return 0.5 * np.sum((self.next(x) - x) ** 2, axis=-1)

    def jacobian(self, x):
        """Return `dF/dx [N, N]` at one state."""
        z = self.Q.T @ x
        slope = self.gain / np.cosh(np.clip(self.W @ z + self.b, -300, 300)) ** 2
        inner = np.diag(self.linear + 2 * self.square * z) + slope[:, None] * self.W
        return self.Q @ inner @ self.Q.T

    @_one_thread
    def index(self, x):
        """Return how many eigenvalues are outside the unit circle at each of `x [n, N]`."""
        return np.array([np.sum(np.abs(np.linalg.eigvals(self.jacobian(row))) > 1) for row in x])

    @_one_thread
    def newton(self, x, n_steps=30, *, continuum=False):
        """Return where plain Newton's method takes each of `x [n, N]`, or NaN where it diverges.

        Args:
            x: the states to start from.
            n_steps: the most steps of a row.
            continuum: whether fixed points form a curve, along which `I - J` is singular. The step
                is then the shortest that solves the linear equation, not along the curve.
        """
        x = np.asarray(x, float)
        return np.reshape([self._newton(row, n_steps, continuum) for row in x], x.shape)

    def _newton(self, x, n_steps, continuum):
        for _ in range(n_steps):
            A, r = np.eye(self.n_states) - self.jacobian(x), self.next(x) - x
            try:
                # Singular values that are only rounding do not count.
                d = np.linalg.lstsq(A, r, 1e-12)[0] if continuum else np.linalg.solve(A, r)
            except np.linalg.LinAlgError:
                return np.full_like(x, np.nan)
            x = x + d
            if not np.linalg.norm(x) < 1e6:
                return np.full_like(x, np.nan)
            if np.linalg.norm(d) < 1e-13 * (1 + np.linalg.norm(x)):
                break
        return x

    @_one_thread
    def at_fixed_point(self, x, *, continuum=False):
        """Return `[n]` whether Newton's method finds a fixed point next to each of `x [n, N]`.

        It moves the state less than `SAME_POINT` says, and leaves a residual that is rounding.
        """
        x = np.asarray(x, float)
        # From as near as that, convergence takes a few steps.
        ends = self.newton(x, n_steps=8, continuum=continuum)
        moved = np.linalg.norm(ends - x, axis=1)
        rest = np.sqrt(2 * self.speed(ends))
        near = moved < SAME_POINT * np.sqrt(self.n_states)
        return near & (rest < 1e-11 * (1 + np.linalg.norm(ends, axis=1)))

    @_one_thread
    def minimise(self, x, n_iters=200):
        """Return where Levenberg-Marquardt's method takes each of `x [n, N]`, down in `q`."""
        x = np.asarray(x, float)
        return np.reshape([self._minimise(row, n_iters) for row in x], x.shape)

    def _minimise(self, x, n_iters):
        q, damping = self.speed(x), 1e-3
        for _ in range(n_iters):
            A, r = np.eye(self.n_states) - self.jacobian(x), self.next(x) - x
            gram = A.T @ A
            d = np.linalg.solve(gram + damping * np.eye(self.n_states), A.T @ r)
            q_new = self.speed(x + d)
            if q_new < q:
                x, q, damping = x + d, q_new, max(damping / 10, 1e-14)
            else:
                damping *= 10
            if damping > 1e12:  # no step lowers `q`, however short
                break
        return x


# ---- what is known of a network ----------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Known:
    """A network with what is known of it.

    Attributes:
        F: the network.
        points: `[k, N]` fixed points.
        complete: whether there are no others.
        slow: `[m, N]` slow points, or `None`.
        continuum: whether the fixed points form a curve, of which `points` is a sample.
        noise: the standard deviation of noise with which `around` starts searches; from there,
            plain Newton's method comes back to the point unless the point is at a fold.
    """

    F: Units
    points: np.ndarray
    complete: bool = False
    slow: np.ndarray | None = None
    continuum: bool = False
    noise: float = 0.01

    @cached_property
    def reference(self):
        return Reference(self.F)

    @cached_property
    def index(self):
        """`[k]` the number of eigenvalues outside the unit circle at each of `points`."""
        return self.reference.index(self.points)

    def around(self, n_rows, seed=0):
        """Return starts `[n_rows, N]` in float32 around fixed points and slow points in turn."""
        parts = [self.points] if self.slow is None else [self.points, self.slow]
        return around(np.concatenate(parts), n_rows, self.noise, seed)

    def distance(self, x):
        """Return `[n]` how far states `[n, N]` are from the nearest known fixed point."""
        return distances(x, self.points).min(axis=1)


def around(points, n_rows, noise, seed=0):
    """Return states `[n_rows, N]` in float32 around points `[k, N]` in turn."""
    points = points[np.arange(n_rows) % len(points)]
    return np.float32(points + noise * np.random.default_rng(seed).normal(size=points.shape))


def distances(x, points):
    """Return the distances `[n, k]` of states `[n, N]` from points `[k, N]`."""
    return np.linalg.norm(np.asarray(x, float)[:, None] - points, axis=-1)


def _exact(F, points, within):
    """Return what Newton's method makes of points that are known up to the rounding of weights."""
    ends = Reference(F).newton(points)
    assert np.linalg.norm(ends - points, axis=1).max() < within
    assert Reference(F).speed(ends).max() < 1e-24
    return ends


# ---- stored patterns ---------------------------------------------------------------------------


def patterns(n_patterns, n_states=SIZE, *, rotated=False, seed=0):
    """Return `tanh(W x)` with `W = atanh(V) V^+`, which has fixed points at the columns of `V`.

    At `-V` and at 0 as well, since it is odd. Those of a single pattern are all there are: on the
    line of `W`'s range, `tanh` is concave. More patterns have mixed states besides.
    """
    rng = np.random.default_rng(seed)
    V = rng.choice([-1, 1], (n_states, n_patterns)) * rng.uniform(0.4, 0.9, (n_states, n_patterns))
    F = units(n_states, rotated=rotated, W=np.arctanh(V) @ np.linalg.pinv(V))
    points = np.vstack([V.T, -V.T, np.zeros((1, n_states))]) @ np.asarray(F.Q, float).T
    # The weights are rounded by 6e-8 of their size, which is below 1 in the sum over a row.
    return Known(F, _exact(F, points, 1e-4), complete=n_patterns == 1)


def saturated(n_states=SIZE, *, leak=1.0, gain=20.0, seed=1):
    """Return `(1 - leak) x + leak tanh(W x)` with three patterns of saturated units.

    `W = gain X X^T / N` with `X` of entries 1 and -1. In the stored patterns and their opposites,
    units differ from 1 and -1 by less than float32 resolves, and the Jacobian is `(1 - leak) I`.
    """
    X = np.random.default_rng(seed).choice([-1.0, 1.0], (n_states, 3))
    parts = {"linear": np.full(n_states, 1 - leak), "gain": np.full(n_states, leak)}
    F = units(n_states, W=gain / n_states * X @ X.T, **parts)
    points = np.vstack([X.T, -X.T])
    # The overlaps of the patterns leave each unit an input of at least 10.
    return Known(F, _exact(F, points, 1e-6), noise=0.1)


# ---- many small networks in one ----------------------------------------------------------------


PAIR = 1.4 * np.eye(2) + 0.1
"""The weights of a pair of units that are bistable each, `tanh(1.4 x + 0.1 sum(x))`."""


@cache
def pair_points():
    """Return the nine fixed points `[9, 2]` of one pair of units, and their index `[9]`."""
    w = np.float64(np.float32(PAIR))
    x = np.stack(np.meshgrid(*[np.linspace(-1, 1, 21)] * 2), axis=-1).reshape(-1, 2)
    for _ in range(100):  # Newton's method
        y = np.tanh(x @ w)
        A = np.eye(2) - (1 - y**2)[:, :, None] * w
        x = x + np.linalg.solve(A, (y - x)[:, :, None])[:, :, 0]
    points = x[np.sort(np.unique(np.round(x, 6), axis=0, return_index=True)[1])]
    assert points.shape == (9, 2)
    slopes = (1 - np.tanh(points @ w) ** 2)[:, :, None] * w
    return points, np.sum(np.abs(np.linalg.eigvals(slopes)) > 1, axis=1)


@dataclasses.dataclass(frozen=True)
class KnownPairs(Known):
    """Copies of one network of two units, so that the fixed points are all combinations of its."""

    def distance(self, x):
        nine, _ = pair_points()
        z = np.asarray(x, float) @ np.asarray(self.F.Q, float)
        in_pairs = np.linalg.norm(z.reshape(len(z), -1, 1, 2) - nine, axis=-1).min(axis=2)
        return np.linalg.norm(in_pairs, axis=1)


def pairs(n_points, n_states=SIZE, *, rotated=False, seed=0):
    """Return `N / 2` copies of `tanh(1.4 x + 0.1 sum(x))`, with some of its `9^(N / 2)` points."""
    nine, index = pair_points()
    rng = np.random.default_rng(seed)
    choice = rng.integers(9, size=(n_points, n_states // 2))
    F = units(n_states, rotated=rotated, W=np.kron(np.eye(n_states // 2), PAIR))
    points = nine[choice].reshape(n_points, n_states) @ np.asarray(F.Q, float).T
    known = KnownPairs(F, _exact(F, points, 1e-10), complete=True)
    np.testing.assert_array_equal(known.index, index[choice].sum(axis=1))
    return known


# ---- one unit that makes the points, and many that follow it -----------------------------------


def followers(n_states, rotated, first, seed=2, **parts):
    """Return a network whose first unit is on its own, and drives all others.

    The others are `tanh` units with a contracting Jacobian (its norm is below 0.7), so that each
    fixed point of the first unit gives one of the network; and so do slow points, since the others
    can have a residual of zero at any state of the first.

    Args:
        n_states: how many units there are in all.
        rotated: whether the units are hidden.
        first: the states `[k]` of the first unit that are asked for.
        seed: of the weights.
        parts: of the network; `{name: value of the first unit}`.

    Returns:
        The network, and its states `[k, N]` where the others are at rest.
    """
    rng = np.random.default_rng(seed)
    W = 0.3 / np.sqrt(n_states) * rng.normal(size=(n_states, n_states))
    W[:, 0] = 0.1 * rng.normal(size=n_states)
    W[0] = 0
    W[0, 0] = parts.pop("W", 0.0)
    values = {"W": W}
    for name, value in parts.items():
        values[name] = np.full(n_states, 1.0 if name == "gain" else 0.0)
        values[name][0] = value
    F = units(n_states, rotated=rotated, **values)
    W = np.asarray(F.W, float)
    z = np.zeros((len(first), n_states))
    for _ in range(200):
        z = np.tanh(z @ W.T)
        z[:, 0] = first
    return F, z @ np.asarray(F.Q, float).T


def fold(d, n_states=SIZE, *, rotated=False):
    """Return a network whose first unit, `tanh(2 x + u)`, is at a distance `d` from its fold.

    For `d > 0` it has three fixed points, of which the lower two are `1.7 sqrt(d)` apart. For
    `d < 0` the upper one is left, and where the others met is a slow point with `q = d^2 / 8`.
    """
    u = np.float64(np.float32(FOLD_INPUT - d))
    low, high = (-np.arcsinh(1) - u) / 2, (np.arcsinh(1) - u) / 2  # where the slope is 1

    def root(a, b):
        rises = np.tanh(2 * b + u) - b > 0
        for _ in range(80):
            middle = (a + b) / 2
            a, b = (a, middle) if (np.tanh(2 * middle + u) > middle) == rises else (middle, b)
        return (a + b) / 2

    states = [root(-1, low), root(low, high), root(high, 1)] if d > 0 else [root(high, 1), low]
    F, x = followers(n_states, rotated, states, W=2.0, b=u)
    split = 3 if d > 0 else 1
    return Known(F, x[:split], complete=True, slow=x[split:], noise=0.05 * np.sqrt(abs(d)))


def parabola(d, n_states=SIZE, *, scale=1.0, rotated=False):
    """Return a network whose first unit is `x + scale (x^2 + d)`.

    For `d < 0` it has two fixed points, at `sqrt(-d)` and minus that. For `d > 0` it has none, and
    a slow point at 0 with `q = (scale d)^2 / 2`.
    """
    scale, product = (np.float64(np.float32(value)) for value in (scale, scale * d))
    root = np.sqrt(max(-product / scale, 0.0))
    parts = {"linear": 1.0, "gain": 0.0, "square": scale, "shift": product}
    F, x = followers(n_states, rotated, [-root, root] if d < 0 else [0.0], **parts)
    split = 2 if d < 0 else 0
    noise = 0.05 * np.sqrt(abs(d))
    return Known(F, x[:split], complete=True, slow=x[split:], noise=noise)


def drift(speed=1e-5, n_states=SIZE, *, rotated=False):
    """Return a network whose first unit is `x + speed`, and states where the others are at rest.

    It has no fixed point. Every one of the states has `q = speed^2 / 2`, the least there is.
    """
    parts = {"linear": 1.0, "gain": 0.0, "shift": speed}
    F, x = followers(n_states, rotated, np.linspace(-1, 1, 16), **parts)
    return Known(F, x[:0], complete=True, slow=x)


def tail(n_states=SIZE, *, rotated=False):
    """Return a network whose first unit is `x + 1 - tanh(x)`: `q` falls without end as it grows."""
    parts = {"linear": 1.0, "gain": -1.0, "W": 1.0, "shift": 1.0}
    F, x = followers(n_states, rotated, [0.0], **parts)
    return Known(F, x[:0], complete=True)


def doubling(n_states=SIZE):
    """Return `2 x`, whose one fixed point is 0, with all eigenvalues 2."""
    zeros = np.zeros(n_states)
    F = units(n_states, gain=zeros, linear=zeros + 2)
    return Known(F, zeros[None], complete=True, noise=1.0)


# ---- continuous attractors ---------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class KnownLine(Known):
    """A network whose first unit keeps its state, so that its fixed points form a line."""

    def distance(self, x):
        z = np.asarray(x, float) @ np.asarray(self.F.Q, float)
        on_line = z.copy()
        for _ in range(200):
            on_line = np.tanh(on_line @ np.asarray(self.F.W, float).T)
            on_line[:, 0] = z[:, 0]
        return np.linalg.norm(z - on_line, axis=1)


def line(n_states=SIZE, *, rotated=False):
    """Return a line attractor: one fixed point for each state of the first unit."""
    F, x = followers(n_states, rotated, np.linspace(-1, 1, 16), linear=1.0, gain=0.0)
    return KnownLine(F, x, complete=True, continuum=True)


@dataclasses.dataclass(frozen=True)
class KnownRing(Known):
    """A network whose low speeds are at 0, and on a ring."""

    def distance(self, x):
        x = np.asarray(x, float)
        angles = ring_angles(x.shape[1])
        phase = np.arctan2(x @ np.sin(angles), x @ np.cos(angles))
        on_ring = ring_states(phase, x.shape[1])
        return np.minimum(np.linalg.norm(x - on_ring, axis=1), np.linalg.norm(x, axis=1))


RING_GAIN = 2.0


def ring_angles(n_states):
    return 2 * np.pi * np.arange(n_states) / n_states


def ring_states(phase, n_states):
    """Return the states `[n, N]` of the ring at phases `[n]`."""
    angles, size = ring_angles(n_states), 1.0
    for _ in range(200):
        size = 2 * np.mean(np.cos(angles) * np.tanh(RING_GAIN * size * np.cos(angles)))
    return np.tanh(RING_GAIN * size * np.cos(angles - phase[:, None]))


def ring(n_states=SIZE):
    """Return the ring attractor `tanh(W x)` with `W_ij = 2 gain cos(theta_i - theta_j) / N`.

    In exact arithmetic every phase is a fixed point, up to the harmonic `N` of `tanh`, which is far
    below float64's rounding. Rounding the weights leaves a speed of some 1e-8 along the ring.
    """
    angles = ring_angles(n_states)
    F = units(n_states, W=2 * RING_GAIN / n_states * np.cos(angles[:, None] - angles))
    points = ring_states(np.linspace(0, 2 * np.pi, 16, endpoint=False), n_states)
    assert Reference(F).speed(points).max() < 1e-13
    return KnownRing(F, points, continuum=True)


# ---- random networks ---------------------------------------------------------------------------


def random_network(n_states=SIZE, *, gain=3.0, seed=5):
    """Return `tanh(W x)` with independent normal weights, `gain / sqrt(N)` wide.

    Beyond a gain of 1 it is chaotic, and has very many fixed points, from most of which Newton's
    method is far away almost everywhere. Those that are known are found at a gain of 2, by dense
    Levenberg-Marquardt and Newton steps from random states, and followed to the gain by Newton
    steps as it grows. Since the network is odd, they come in pairs around the origin.
    """
    rng = np.random.default_rng(seed)
    W = rng.normal(size=(n_states, n_states)) / np.sqrt(n_states)
    start = Reference(units(n_states, W=2.0 * W))
    x = np.linspace(0.3, 1, 16)[:, None] * rng.uniform(-1, 1, (16, n_states))
    x = start.minimise(x, n_iters=30)
    x = x[start.speed(x) < 1e-3]
    F = units(n_states, W=gain * W)
    for step in np.linspace(2.0, gain, 21):
        x = Reference(F if step == gain else units(n_states, W=step * W)).newton(x, n_steps=10)
        x = x[np.isfinite(x).all(axis=1)]
    reference = Reference(F)
    x = np.vstack([np.zeros((1, n_states)), x[reference.speed(x) < 1e-24]])
    x = np.stack([x, -x], axis=1).reshape(-1, n_states)
    apart = distances(x, x) > 1e-2
    points = x[[i for i in range(len(x)) if apart[i, :i].all()]]
    assert len(points) >= 5
    return Known(F, points, noise=0.001)


# ---- searches of the quick tests ---------------------------------------------------------------

N_ROWS = 16
"""The rows of all searches, so that one compiled program serves a solver on all networks."""

NO_INPUT = np.zeros(0, np.float32)
# Adam is not expected to converge in so few iterations, only to return nothing that is not so.
SOLVERS = {  # the sequential Adam takes the same steps as the joint one
    name: (solver, {"max_iters": 300} if name == "adam" else {})
    for name, solver in networks.SOLVERS.items()
    if name != "adam_sequential"
}
NETWORKS = {
    "one_pattern": partial(patterns, 1),
    "three_patterns": partial(patterns, 3, rotated=True),
    "saturated": saturated,
    "saturated_leaky": partial(saturated, leak=0.2),
    "pairs": partial(pairs, N_ROWS),
    "pairs_rotated": partial(pairs, N_ROWS, rotated=True, seed=1),
    "before_fold": partial(fold, 1e-3, rotated=True),
    "past_fold": partial(fold, -1e-3),
    "close_roots": partial(parabola, -1e-8),
    "ghost": partial(parabola, 1e-4, scale=0.1, rotated=True),
    "drift": partial(drift, rotated=True),
    "doubling": doubling,
    "line": partial(line, rotated=True),
    "ring": ring,
    "random": random_network,
}
CLEAR = [
    "one_pattern",
    "three_patterns",
    "saturated",
    "saturated_leaky",
    "pairs",
    "pairs_rotated",
    "before_fold",
    "close_roots",
    "doubling",
    "random",
]
"""Those with points in whose basin of Newton's method `Known.around` surely is."""


@cache
def known(network):
    return NETWORKS[network]()


@cache
def starts(network):
    """Return half of the rows around what is known, and half anywhere in the cube of states."""
    rng = np.random.default_rng(5)
    half = N_ROWS // 2
    anywhere = rng.uniform(-1, 1, (half, SIZE)) * np.linspace(0.1, 1, half)[:, None]
    return np.concatenate([known(network).around(half), np.float32(anywhere)])


def search(name, F, x, **settings):
    """Search by the name of a solver, with the settings that it has here."""
    solver, own = SOLVERS[name]
    return optimize_batch(F, x, NO_INPUT, solver=solver, **(own | settings))
