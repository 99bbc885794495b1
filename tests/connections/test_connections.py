"""`connections` against networks whose connections are known, and the figure of them."""

import itertools

import jax
import jax.numpy as jnp
import matplotlib
import networkx
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from model_checks import fast_compilation as fast_compilation
from networks import CELLS, Affine, DoubleWell, double_well, found_in, logistic, trained

from slowpoints import (
    FixedPoints,
    Outcome,
    PlotConfig,
    Status,
    Transition,
    connections,
    decompose,
    find_fixed_points,
    plot_connections,
)
from slowpoints._connections.leaving import directions_all_around

NO_INPUT = np.zeros(0, np.float32)
STABLE = 0.8585596366
"""The positive fixed point of `tanh(1.5 x)`."""


def at(x, **fields):
    x = np.asarray(x, np.float32)
    return FixedPoints(xstar=x, inputs=np.zeros((len(x), 0), np.float32), **fields)


def uncoupled(x, u):
    return jnp.tanh(1.5 * x)


def lattice(d=3):
    """Return the signs `[3^d, d]` of the points of `d` uncoupled units."""
    return np.array(list(itertools.product([-1, 0, 1], repeat=d)))


class Tanh(Transition):
    W: jax.Array

    def __call__(self, x, u):
        return jnp.tanh(self.W @ x)


class Ring(Transition):
    """A turn by `angle`, and a radius that grows from 0 to `sqrt(0.3)`, which attracts."""

    angle: jax.Array

    def __call__(self, x, u):
        c, s = jnp.cos(self.angle), jnp.sin(self.angle)
        return (1.3 - x @ x) * jnp.stack([c * x[0] - s * x[1], s * x[0] + c * x[1]])


class Kept(Transition):
    """A line of fixed points along the first axis; the second unit has two attractors."""

    def __call__(self, x, u):
        return jnp.stack([x[0], jnp.tanh(1.5 * x[1])])


class OnlyFloat32(Transition):
    F: Transition

    def __call__(self, x, u):
        return self.F(x.astype(jnp.float32), u.astype(jnp.float32)).astype(jnp.float32)


# ---- networks whose connections are known ----------------------------------------------------


@pytest.mark.fast
def test_uncoupled_units_have_the_face_lattice_of_the_cube():
    starts = np.random.default_rng(0).uniform(-1, 1, (2000, 3)).astype(np.float32)
    fps, _ = find_fixed_points(uncoupled, starts, NO_INPUT, mesh=None)
    found = connections(uncoupled, fps, n_directions=0)
    assert fps.n == 27
    signs = np.round(np.asarray(fps.xstar) / STABLE).astype(int)
    np.testing.assert_allclose(fps.xstar, STABLE * signs, atol=1e-5)
    np.testing.assert_array_equal(found.index, np.sum(signs == 0, axis=1))
    edges = found.edges
    assert len(edges) == 54 and (edges.outcome == Outcome.ARRIVED).all()
    np.testing.assert_array_equal(edges.index, found.index[edges.saddle] - 1)
    # One unit moves, from the ridge to one of its two states.
    moves = signs[edges.attractor] - signs[edges.saddle]
    assert (np.abs(moves).sum(axis=1) == 1).all()
    assert len({tuple(pair) for pair in zip(edges.saddle, edges.attractor, strict=True)}) == 54


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.slow
def test_saddles_of_the_flip_flop_join_its_memories_as_a_cubes_edges_do(cell):
    fps = found_in(cell)
    found = connections(trained(cell), fps)
    graph = found.to_networkx()
    assert sorted(index for _, index in graph.nodes(data="index")) == [0] * 8 + [1] * 12 + [
        2
    ] * 6 + [3]
    cube = networkx.Graph()
    for row in np.flatnonzero(found.index == 1).tolist():
        ends = [end for _, end in graph.out_edges(row)]
        assert len(ends) == 2 and all(graph.nodes[end]["is_stable"] for end in ends)
        cube.add_edge(*ends)
    assert cube.number_of_edges() == 12
    assert networkx.is_isomorphic(cube, networkx.hypercube_graph(3))
    # A face of the cube has four corners, and its directions lead to these.
    for row in np.flatnonzero(found.index == 2).tolist():
        ends = {end for _, end in graph.out_edges(row)}
        assert len(ends) == 4
        assert networkx.is_isomorphic(cube.subgraph(ends), networkx.cycle_graph(4))
    assert graph.graph["unresolved"] == []
    assert (found.edges.saddle[found.edges.index < 0]).size == 0


