"""`plot_flow_field`: arrows and speeds of flows that are known, in planes that are known."""

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.quiver import Quiver
from networks import compilations

from slowpoints import (
    ContinuousTime,
    FixedPoints,
    PlotConfig,
    Status,
    as_transition,
    plot_flow_field,
)

matplotlib.use("Agg")

NO_INPUT = np.zeros(0, np.float32)
A = np.array([[0.5, 0.3, 0.0], [0.0, 0.7, 0.0], [0.4, 0.0, 0.2]])
THREE = np.float32([[1, 0, 0], [0, 2, 0], [0, 0, 1]])


def linear(x, u):
    return jnp.asarray(A, x.dtype) @ x


def shift(x, u):
    """Move every state by the same."""
    return x + u


def drawn(F, plane, inputs=NO_INPUT, **options):
    fig = plot_flow_field(F, plane, inputs, PlotConfig(show=False), **options)
    fig.draw_without_rendering()
    return fig.axes[0]


def arrows(ax):
    """Return the places and the vectors of the arrows."""
    (quiver,) = (artist for artist in ax.collections if isinstance(artist, Quiver))
    return quiver.XY, np.stack([quiver.U, quiver.V], axis=1)


def marks(ax):
    return {a.get_label(): a for a in ax.collections if isinstance(a, PathCollection)}


def legend(ax):
    (found,) = ax.figure.legends
    return [text.get_text() for text in found.get_texts()]


def frame(through):
    """Return the mean of points and the first two principal components."""
    mean = through.mean(axis=0)
    return mean, np.linalg.svd(through - mean, full_matrices=False)[2][:2]


# ---- two-dimensional networks ------------------------------------------------------------------


def rotation(x, u):
    return x + jnp.stack([-x[1], 2 * x[0]])


SQUARE = FixedPoints(xstar=np.float32([[-1, -1], [1, 1]]))


def test_in_two_dimensions_arrows_are_the_direction_of_the_flow():
    ax = drawn(rotation, None, fixed_points=SQUARE, n_arrows=8)
    places, vectors = arrows(ax)
    flow = np.stack([-places[:, 1], 2 * places[:, 0]], axis=1)
    np.testing.assert_allclose(
        vectors, flow / np.linalg.norm(flow, axis=1, keepdims=True), atol=1e-5
    )
    assert len(places) == 64
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("state $x_1$", "state $x_2$")
    assert ax.get_title() == "Flow and speed"


def test_colours_are_the_logarithm_of_the_speed():
    ax = drawn(rotation, None, fixed_points=SQUARE, n_speed=10, margin=0)
    (image,) = ax.images
    assert image.get_extent() == [-1, 1, -1, 1] and image.get_array().shape == (10, 10)
    side = (np.arange(10) + 0.5) / 5 - 1
    x, y = np.meshgrid(side, side)
    q = 0.5 * (y**2 + 4 * x**2)
    np.testing.assert_allclose(image.get_array(), np.log10(q), atol=1e-5)
    assert image.origin == "lower"
    (colorbar,) = ax.child_axes
    assert colorbar.get_ylabel() == r"$\log_{10} q$"


@pytest.mark.slow
def test_the_figure_reaches_past_the_points_by_the_margin():
    ax = drawn(rotation, SQUARE, margin=0.5)
    assert ax.get_xlim() == (-2, 2) and ax.get_ylim() == (-2, 2) and ax.get_aspect() == 1
    wide = FixedPoints(xstar=np.float32([[-1, 0], [1, 0]]))
    assert drawn(rotation, wide, margin=0).get_ylim() == (-0.5, 0.5)
    alone = FixedPoints(xstar=np.float32([[3, 1]]))
    assert drawn(rotation, alone, margin=0).get_xlim() == (2, 4)


def test_points_set_the_part_of_the_plane_that_is_drawn():
    ax = drawn(rotation, np.float32([[0, 0], [4, 2]]), fixed_points=SQUARE, margin=0)
    assert ax.get_xlim() == (-1, 4) and ax.get_ylim() == (-1, 2)


# ---- planes in more dimensions -----------------------------------------------------------------


def test_the_plane_of_three_points_holds_them_and_is_measured_truly():
    fps = FixedPoints(xstar=THREE)
    ax = drawn(linear, fps)
    (points,) = marks(ax).values()
    across = points.get_offsets()
    distances = np.linalg.norm(across[:, None] - across, axis=-1)
    np.testing.assert_allclose(
        distances, np.linalg.norm(THREE[:, None] - THREE, axis=-1), atol=1e-5
    )
    assert ax.get_xlabel() == "PC 1 of the points"


