"""`F_xstar`, `qstar` and Jacobians of every result belong to its own `xstar` and `inputs`."""

import inspect
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_checks import fast_compilation as fast_compilation

import slowpoints
from slowpoints import FixedPoints, Status

W = np.float32([[1.8, 0.3], [-0.2, 1.6]])
B = np.float32([[0.2], [-0.1]])
KEY = jax.random.key(0)
U = np.float32([0.3])
STARTS = np.random.default_rng(0).uniform(-1.2, 1.2, (64, 2)).astype(np.float32)
TRAJECTORIES = np.random.default_rng(1).uniform(-1, 1, (8, 10, 2)).astype(np.float32)


def F(x, u):
    return jnp.tanh(W.astype(x.dtype) @ x + B.astype(x.dtype) @ u)


def opposite(x, u):
    """A network with cycles of two steps."""
    return -F(x, u)


def relu(x, u):
    return jnp.maximum(0.0, W.astype(x.dtype) @ x / 4 + B.astype(x.dtype) @ u)


def along_a_line(x, u):
    """A line of slow points, along which states drift."""
    return jnp.stack([x[0] + 1e-4 * jnp.sin(x[0]), x[1] / 2 + 0 * u[0]])


def fed(x, u):
    """The same, with an input that moves states off the line."""
    return jnp.stack([x[0] + 1e-4 * jnp.sin(x[0]), x[1] / 2 + 0.1 * u[0]])


HIDDEN = slowpoints.PlotConfig(show=False)


def visited(F):
    return slowpoints.simulate(F, np.full((8, 20, 1), U[0]), 3 * TRAJECTORIES[:, 0])[:, 10:]


def of_a_line():
    _, points, line = slowpoints.plot_ring_attractor(fed, visited(fed), U, HIDDEN)
    return [points, line.points]


def of_contexts():
    states = visited(fed)
    trials = {"context": ["a"] * 8, "choice": np.sign(states[:, -1, 0])}
    _, points, lines = slowpoints.plot_context_integration(
        fed, states, {"a": U}, HIDDEN, evidence={"motion": states[:, 0, 1]}, **trials
    )
    return [points["a"], lines["a"].points]


def with_parameter(x, s):
    return jnp.tanh(s * (W.astype(x.dtype) @ x) + 1e-2)


FLOW = slowpoints.ContinuousTime(lambda x, u: F(x, u) - x)


def found(F=F, **settings):
    fps, _ = slowpoints.find_fixed_points(F, STARTS, U, **settings)
    return fps


def seen(F=F, **settings):
    return slowpoints.optimize_batch(F, STARTS, U, **settings)


def finder():
    tool = slowpoints.FixedPointFinder(F, verbose=False)
    return tool.find_fixed_points(TRAJECTORIES, U[None], n_inits=64)


def until():
    kept, rows, _ = slowpoints.search_until(F, TRAJECTORIES, U, coverage=0.5, max_rows=512, key=KEY)
    return kept, rows


def stored(folder):
    search = slowpoints.Search(
        F, TRAJECTORIES, U, directory=folder / "search", n_inits=64, chunk=32, keep_rows=True
    )
    search.run()
    return search.result()


def all_points(F, inputs=U):
    fps, _ = slowpoints.find_all(F, (np.full(2, -1.1), np.full(2, 1.1)), inputs)
    return fps


def branches():
    with jax.enable_x64(True):
        start, _ = slowpoints.find_fixed_points(
            with_parameter, STARTS.astype(float), np.ones((1, 1))
        )
        return slowpoints.continuation(with_parameter, start, (0.3, 1.2))


def on_branches():
    """At values of the parameter just beside and far from folds."""
    family = branches()
    folds = [event.s for event in family.events if event.kind == "fold"]
    assert folds
    near = [fold + side for fold in folds for side in (-1e-3, -1e-7, -1e-11, 1e-11, 1e-7, 1e-3)]
    return [family.at(s) for s in (0.3, 0.55, *near, 1.2)]


def turned(x, u):
    """A ring of slow points, along which states drift."""
    r = jnp.sqrt(x @ x)
    return x * (1 + (1 - r) / 2) + 1e-4 * jnp.stack([-x[1], x[0]]) + 0 * u[0]