@pytest.mark.slow
def test_a_saddle_that_is_passed_by_is_not_arrived_at():
    coupling = 1e-8
    F = Tanh(jnp.array([[1.6, 0.0], [coupling, 1.5]]))
    starts = np.random.default_rng(0).uniform(-1, 1, (500, 2)).astype(np.float32)
    fps, _ = find_fixed_points(F, starts, NO_INPUT, mesh=None)
    assert fps.n == 9
    found = connections(F, fps, n_directions=0)
    centre = int(np.flatnonzero(found.index == 2)[0])
    edges = found.edges[(found.edges.saddle == centre) & (found.edges.direction == 0)]
    assert len(edges) == 2 and (edges.index == 0).all()
    saddles = found.points.xstar[found.index == 1]
    W = np.asarray(F.W, np.float64)
    for path, n_steps in zip(edges.path, edges.n_steps, strict=True):
        states = [path[0]]
        for _ in range(n_steps):
            states.append(np.tanh(W @ states[-1]))
        nearest = np.linalg.norm(np.array(states)[:, None] - saddles, axis=2).min(axis=1)
        # For many steps it is well within reach, a thousandth of the distance between points.
        assert np.sum(nearest < 5e-4) > 10 and nearest.min() < 1e-5


@pytest.mark.slow
def test_points_on_the_way_do_not_depend_on_rows_or_on_other_inputs():
    F = DoubleWell()
    well = np.array([[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]], np.float32)
    one = FixedPoints(xstar=well, inputs=np.zeros((3, 2), np.float32))
    # The same points again, under another input, which makes no difference to the network.
    other = one.replace(inputs=np.tile(np.float32([0, 1]), (3, 1)))
    twice = FixedPoints.concatenate([one, other])
    order = np.array([4, 2, 0, 5, 1, 3])
    edges = connections(F, twice[order]).edges
    reached = sorted(
        (order[s], side, order[t])
        for s, side, t in zip(edges.saddle, edges.side, edges.attractor, strict=True)
    )
    assert reached == [(1, -1, 0), (1, 1, 2), (4, -1, 3), (4, 1, 5)]


@pytest.mark.slow
def test_invalid_rows_and_slow_points_are_no_ends():
    fps = at([[-1, 0], [0, 0], [1, 0], [0.5, 0], [np.nan, 0]])
    fps = fps.replace(
        status=np.array([1, 1, 1, Status.SLOW_POINT, 1], np.int8),
        valid=np.array([True, True, False, True, True]),
    )
    found = connections(double_well(), fps)
    np.testing.assert_array_equal(found.index, [0, 1, -1, -1, -1])
    edges = found.edges
    assert edges.outcome.tolist() == [Outcome.ELSEWHERE, Outcome.ARRIVED]
    assert edges.attractor.tolist() == [-1, 0] and edges.index.tolist() == [-1, 0]
    np.testing.assert_allclose(edges.end[0], [1, 0], atol=1e-12)
    assert "Rows that are left out, as not known to be fixed points: 3" in str(found)


# ---- trajectories that do not end at a point -------------------------------------------------