def test_arrows_are_as_long_as_the_share_of_the_flow_in_the_plane():
    ax = drawn(linear, THREE, n_arrows=9)
    mean, axes = frame(THREE.astype(float))
    places, vectors = arrows(ax)
    x = mean + places @ axes * 1.0
    # The signs of the components are not known.
    for signs in np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]]):
        x = mean + (places * signs) @ axes
        flow = x @ A.T - x
        share = np.linalg.norm(flow @ axes.T, axis=1) / np.linalg.norm(flow, axis=1)
        expected = (flow @ axes.T) / np.linalg.norm(flow, axis=1, keepdims=True) * signs
        if np.allclose(vectors, expected, atol=1e-4):
            break
    else:
        pytest.fail("no choice of signs gives these arrows")
    assert ax.get_title() == f"{np.median(share):.0%} of the flow is in the plane (median)"


@pytest.mark.parametrize(("u", "share"), [([3.0, 0, 4], 0.6), ([0, 1, 0], 1.0), ([0, 0, 1], 0.0)])
def test_the_title_says_how_much_of_the_flow_is_in_the_plane(u, share):
    plane = np.float32([[0, 0, 0], [2, 0, 0], [0, 1, 0]])
    ax = drawn(shift, plane, np.float32(u))
    assert ax.get_title() == f"{share:.0%} of the flow is in the plane (median)"
    lengths = np.linalg.norm(arrows(ax)[1], axis=1)
    np.testing.assert_allclose(lengths, share, atol=1e-5)


def test_more_points_give_the_plane_of_their_first_components():
    rng = np.random.default_rng(0)
    through = rng.normal(size=(20, 5)) * [5, 3, 0.1, 0.1, 0.1]
    ax = drawn(lambda x, u: 0.5 * x, np.float32(through))
    assert ax.get_xlabel().startswith("PC 1 of the points (5")
    assert ax.get_xlabel().endswith(" %)")


def test_a_matrix_spans_the_plane_through_the_mean_of_the_points():
    fps = FixedPoints(xstar=THREE)
    matrix = np.array([[2.0, 1.0], [0.0, 3.0], [0.0, 0.0]])
    ax = drawn(linear, matrix, fixed_points=fps)
    shown = np.concatenate([a.get_offsets() for a in marks(ax).values()])
    expected = (THREE - THREE.mean(axis=0))[:, :2]
    np.testing.assert_allclose(sorted(map(tuple, shown)), sorted(map(tuple, expected)), atol=1e-6)
    assert ax.get_ylabel() == "second column, orthogonalised"


def test_points_outside_the_plane_are_hollow_and_their_distance_is_told():
    xstar = np.float32([[0, 0, 0], [1, 0, 0.5], [0, 1, 2], [1, 1, 1e-4]])
    status = np.array([Status.FIXED_POINT] * 3 + [Status.SLOW_POINT])
    fps = FixedPoints(xstar=xstar, status=status)
    plane = np.float32([[0, 0, 0], [2, 0, 0], [0, 1, 0]])
    shown = marks(drawn(linear, plane, fixed_points=fps))
    assert list(shown) == [
        "fixed point, stability unknown (1)",
        "slow point (1)",
        "fixed point, stability unknown (2), 0.5 to 2 from the plane",
    ]
    *full, hollow = shown.values()
    assert len(hollow.get_facecolors()) == 0 and all(len(m.get_facecolors()) for m in full)


def test_no_mark_is_outside_of_the_axes():
    fps = FixedPoints(xstar=np.float32([[9, 9, 9], [-9, 0, 1]]))
    ax = drawn(linear, THREE, fixed_points=fps)
    across = np.concatenate([a.get_offsets() for a in marks(ax).values()])
    for values, (low, high) in zip(across.T, (ax.get_xlim(), ax.get_ylim()), strict=True):
        assert (low < values).all() and (values < high).all()


# ---- the network -------------------------------------------------------------------------------


