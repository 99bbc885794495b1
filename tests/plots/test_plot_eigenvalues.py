"""`plot_eigenvalues`: which marks are where, what the scales say, and what is left out."""

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.patches import Circle

from slowpoints import FixedPoints, PlotConfig, Status, plot_eigenvalues

pytestmark = pytest.mark.fast

matplotlib.use("Agg")

A_SADDLE = [1.5, 0.5 + 0.5j, 0.5 - 0.5j]
AN_ATTRACTOR = [0.9, -0.4, 0.0]


def points(eigval=(A_SADDLE, AN_ATTRACTOR), n_states=3, **changes):
    eigval = np.array(eigval, complex)
    fields = {"xstar": np.zeros((len(eigval), n_states)), "eigval_J_xstar": eigval}
    return FixedPoints(**(fields | changes))


def flow(eigval=((-0.1 + 2j, -0.1 - 2j, -5.0), (0.5, -1.0, -2.0))):
    return points(eigval, continuous_time=True)


def drawn(fps, **options):
    fig = plot_eigenvalues(fps, PlotConfig(show=False), **options)
    fig.draw_without_rendering()
    return fig.axes[0]


def marks(ax):
    """Return what was drawn as eigenvalues: label -> complex numbers."""
    return {
        artist.get_label(): artist.get_offsets() @ np.array([1, 1j])
        for artist in ax.collections
        if isinstance(artist, PathCollection)
    }


def legend(ax):
    (found,) = ax.figure.legends
    return [text.get_text() for text in found.get_texts()]


def circles(ax):
    """Return the radii of the circles around 0."""
    return sorted(p.radius for p in ax.patches if isinstance(p, Circle))


def numbers(ax):
    """Return the numbers that are written on the complex plane: text -> place."""
    return {t.get_text(): complex(*t.xy) for t in ax.texts}


def test_eigenvalues_are_where_they_are_with_the_mark_of_their_point():
    shown = marks(drawn(points()))
    assert list(shown) == ["stable fixed point (1)", "saddle, index 1 (1)"]
    np.testing.assert_array_equal(shown["saddle, index 1 (1)"], A_SADDLE)
    np.testing.assert_array_equal(shown["stable fixed point (1)"], AN_ATTRACTOR)


def test_points_that_are_no_fixed_points_have_the_marks_of_their_status():
    shown = marks(drawn(points(status=np.array([Status.SLOW_POINT, Status.FIXED_POINT]))))
    assert set(shown) == {"slow point (1)", "stable fixed point (1)"}


def test_only_valid_rows_are_drawn():
    assert list(marks(drawn(points(valid=np.array([False, True]))))) == ["stable fixed point (1)"]


def test_the_plane_has_one_scale_and_holds_the_unit_circle_and_all_eigenvalues():
    ax = drawn(points())
    assert ax.get_aspect() == 1 and 1.0 in circles(ax)
    assert ax.get_xlim() == pytest.approx((-1.62, 1.62))
    assert ax.get_ylim() == pytest.approx((-1.62, 1.62))


@pytest.mark.parametrize(("dt", "per_step"), [(None, 1.0), (10.0, 0.1)])
def test_circles_of_a_map_are_those_of_the_time_constants_written_on_them(dt, per_step):
    ax = drawn(points(), dt=dt)
    written = numbers(ax)
    on_circles = {float(t): abs(z) for t, z in written.items() if abs(abs(z) - 1) > 1e-9}
    assert len(on_circles) >= 3
    for tau, radius in on_circles.items():
        assert radius == pytest.approx(np.exp(-1 / (per_step * tau)))
    assert sorted([1.0, *on_circles.values()]) == pytest.approx(circles(ax))
    around = {float(t): z for t, z in written.items() if abs(abs(z) - 1) < 1e-9}
    assert len(around) >= 4 and max(around) == pytest.approx(0.5 * per_step)
    for frequency, z in around.items():
        assert np.angle(z) / (2 * np.pi) * per_step == pytest.approx(frequency)
    unit = "step" if dt is None else "unit of time"
    assert f"unit circle (cycles per {unit})" in legend(ax)


def test_time_constants_of_what_grows_are_negative():
    written = numbers(drawn(points([[4.0, 0.1, 0.0]])))
    growing = {float(t): abs(z) for t, z in written.items() if abs(z) > 1 + 1e-9}
    assert growing and all(r == pytest.approx(np.exp(-1 / tau)) for tau, r in growing.items())
    assert all(tau < 0 for tau in growing)


def test_numbers_on_circles_keep_away_from_the_eigenvalues():
    half = 0.6 * np.exp(-1j * np.linspace(0.1, np.pi / 2, 40))  # one quarter is full
    ax = drawn(points([[*half, -0.9]], n_states=41))
    places = [z for z in numbers(ax).values() if abs(abs(z) - 1) > 1e-9]
    assert min(abs(z - v) for z in places for v in half) > 0.1