def points_of_a_ring():
    t = np.random.default_rng(0).uniform(0, 2 * np.pi, 64)
    x = np.stack([np.cos(t), np.sin(t)], axis=1).astype(np.float32)
    return slowpoints.slow_manifold(turned, x, U, 1e-7).points


def low_rank():
    weights = np.random.default_rng(0).normal(size=(6, 2)) @ np.random.default_rng(1).normal(
        size=(2, 6)
    )
    return slowpoints.low_rank(np.float32(weights / 4), 2).reduced(jnp.tanh, B=np.ones((6, 1)))


def lifted():
    reduced = low_rank()
    starts = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
    fps, _ = slowpoints.find_fixed_points(reduced, starts, U)
    return reduced.lift(fps)


def saved(folder):
    found().save(folder / "points.npz")
    return FixedPoints.load(folder / "points.npz")


SOLVERS = {
    "Adam": slowpoints.Adam(),
    "LevenbergMarquardt": slowpoints.LevenbergMarquardt(),
    "NewtonKrylov": slowpoints.NewtonKrylov(),
    "KrylovTrustRegion": slowpoints.KrylovTrustRegion(),
    "KrylovTrustRegion, not polished": slowpoints.KrylovTrustRegion(polish=False),
    "BoundedNewton": slowpoints.BoundedNewton(),
}
ATTRACTORS = np.float32([[0.9, 0.85], [-0.9, -0.85]])
CASES = {
    "find_fixed_points": (F, lambda _: found()),
    "find_fixed_points, unfinished": (F, lambda _: found(max_iters=2, final_q_threshold=None)),
    "find_fixed_points, in the units of its states": (
        lambda x, u: 1e-5 * F(1e5 * x, u),
        lambda _: slowpoints.find_fixed_points(
            lambda x, u: 1e-5 * F(1e5 * x, u), 1e-5 * STARTS, U, tol_unique=1e-8
        ),
    ),
    "find_fixed_points, in continuous time": (FLOW, lambda _: found(FLOW)),
    **{
        f"optimize_batch, {name}": (F, lambda _, solver=solver: seen(solver=solver))
        for name, solver in SOLVERS.items()
    },
    "FixedPointFinder": (F, lambda _: finder()),
    "search_until": (F, lambda _: until()),
    "Search": (F, stored),
    "unique": (F, lambda _: slowpoints.unique(seen())),
    "unique, by certificate": (
        F,
        lambda _: slowpoints.unique(seen(), by="certificate", F=F, size=20),
    ),
    "select": (F, lambda _: slowpoints.select(F, slowpoints.unique(seen()))),
    "jacobians": (F, lambda _: slowpoints.jacobians(F, seen())),
    "decompose": (F, lambda _: slowpoints.decompose(slowpoints.jacobians(F, seen()))),
    "find_all": (F, lambda _: all_points(F)),
    "find_all of a contraction": (
        lambda x, u: F(x, u) / 4,
        lambda _: all_points(lambda x, u: F(x, u) / 4),
    ),
    "find_all, piecewise linear": (relu, lambda _: all_points(relu)),
    "find_cycles": (
        slowpoints.iterate(opposite, 2),
        lambda _: slowpoints.find_cycles(opposite, np.stack([STARTS, STARTS[::-1]], axis=1), U),
    ),
    "cycles": (
        slowpoints.iterate(opposite, 2),
        lambda _: slowpoints.cycles(opposite, found(slowpoints.iterate(opposite, 2)), 2),
    ),
    "continuation": (with_parameter, lambda _: on_branches()),
    "connections": (F, lambda _: slowpoints.connections(F, found()).points),
    "basin_boundary": (F, lambda _: slowpoints.basin_boundary(F, *ATTRACTORS, U).saddle),
    "slow_manifold": (
        along_a_line,
        lambda _: slowpoints.slow_manifold(along_a_line, 3 * STARTS, U, 1e-5),
    ),
    "line_attractor": (turned, lambda _: slowpoints.line_attractor(points_of_a_ring())),
    "plot_flip_flop": (
        F,
        lambda _: slowpoints.plot_flip_flop(F, visited(F), U, HIDDEN, dimensions=2)[1],
    ),
    "plot_ring_attractor": (fed, lambda _: of_a_line()),
    "plot_context_integration": (fed, lambda _: of_contexts()),
    "LowRank": (low_rank().full(), lambda _: lifted()),
    "FixedPoints": (
        F,
        lambda folder: [
            found()[::-1],
            found().sorted(),
            found().compact(),
            found().to_numpy(),
            found().get_unique(),
            found().decompose_jacobians(),
            FixedPoints.concatenate([found(), found()[:2]]),
            saved(folder),
        ],
    ),
}