@pytest.mark.slow
def test_a_flip_leads_to_a_two_cycle_and_an_unbounded_side_is_left():
    r = 3.2
    found = connections(logistic(r), at([[0.0], [1 - 1 / r]]))
    edges = found.edges
    assert edges.saddle.tolist() == [0, 0, 1, 1] and edges.side.tolist() == [1, -1, 1, -1]
    np.testing.assert_array_equal(edges.alternates, [False, False, True, True])
    ends = [Outcome.CYCLE, Outcome.LEFT, Outcome.CYCLE, Outcome.CYCLE]
    assert edges.outcome.tolist() == ends
    assert edges.period.tolist() == [2, 0, 2, 2]
    # The two points of the cycle, in closed form.
    cycle = (r + 1 + np.array([-1, 1]) * np.sqrt((r - 3) * (r + 1))) / (2 * r)
    for end in edges.end[[0, 2, 3], 0]:
        assert np.abs(end - cycle).min() < 1e-6
    # Every second state stays on one side of the saddle.
    for side, path in zip(edges.side[2:], edges.path[2:, :, 0], strict=True):
        assert (side * (path - (1 - 1 / r)) > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("angle", "outcome", "period"), [(1.0, Outcome.MOVING, 0), (0.4 * np.pi, Outcome.CYCLE, 5)]
)
def test_a_complex_pair_leads_to_a_limit_cycle(angle, outcome, period):
    F = Ring(jnp.float32(angle))
    if period:  # the angle exactly, or else the trajectory never closes
        F = lambda x, u: Ring(jnp.asarray(angle))(x, u)  # noqa: E731
    with jax.enable_x64(bool(period)):
        found = connections(F, at([[0.0, 0.0]]), n_directions=2, max_steps=500)
    edges = found.edges
    assert edges.direction.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert set(edges.outcome) == {outcome} and set(edges.period) == {period}
    assert not edges.alternates.any()
    np.testing.assert_allclose(np.linalg.norm(edges.end, axis=1), np.sqrt(0.3), atol=1e-6)
    assert f"8 unresolved: {outcome}" in str(found)


def leap(x, u):
    """Fixed points at all halves, of which 0, 1, ... are unstable; from around 0.25 to above 1."""
    return x + 0.3 * jnp.sin(2 * jnp.pi * x) + jnp.exp(-(((x - 0.25) / 0.06) ** 2))


@pytest.mark.slow
def test_a_side_from_which_large_steps_lead_to_two_attractors_is_said_to_split():
    points = at([[-0.5], [0], [0.5], [1], [1.5]])
    found = connections(leap, points)
    edges = found.edges
    assert edges.saddle.tolist() == [1, 1, 3, 3] and edges.side.tolist() == [1, -1, 1, -1]
    slope = 1 + 0.6 * np.pi
    x = 1e-6 * slope ** np.linspace(0, 1, 100)
    for _ in range(200):
        x = x + 0.3 * np.sin(2 * np.pi * x) + np.exp(-(((x - 0.25) / 0.06) ** 2))
    assert set(x.round(6)) == {0.5, 1.5} and edges.attractor[0] in (2, 4)
    assert edges.splits.tolist() == [True, False, False, False]
    assert edges.attractor[1:].tolist() == [0, 4, 2]
    assert "on which some trajectories end elsewhere: 1" in str(found)

    def slowly(x, u):
        return x + 0.05 * (leap(x, u) - x)

    assert not connections(slowly, points).edges.splits.any()


@pytest.mark.slow
def test_steps_run_out():
    edges = connections(double_well(), at([[-1, 0], [0, 0], [1, 0]]), max_steps=5).edges
    assert (edges.outcome == Outcome.MOVING).all() and (edges.n_steps == 5).all()


def test_unbounded_growth_is_left_before_it_overflows():
    F = Affine(jnp.diag(jnp.array([1.5, 0.5])), jnp.zeros((2, 0)))
    edges = connections(F, at([[0.0, 0.0]])).edges
    assert (edges.outcome == Outcome.LEFT).all() and len(edges) == 2
    assert np.isfinite(edges.end).all() and edges.n_steps.max() < 100