def test_slow_units_fill_the_figure_and_numbers_stay_inside():
    eigval = 0.8 + 0.1 * np.exp(1j * np.linspace(0, 2 * np.pi, 20))
    ax = drawn(points([[*eigval, 1.0]], n_states=21))
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    assert left > 0.6 and right > 1.0 and right - left == pytest.approx(top - bottom)
    assert 1.0 in circles(ax)
    for z in numbers(ax).values():
        assert left < z.real < right and bottom < z.imag < top
    assert len(numbers(ax)) >= 4


def test_leading_eigenvalues_are_named_as_such():
    assert drawn(points()).get_xlabel() == r"Re $\lambda$"
    few = points(n_states=128)
    assert drawn(few).get_xlabel() == r"Re $\lambda$ (3 leading of 128 eigenvalues)"


def test_eigenvalues_that_are_not_finite_are_counted():
    ax = drawn(points([A_SADDLE, [np.nan] * 3, [np.inf, 0, 0]]))
    assert "not drawn: 4 that are not finite" in legend(ax)
    assert sum(len(z) for z in marks(ax).values()) == 5


@pytest.mark.parametrize("dt", [None, 0.02])
def test_in_continuous_time_the_further_axes_are_those_of_time(dt):
    ax = drawn(flow(), dt=dt)
    top, right = ax.child_axes
    step = 1 if dt is None else dt
    places, texts = top.get_xticks(), [label.get_text() for label in top.get_xticklabels()]
    finite = {float(t): x for t, x in zip(texts, places, strict=True) if t != r"$\infty$"}
    assert len(finite) >= 2 and places[texts.index(r"$\infty$")] == 0
    for tau, x in finite.items():
        assert x == pytest.approx(-step / tau)
    np.testing.assert_allclose(right.get_ylim(), np.array(ax.get_ylim()) / (2 * np.pi * step))
    unit = "unit of time of $f$" if dt is None else "unit of time"
    assert top.get_xlabel() == f"time constant ({unit})"
    assert right.get_ylabel() == f"frequency (cycles per {unit})"
    assert ax.get_aspect() == 1 and circles(ax) == [] and "imaginary axis" in legend(ax)
    (low, high), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    assert low < -5 and high > 0.5 and bottom < -2 and top > 2


@pytest.mark.slow
def test_eigenvalues_on_a_line_make_a_figure_all_the_same():
    ax = drawn(flow([[-1.0, -2.0, -3.0]]))
    (low, high), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    assert (top - bottom) / (high - low) > 0.35
    drawn(flow([[0.0, 0.0, 0.0]]))
    drawn(points([[1.0, 1.0, 1.0]]))


@pytest.mark.parametrize("continuous_time", [False, True])
def test_without_points_there_are_the_scales(continuous_time):
    ax = drawn(points(np.zeros((0, 3)), continuous_time=continuous_time))
    assert marks(ax) == {} and len(legend(ax)) >= 1


def test_axes_may_be_given_and_words_changed():
    fig = matplotlib.figure.Figure()
    ax = fig.add_subplot()
    assert plot_eigenvalues(points(), PlotConfig(), ax=ax) is fig
    assert ax.get_title() == "" and len(marks(ax)) == 2
    assert len(ax.get_legend().get_texts()) == 4  # of the axes, since others may be there
    config = PlotConfig(show=False, title="T", xlabel="X", ylabel="Y", show_legend=False)
    (ax,) = plot_eigenvalues(points(), config).axes
    assert (ax.get_title(), ax.get_xlabel(), ax.get_ylabel()) == ("T", "X", "Y")
    assert ax.figure.legends == []
    assert drawn(points()).get_title() == "Eigenvalues of 2 fixed points"


def test_single_precision_and_real_numbers_are_eigenvalues():
    shown = marks(drawn(points(eigval_J_xstar=np.float32([[0.5, 0.25, 0.0], [2.0, 0.1, 0.0]]))))
    np.testing.assert_array_equal(shown["saddle, index 1 (1)"], np.float32([2.0, 0.1, 0.0]))


@pytest.mark.checks_input
def test_points_without_eigenvalues_are_refused():
    with pytest.raises(ValueError, match=r"`fixed_points.eigval_J_xstar` is None; expected"):
        plot_eigenvalues(FixedPoints(xstar=np.zeros((2, 3))), PlotConfig(show=False))
    with pytest.raises(ValueError, match=r"`dt` is 0; expected"):
        plot_eigenvalues(points(), PlotConfig(show=False), dt=0)