def test_in_continuous_time_the_flow_is_f_itself():
    flow = ContinuousTime(lambda x, u: jnp.stack([-x[1], 2 * x[0]]))
    ax, same = (drawn(F, None, fixed_points=SQUARE) for F in (flow, rotation))
    np.testing.assert_allclose(arrows(ax)[1], arrows(same)[1], atol=1e-5)
    np.testing.assert_allclose(ax.images[0].get_array(), same.images[0].get_array(), atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_model_runs_in_the_precision_of_the_caller(dtype):
    seen = set()

    def F(x, u):
        seen.add((x.dtype, u.dtype))
        return 0.5 * x

    drawn(F, FixedPoints(xstar=THREE.astype(dtype)), np.zeros(1, np.float32))
    assert {str(t) for pair in seen for t in pair} == {"float32"}


def test_float64_sees_flows_that_float32_rounds_away():
    step = ContinuousTime(lambda x, u: jnp.full(2, 1e-9) * (1 + 0 * x))
    ax = drawn(step, np.float64([[1, 1], [2, 2]]))
    assert float(ax.images[0].get_array().min()) == pytest.approx(-18, abs=1e-6)


@pytest.mark.slow
def test_one_program_evaluates_everything_and_serves_other_weights():
    F, G = (
        as_transition(jax.tree_util.Partial(lambda w, x, u: w * x, jnp.array(w)))
        for w in (0.5, 0.7)
    )
    drawn(F, THREE, n_arrows=11, n_speed=37)
    with compilations() as compiled:
        drawn(G, THREE, n_arrows=11, n_speed=37)
    assert len(compiled) <= 1


def test_states_at_which_the_flow_is_not_finite_are_counted():
    ax = drawn(lambda x, u: jnp.where(x[0] > 0, jnp.nan, 0.5 * x), None, fixed_points=SQUARE)
    (colorbar,) = ax.child_axes
    assert colorbar.get_ylabel() == r"$\log_{10} q$; 50.0% not finite, grey"
    assert np.isfinite(arrows(ax)[1]).all() and (arrows(ax)[0][:, 0] < 0).all()
    assert ax.images[0].get_array().mask.mean() == 0.5


def test_a_network_at_rest_has_no_arrows():
    ax = drawn(lambda x, u: x, None, fixed_points=SQUARE)
    assert len(arrows(ax)[0]) == 0


# ---- looks -------------------------------------------------------------------------------------


def test_the_legend_explains_the_arrows_and_words_can_be_changed():
    assert "flow; length: share of it in the plane" in legend(drawn(linear, THREE))
    config = PlotConfig(show=False, title="T", xlabel="X", ylabel="Y", show_legend=False)
    ax = plot_flow_field(linear, THREE, NO_INPUT, config).axes[0]
    assert (ax.get_title(), ax.get_xlabel(), ax.get_ylabel()) == ("T", "X", "Y")
    assert ax.figure.legends == []


def test_axes_may_be_given():
    fig = matplotlib.figure.Figure()
    ax = fig.add_subplot()
    assert plot_flow_field(linear, THREE, NO_INPUT, PlotConfig(), ax=ax) is fig
    assert ax.get_title() == "" and len(ax.images) == 1


def test_properties_of_the_arrows_can_be_given():
    config = PlotConfig(show=False, kwargs={"color": "red"})
    ax = plot_flow_field(linear, THREE, NO_INPUT, config).axes[0]
    (quiver,) = (artist for artist in ax.collections if isinstance(artist, Quiver))
    np.testing.assert_array_equal(quiver.get_facecolor(), [[1, 0, 0, 1]])


# ---- bad input ---------------------------------------------------------------------------------

ON_A_LINE = np.float32([[0, 0, 0], [1, 1, 1], [2, 2, 2]])


@pytest.mark.checks_input
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"plane": None}, r"`plane` is None; expected points"),
        (
            {"plane": ON_A_LINE},
            r"`plane` has shape \(3, 3\), and these points are on a line; expected",
        ),
        ({"plane": THREE[:2]}, r"`plane` has shape \(2, 3\); expected three or more points"),
        (
            {"plane": np.ones((3, 2)), "fixed_points": FixedPoints(xstar=THREE)},
            r"`plane` has shape \(3, 2\), and its columns are along the same line; expected",
        ),
        (
            {"plane": np.ones((4, 2)), "fixed_points": FixedPoints(xstar=THREE)},
            r"`plane` has shape \(4, 2\); expected \(m, 3\) or \(3, 2\)",
        ),
        (
            {"plane": FixedPoints(xstar=THREE, valid=np.zeros(3, bool))},
            r"`plane` has no valid rows",
        ),
        ({"plane": FixedPoints(qstar=np.zeros(3))}, r"xstar` is None; expected"),
        (
            {"fixed_points": FixedPoints(xstar=THREE, inputs=np.float32([[0], [1], [2]]))},
            r"`fixed_points.inputs` differ from `inputs` in 2 of 3 rows; expected",
        ),
        (
            {"fixed_points": FixedPoints(xstar=THREE, inputs=np.zeros((3, 2)))},
            r"`fixed_points.inputs` differ from `inputs` in 3 of 3 rows; expected",
        ),
        ({"F": lambda x, u: x[:1]}, r"the model maps a state of shape \(3,\).* expected"),
    ],
)
def test_bad_input_is_named(arguments, message):
    given = {"F": linear, "plane": THREE, "inputs": np.zeros(1, np.float32)} | arguments
    with pytest.raises(ValueError, match=message):
        plot_flow_field(config=PlotConfig(show=False), **given)