@pytest.mark.slow
def test_a_line_of_fixed_points_has_no_unstable_direction_of_its_own():
    found = connections(Kept(), at([[0.3, 0.0], [0.3, STABLE], [0.7, -STABLE]]))
    np.testing.assert_array_equal(found.index, [1, 0, 0])
    assert not found.is_stable.any()
    # From (0.3, 0), the lower end is at rest at (0.3, -STABLE), which is not among the points.
    assert found.edges.attractor.tolist() == [1, -1]
    assert found.edges.outcome.tolist() == [Outcome.ARRIVED, Outcome.ELSEWHERE]


def test_a_weakly_unstable_saddle_is_not_where_its_own_trajectories_end():
    # Its first steps are below rounding.
    found = connections(lambda x, u: x + 1e-10 * x, at([[0.0]]), max_steps=100)
    assert found.edges.outcome.tolist() == [Outcome.MOVING] * 2


# ---- precision, spectra, directions ----------------------------------------------------------


@pytest.mark.slow
def test_networks_that_cast_to_float32_are_followed_in_float64():
    found = connections(OnlyFloat32(double_well()), at([[-1, 0], [0, 0], [1, 0]]))
    assert found.edges.end.dtype == np.float64
    assert found.edges.attractor.tolist() == [2, 0]


@pytest.mark.slow
def test_networks_that_call_code_outside_of_jax_in_float32_are_followed_in_float32():
    well = double_well()

    @jax.custom_jvp
    def outside(x):
        spec = jax.ShapeDtypeStruct(x.shape, np.float32)
        return jax.pure_callback(lambda x: x, spec, x, vmap_method="broadcast_all")

    outside.defjvp(lambda primals, tangents: (outside(*primals), tangents[0]))
    F = lambda x, u: well(outside(x), u)  # noqa: E731
    found = connections(F, at([[-1, 0], [0, 0], [1, 0]]))
    assert found.edges.end.dtype == np.float32
    assert found.edges.attractor.tolist() == [2, 0]


@pytest.mark.slow
def test_missing_eigenvalues_are_computed_and_given_ones_are_kept():
    fps = found_in("tanh")
    bare = fps.replace(J_xstar=None, dFdu=None)
    found = connections(trained("tanh"), bare)
    expected = decompose(fps).to_numpy()
    np.testing.assert_array_equal(found.points.n_unstable(), expected.n_unstable())
    np.testing.assert_array_equal(found.points.is_stable, expected.is_stable)
    kept = connections(trained("tanh"), expected).points
    assert kept.eigval_J_xstar is expected.eigval_J_xstar
    for saddle in np.flatnonzero(found.index):
        assert np.sum(found.edges.saddle == saddle) == 2 * found.index[saddle] + 16 * (
            found.index[saddle] > 1
        )


@pytest.mark.slow_cases
@pytest.mark.parametrize("dimension", [2, 3, 5])
def test_directions_are_spread_over_the_sphere(dimension):
    w = directions_all_around(dimension, 64)
    np.testing.assert_allclose(np.linalg.norm(w, axis=1), 1)
    both = np.concatenate([w, -w])
    np.testing.assert_allclose(both.T @ both / len(both), np.eye(dimension) / dimension, atol=0.03)
    closest = (w @ w.T - 2 * np.eye(len(w))).max()
    assert closest < 0.9999  # none twice
    np.testing.assert_array_equal(directions_all_around(dimension, 64)[:3], w[:3])


@pytest.mark.slow
def test_fast_directions_do_not_win_over_slow_ones():
    # Where one unit grows by 1.9 and the other by 1.45 per step, all four corners are reached.
    F = Tanh(jnp.diag(jnp.array([1.9, 1.45])))
    starts = np.random.default_rng(0).uniform(-1, 1, (500, 2)).astype(np.float32)
    fps, _ = find_fixed_points(F, starts, NO_INPUT, mesh=None)
    found = connections(F, fps)
    centre = np.flatnonzero(found.index == 2)[0]
    others = found.edges[(found.edges.saddle == centre) & (found.edges.direction >= 2)]
    _, counts = np.unique(others.attractor, return_counts=True)
    assert len(others) == 16 and counts.tolist() == [4, 4, 4, 4]
    # They leave the neighbourhood of the centre in all directions, not only along the fast one.
    angles = []
    for path in others.path:
        x = path[np.argmax(np.linalg.norm(path, axis=1) > 0.3)]
        angles.append(np.arctan2(abs(x[1]), abs(x[0])))
    assert np.min(angles) < 0.2 and np.max(angles) > 0.9, angles