def all_of(result):
    """Yield every `FixedPoints` in a result, however deep it is in there."""
    if isinstance(result, FixedPoints):
        yield result
        return
    parts = result if isinstance(result, (list, tuple)) else vars(result).values()
    for part in parts:
        if isinstance(part, (list, tuple, FixedPoints)):
            yield from all_of(part)


QUICK = ("find_fixed_points", "optimize_batch, Adam", "find_all", "LowRank")


@pytest.mark.one_in(2)
@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in CASES]
)
def test_what_is_told_of_a_point_belongs_to_it(name, tmp_path):
    network, call = CASES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # such as that rows are unfinished
        results = list(all_of(call(tmp_path)))
    assert results and sum(fps.n for fps in results) > 0
    network = slowpoints.as_transition(network)
    for fps in results:
        fps = fps.to_numpy()
        x, eps = fps.xstar, np.finfo(fps.xstar.dtype).eps
        u = np.asarray(fps.inputs, x.dtype)
        if not fps.n:
            continue
        with jax.enable_x64(x.dtype == np.float64):
            F_x = np.asarray(jax.vmap(network)(x, u))
            J = np.asarray(jax.vmap(jax.jacfwd(network))(x, u))
        J = J - np.eye(x.shape[1]) if fps.continuous_time else J
        counted = np.ones(fps.n, bool) if fps.valid is None else fps.valid
        size = np.abs(x).max()
        np.testing.assert_allclose(fps.F_xstar, F_x, rtol=0, atol=16 * eps * size)
        moved = (fps.F_xstar - x).astype(np.float64)
        q = np.sum(moved**2, axis=1) / 2
        np.testing.assert_allclose(fps.qstar, q, rtol=1e-4, atol=(16 * eps * size) ** 2)
        fixed = counted & (fps.status == Status.FIXED_POINT) if fps.status is not None else []
        assert np.all(np.abs(moved[fixed]) <= 1e-4 * size)
        if fps.J_xstar is not None:
            np.testing.assert_allclose(fps.J_xstar[counted], J[counted], rtol=0, atol=1e-4)
        if fps.eigval_J_xstar is not None:
            told, own = np.sort_complex(fps.eigval_J_xstar), np.sort_complex(np.linalg.eigvals(J))
            np.testing.assert_allclose(told[counted], own[counted], rtol=1e-3, atol=1e-3)


def test_every_function_that_returns_points_is_in_the_table():
    def speaks_of_points(function):
        return "FixedPoints" in str(getattr(function, "__annotations__", {}).get("return", ""))

    returned = set()
    for name in dir(slowpoints):
        thing = getattr(slowpoints, name)
        if inspect.isclass(thing):
            members = [*vars(thing).values()]
            functions = [getattr(m, "fget", None) or getattr(m, "__func__", m) for m in members]
            holds = any(
                "FixedPoints" in str(v) for v in getattr(thing, "__annotations__", {}).values()
            )
            if holds or any(map(speaks_of_points, functions)):
                returned.add(name)
        elif callable(thing) and speaks_of_points(thing):
            returned.add(name)
    # These are returned by functions of other names, which are in the table.
    by_function = {
        "BasinBoundary": "basin_boundary",
        "Branches": "continuation",
        "Connections": "connections",
        "LineAttractor": "line_attractor",
        "SlowManifold": "slow_manifold",
        "ReducedNetwork": "LowRank",
    }
    tested = {case.split(",")[0].split(" of ")[0] for case in CASES}
    assert {by_function.get(name, name) for name in returned} - tested == set()
