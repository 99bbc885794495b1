"""`plot_basins` and `plane_grid`: basins whose boundary is known, on planes that are known."""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from slowpoints import FixedPoints, PlotConfig, attractors, plane_grid, plot_basins

NO_INPUT = np.zeros(0, np.float32)
BLUE, ORANGE = to_rgb("#0072B2"), to_rgb("#D55E00")
S = np.linspace(-2, 2, 20)  # none of them on the boundary
SQUARE = np.stack(np.meshgrid(S, S), axis=-1).astype(np.float32)
CORNERS = np.float32([[-2, -1.5], [2, 1]])
SLANT = 0.4


def wells(x, u):
    """Settle at one of two points, on either side of a line; double where that is far away."""
    s, rest = x[0] + SLANT * x[1], 0.5 * x[1:]
    inside = jnp.concatenate([(jnp.tanh(2 * s) - SLANT * rest[0])[None], rest])
    return jnp.where(jnp.abs(s) > 2.5, 2 * x, inside)


def legend_of(fig):
    legends = [*fig.legends, *(ax.get_legend() for ax in fig.axes)]
    return [text.get_text() for legend in legends if legend for text in legend.get_texts()]


def colors(ax):
    """Return the colour of each cell, without alpha."""
    (image,) = ax.images
    return image.cmap(image.norm(image.get_array()))[..., :3]


def drawn(F, states, config=None, max_steps=1000, **options):
    n_states = states.shape[2]
    found = attractors(F, states.reshape(-1, n_states), NO_INPUT, max_steps=max_steps)
    return plot_basins(found, states, config or PlotConfig(show=False), **options)


@pytest.mark.slow
def test_cells_have_the_colours_of_the_side_that_they_are_on(tmp_path):
    path = tmp_path / "basins.png"
    states = plane_grid(CORNERS, 40)
    fig = drawn(wells, states, PlotConfig(show=False, save_path=path))
    found = attractors(wells, states.reshape(-1, 2), NO_INPUT)
    s = states[..., 0] + SLANT * states[..., 1]
    side = np.sign(found.x[0, 0])  # of the basin with the larger share
    expected = np.where((side * s > 0)[..., None], BLUE, ORANGE)
    expected = np.where((np.abs(s) > 2.5)[..., None], 0.85, 0.5 + 0.5 * expected)
    assert np.allclose(colors(fig.axes[0]), expected)
    shares = [100 * np.mean(side * s[np.abs(s) <= 2.5] > 0) * np.mean(np.abs(s) <= 2.5)]
    names = legend_of(fig)
    assert names[0] == f"fixed point: {shares[0]:.1f} %"
    assert names[2] == f"escape: {100 * np.mean(np.abs(s) > 2.5):.1f} %" and len(names) == 3
    assert fig.axes[0].get_title() == "2 basins in a plane"
    assert fig.axes[0].get_xlabel() == "state $x_1$" and path.stat().st_size > 1000


def test_cells_are_where_their_states_are_and_attractors_are_marked():
    fig = drawn(wells, SQUARE)
    ax = fig.axes[0]
    assert np.allclose(ax.images[0].get_extent(), 2 * 20 / 19 * np.array([-1, 1, -1, 1]), atol=1e-5)
    marked = [line.get_xydata() for line in ax.get_lines()]
    assert np.allclose(np.abs(marked), [[[0.9575, 0]]] * 2, atol=1e-3)


def test_a_grid_far_from_the_origin_is_even_but_for_rounding():
    fig = drawn(lambda x, u: 1000 + 0.5 * (x - 1000), SQUARE + np.float32(1000))
    assert np.allclose(fig.axes[0].get_xlim(), [1000 - 40 / 19, 1000 + 40 / 19], atol=1e-3)


@pytest.mark.slow
def test_states_of_which_it_is_not_known_are_named():
    fig = drawn(lambda x, u: 0.999999 * x + 1e-3, SQUARE, max_steps=20)
    assert legend_of(fig) == ["undecided: 100.0 %"]
    assert np.allclose(colors(fig.axes[0]), 1)