@pytest.mark.slow
def test_paths_lead_from_the_saddle_to_the_end():
    found = connections(double_well(), at([[-1, 0], [0, 0], [1, 0]]), n_path=20)
    edges = found.edges
    assert edges.path.shape == (2, 20, 2)
    assert np.abs(edges.path[:, 0]).max() < 1e-4
    np.testing.assert_array_equal(edges.path[:, -1], edges.end)
    steps = np.linalg.norm(np.diff(edges.path, axis=1), axis=2)
    assert steps.max() < 0.3  # evenly spaced, as far as the steps of the network allow
    assert connections(double_well(), at([[0, 0]]), n_path=0).edges.path.shape == (2, 0, 2)


# ---- the record ------------------------------------------------------------------------------


def test_the_graph_has_the_points_and_the_record(capsys):
    found = connections(double_well(), at([[-1, 0], [0, 0], [1, 0]]))
    graph = found.to_networkx()
    assert isinstance(graph, networkx.MultiDiGraph)
    assert graph.nodes[1]["index"] == 1 and not graph.nodes[1]["is_stable"]
    np.testing.assert_array_equal(graph.nodes[2]["xstar"], [1, 0])
    (record,) = graph.get_edge_data(1, 2).values()
    n_steps = found.edges.n_steps[found.edges.attractor == 2][0]
    assert record == {
        "side": 1,
        "direction": 0,
        "alternates": False,
        "splits": False,
        "n_steps": n_steps,
    }
    assert repr(found) == "Connections(n_points=3, n_saddles=1, n_edges=2, n_arrived=2)"
    found.print_summary()
    out = capsys.readouterr().out
    assert "2 trajectories leave 1 saddle; 2 arrive at attractors and 0 at other saddles." in out
    assert "     1      1  0 (1), 2 (1)" in out
    found.print_summary(max_rows=0)
    assert "leads to" not in capsys.readouterr().out


def test_no_points_and_no_saddles():
    for fps in (at(np.zeros((0, 2))), at([[1, 0]])):
        found = connections(double_well(), fps)
        assert len(found.edges) == 0 and found.points.n == fps.n
        assert found.to_networkx().number_of_nodes() == fps.n
        assert plot_connections(found, PlotConfig(show=False)).axes


@pytest.mark.checks_input
def test_bad_points_are_named():
    fps = at([[0.0, 0.0]])
    with pytest.raises(ValueError, match=r"`fps.xstar` has shape \(1, 0\); expected at least one"):
        connections(lambda x, u: x, at(np.zeros((1, 0))))
    with pytest.raises(TypeError, match="`fps` is traced; expected to be called outside of `jit`"):
        jax.jit(lambda x: connections(uncoupled, fps.replace(xstar=x)))(fps.xstar)
    with pytest.raises(ValueError, match="next state"):
        connections(lambda x, u: x[:1], fps)


@pytest.mark.slow
def test_a_step_of_a_simulation_stands_for_continuous_time():
    rate = lambda x, u: -x + jnp.tanh(2 * x)  # noqa: E731
    edges = connections(lambda x, u: x + 0.1 * rate(x, u), at([[0.0], [-0.9575], [0.9575]])).edges
    assert edges.attractor.tolist() == [2, 1]


# ---- the figure ------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_figure_has_all_points_and_trajectories():
    found = connections(uncoupled, at(STABLE * lattice(2)), n_directions=1)
    fig = plot_connections(found, PlotConfig(show=False))
    (ax,) = fig.axes
    assert len(ax.lines) == len(found.edges) == 2 * 4 + 4 + 2
    labels = ax.get_legend_handles_labels()[1]
    assert "from saddle, index 1 (8)" in labels  # which leave along eigenvectors only
    assert "from repeller, index 2, eigenvectors (4)" in labels
    assert "from repeller, index 2, other directions (2)" in labels
    assert "stable fixed point (4)" in labels and "repeller, index 2 (1)" in labels
    drawn = np.concatenate([group.get_offsets() for group in ax.collections])
    assert len(drawn) == 9
    # A line ends where the point is drawn.
    ends = np.array([line.get_xydata()[-1] for line in ax.lines])
    assert np.linalg.norm(ends[:, None] - drawn, axis=2).min(axis=1).max() < 1e-6
    assert ax.get_title() == "14 trajectories leave 5 saddles"


@pytest.mark.slow
def test_lines_are_dark_enough_to_be_seen_on_white():
    fps = at(STABLE * lattice(3))
    (ax,) = plot_connections(
        connections(uncoupled, fps, n_directions=1), PlotConfig(show=False)
    ).axes
    luma = {
        line.get_label().partition(" (")[0]: np.array(to_rgb(line.get_color())) @ [0.21, 0.72, 0.07]
        for line in ax.lines
        if line.get_label()[0] != "_"
    }
    assert luma["from repeller, index 3, other directions"] < 0.6
    assert max(luma.values()) < 0.75
    assert min(line.get_linewidth() for line in ax.lines) >= 0.6


@pytest.mark.slow
def test_unresolved_trajectories_are_drawn_as_such_and_not_to_infinity():
    found = connections(logistic(3.2), at([[0.0], [1 - 1 / 3.2]]))
    fig, ax = matplotlib.figure.Figure(), None
    ax = fig.add_subplot()
    assert plot_connections(found, ax=ax) is fig
    labels = ax.get_legend_handles_labels()[1]
    assert {"on a cycle (3)", "left (1)"} <= set(labels)
    assert all(line.get_linestyle() == "--" for line in ax.lines)
    assert max(np.abs(line.get_xydata()).max() for line in ax.lines if len(line.get_xydata())) < 2
    assert ax.get_title() == ""


@pytest.mark.slow
@pytest.mark.checks_input
def test_a_figure_needs_connections():
    with pytest.raises(TypeError, match=r"`connections` is .*; expected a slowpoints.Connections"):
        plot_connections(at([[0.0]]))
    found = connections(double_well(), at([[0, 0]]))
    with pytest.raises(TypeError, match=r"`config` is .*; expected a slowpoints.PlotConfig"):
        plot_connections(found, {})
    with pytest.raises(TypeError, match=r"`ax` is 3; expected Axes"):
        plot_connections(found, ax=3)


def two_attractors(x, u):
    return jnp.tanh(2 * x + u)


@pytest.mark.slow
def test_copies_of_a_point_and_other_conditions_are_not_the_next_point():
    x = np.float32([[0.0], [0.9575], [-0.9575], [0.0]])
    fps = FixedPoints(xstar=x, inputs=np.zeros((4, 1), np.float32))
    copied = connections(two_attractors, fps)
    assert copied.index.tolist() == [1, 0, 0, 1]
    assert copied.edges.attractor.tolist() == [1, 2, 1, 2]
    # The fourth row is alone in its condition, so its trajectories end where no point is known.
    others = connections(two_attractors, fps.replace(cond_id=np.array([0, 0, 0, 1])))
    assert others.edges.attractor.tolist() == [1, 2, -1, -1]
    assert others.edges.outcome[2:].tolist() == [Outcome.ELSEWHERE] * 2


def test_states_that_are_no_fixed_points_are_left_out():
    x = np.float32([[0.0], [0.5], [0.9575], [-0.9575]])
    fps = FixedPoints(xstar=x, inputs=np.zeros((4, 1), np.float32))
    found = connections(two_attractors, fps)
    assert found.index.tolist() == [1, -1, 0, 0]
    assert found.edges.attractor.tolist() == [2, 3]