@pytest.mark.slow
def test_more_basins_than_colours_are_grey_and_counted():
    states = plane_grid(np.float32([[-1.7, -1.6], [1.9, 1.8]]), 60)
    fig = drawn(lambda x, u: x - 0.15 * jnp.sin(2 * np.pi * x), states)
    name = next(name for name in legend_of(fig) if "others" in name)
    grey = np.isclose(colors(fig.axes[0]), 0.6).all(axis=2)
    assert int(name.split()[0]) > 8 and name.endswith(f": {100 * grey.mean():.1f} %")


@pytest.mark.slow
def test_a_slice_of_more_dimensions_is_exact_and_says_how_far_points_are():
    axes = np.float32([[0, 1, 0], [1, 0, 0]])
    states = np.float32([0, 0, 0.3]) + S[:, None, None] * axes[1] + S[:, None] * axes[0]
    x = np.float32([[0, 0, 0], [0, 1, 0.3]])
    points = FixedPoints(x, inputs=np.zeros((2, 0)), is_stable=[False, True])
    fig = drawn(wells, states.astype(np.float32), fixed_points=points)
    ax = fig.axes[0]
    s = S[:, None] + SLANT * S
    is_blue = np.isclose(colors(ax), 0.5 + 0.5 * np.array(BLUE)).all(axis=2)
    for side in (1, -1):
        inside = (side * s > 1e-3) & (np.abs(s) < 2.45)
        assert is_blue[inside].all() or not is_blue[inside].any()
    assert not ax.get_lines()  # the attractors are beside the plane
    assert ax.get_xlabel() == "axis 1 of the plane"
    assert "unstable fixed point (1), 0.3 from the plane" in legend_of(fig)
    circle = next(c for c in ax.collections if c.get_label() == "stable fixed point (1)")
    assert np.allclose(circle.get_offsets(), [[1, 0]], atol=1e-6)


@pytest.mark.slow
def test_a_plane_goes_through_three_points():
    x = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    states = plane_grid(x, 50, margin=0.1)
    assert states.dtype == np.float32 and max(states.shape[:2]) == 50
    flat = states.reshape(-1, 5)
    normal = np.linalg.svd(flat - flat.mean(axis=0))[2][2:]
    assert np.abs((x - flat[0]) @ normal.T).max() < 1e-5
    nearest = np.linalg.norm(flat - x[:, None], axis=2).min(axis=1)
    assert nearest.max() < np.linalg.norm(states[0, 1] - states[0, 0])
    fig = drawn(lambda x, u: 0.5 * x, states)  # which the figure takes for an even grid
    assert fig.axes[0].get_title() == "1 basin in a plane"


def test_the_smallest_grid_has_two_rows():
    states = plane_grid(np.float32([[-1, 0], [1, 0]]), 3, margin=0)
    assert states.shape == (2, 3, 2)
    assert drawn(wells, states).axes[0].images


def test_basins_are_drawn_on_axes_that_are_given():
    fig, ax = plt.subplots()
    assert drawn(wells, SQUARE, ax=ax) is fig
    assert ax.get_title() == "" and len(legend_of(fig)) == 3
    plt.close(fig)


def test_states_that_are_no_grid_are_refused():
    found = attractors(wells, SQUARE.reshape(-1, 2), NO_INPUT)
    skewed = SQUARE + 0.1 * SQUARE[..., ::-1] * np.float32([1, 0])
    for wrong in (SQUARE**3, skewed, SQUARE[:, :1].repeat(20, axis=1)):
        with pytest.raises(
            ValueError, match=r"`states` of shape \(20, 20, 2\) are on no even grid"
        ):
            plot_basins(found, wrong)
    with pytest.raises(ValueError, match="400 states of `attractors`"):
        plot_basins(found, SQUARE[:5])


@pytest.mark.slow
def test_several_inputs_are_refused():
    u = np.repeat(np.float32([[0], [1]]), [40, 360], axis=0)
    found = attractors(lambda x, u: 0.5 * x + u, SQUARE.reshape(-1, 2), u)
    with pytest.raises(ValueError, match=r"`attractors.inputs` differ between the rows"):
        plot_basins(found, SQUARE)
    found = attractors(lambda x, u: 0.5 * x + u, SQUARE.reshape(-1, 2), u[:1])
    points = FixedPoints(np.float32([[2, 2]]), inputs=u[-1:])
    with pytest.raises(ValueError, match=r"differ from `attractors.inputs` in 1 of 1 rows"):
        plot_basins(found, SQUARE, fixed_points=points)
