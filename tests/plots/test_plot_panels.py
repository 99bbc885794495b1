"""`plot_panels`: what panels share, and what each of them has of its own."""

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_hex
from sklearn.decomposition import PCA

from slowpoints import FixedPoints, PlotConfig, plot_fixed_points_2d, plot_panels

pytestmark = pytest.mark.fast

matplotlib.use("Agg")


def hidden(**settings):
    return PlotConfig(show=False, **settings)


def trajectories(trials=5, n_states=4, seed=0, time=12):
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.normal(size=(trials, time, n_states)), axis=1)


def some_points(n=3, n_states=4, seed=1, **fields):
    rng = np.random.default_rng(seed)
    stable = np.arange(n) % 3 != 1
    return FixedPoints(xstar=rng.normal(size=(n, n_states)), is_stable=stable, **fields)


PANELS = {"left": some_points(), "right": some_points(5, seed=2)}
OWN = {"left": trajectories(), "right": 3 * trajectories(2, seed=3)}


def lines(ax):
    """Return the trajectories that are drawn, which are the lines but for starts and ends."""
    drawn = [line for line in ax.lines if line.get_linestyle() != "None"]
    return [np.stack(line.get_data(), axis=1) for line in drawn]


def colors(ax):
    return [to_hex(line.get_color()) for line in ax.lines if line.get_linestyle() != "None"]


def marks(ax):
    kinds = [a for a in ax.collections if isinstance(a, PathCollection) and len(a.get_offsets())]
    return np.concatenate([np.asarray(a.get_offsets()) for a in kinds])


def legend(fig):
    return [text.get_text() for text in fig.legends[0].get_texts()] if fig.legends else []


def scales(fig):
    """Return the scaled lines of each panel; colour bars have lines without numbers."""
    found = [a for ax in fig.axes for a in ax.collections if isinstance(a, LineCollection)]
    return [lines for lines in found if lines.get_array() is not None]


# ---- what they share -----------------------------------------------------------------------------


def test_panels_share_the_components_of_all_trajectories_and_one_range():
    fig = plot_panels(PANELS, OWN, hidden())
    every = np.concatenate([own.reshape(-1, 4) for own in OWN.values()])
    pca = PCA(2).fit(every)
    assert [ax.get_title() for ax in fig.axes] == ["left", "right"]
    for ax, points, own in zip(fig.axes, PANELS.values(), OWN.values(), strict=True):
        expected = [pca.transform(trial) for trial in own]
        np.testing.assert_allclose(lines(ax), expected, atol=1e-9)
        stable = points.is_stable
        order = np.concatenate([points.xstar[stable], points.xstar[~stable]])
        np.testing.assert_allclose(marks(ax), pca.transform(order), atol=1e-9)
        low, high = pca.transform(every).min(axis=0), pca.transform(every).max(axis=0)
        assert ax.get_xlim()[0] <= low[0] and ax.get_ylim()[1] >= high[1]
    left, right = fig.axes
    assert (left.get_xlim(), left.get_ylim()) == (right.get_xlim(), right.get_ylim())
    share = 100 * pca.explained_variance_ratio_
    assert left.get_xlabel() == right.get_xlabel() == f"PC 1 ({share[0]:.1f} %)"
    assert left.get_ylabel() == f"PC 2 ({share[1]:.1f} % of variance)"
    assert right.get_ylabel() == ""


def test_without_trajectories_the_components_are_those_of_all_points():
    fig = plot_panels(PANELS, None, hidden())
    pca = PCA(2).fit(np.concatenate([points.xstar for points in PANELS.values()]))
    for ax, points in zip(fig.axes, PANELS.values(), strict=True):
        drawn, expected = marks(ax), pca.transform(points.xstar)
        away = np.linalg.norm(drawn[:, None] - expected, axis=2)
        np.testing.assert_allclose(away.min(axis=0), 0, atol=1e-9)


def test_names_and_directions_are_those_of_all_panels():
    axes = dict(zip(("choice", "motion"), np.eye(4)[[2, 0]], strict=True))
    fig = plot_panels(PANELS, OWN, hidden(), projection=axes)
    for ax, own in zip(fig.axes, OWN.values(), strict=True):
        np.testing.assert_allclose(lines(ax), own[..., [2, 0]])
        assert ax.get_xlabel() == "choice"
    assert fig.axes[0].get_ylabel() == "motion"


def test_the_legend_names_what_any_panel_has_once_and_does_not_count_it():
    panels = PANELS | {"right": some_points(1, status=np.array([2], np.int8))}
    fig = plot_panels(panels, OWN | {"right": trajectories(1)}, hidden())
    expected = {"trajectories", "start", "end", "stable fixed point", "unstable fixed point"}
    assert len(legend(fig)) == 6 and set(legend(fig)) == expected | {"slow point"}
    assert all(ax.get_legend() is None for ax in fig.axes)
    alone = plot_panels({"a": some_points(1)}, trajectories(1), hidden())
    assert legend(alone) == ["trajectory", "start", "end", "stable fixed point"]
    assert plot_panels(PANELS, OWN, hidden(show_legend=False)).legends == []


def test_brackets_that_belong_to_a_label_stay():
    fig = plot_panels({"a": some_points()}, trajectories(2), hidden(), color_by=["go (2)", "go"])
    assert {"condition go (2)", "condition go"} <= set(legend(fig))


def test_a_label_has_one_colour_in_all_panels_though_some_lack_it():
    of_trials = {"left": ["b", "a", "b", "c", "a"], "right": ["c", "b"]}
    fig = plot_panels(PANELS, OWN, hidden(), color_by=of_trials)
    left, right = (colors(ax) for ax in fig.axes)
    assert left[0] == left[2] == right[1] and left[3] == right[0]
    assert len({left[0], left[1], left[3]}) == 3
    shown = [text for text in legend(fig) if text.startswith("condition")]
    assert sorted(shown) == [f"condition {name}" for name in "abc"]
    handles = dict(zip(legend(fig), fig.legends[0].legend_handles, strict=True))
    assert to_hex(handles["condition c"].get_color()) == left[3]


def test_whole_numbers_have_colours_in_their_order_over_all_panels():
    of_trials = {"left": np.array([4, 0, 4, 0, 0]), "right": np.array([2, 4])}
    fig = plot_panels(PANELS, OWN, hidden(cmap="gray"), color_by=of_trials)
    left, right = (colors(ax) for ax in fig.axes)
    assert left[:2] == ["#ffffff", "#000000"]
    assert right == [to_hex(matplotlib.colormaps["gray"](0.5)), "#ffffff"]


def test_numbers_are_on_one_scale_with_one_bar():
    of_trials = {"left": np.array([0.5, -1, 0, 0, 0]), "right": np.array([2.5, 0])}
    fig = plot_panels(PANELS, OWN, hidden(clabel="coherence"), color_by=of_trials)
    left, right = scales(fig)
    assert left.get_clim() == right.get_clim() == (-1, 2.5)
    assert [ax.get_ylabel() for ax in fig.axes].count("coherence") == 1
    given = plot_panels(PANELS, OWN, hidden(norm=(-3, 3)), color_by=of_trials)
    assert {each.get_clim() for each in scales(given)} == {(-3, 3)}


def test_points_and_trajectories_of_all_panels_are_on_one_scale():
    of_points = {"left": np.array([9.0, 0, 1]), "right": np.arange(5.0)}
    fig = plot_panels(PANELS, OWN, hidden(), color_by="time", color_points_by=of_points)
    assert {each.get_clim() for each in scales(fig)} == {(0, 11)}
    cmap, norm = scales(fig)[0].cmap, scales(fig)[0].norm
    stable = fig.axes[0].collections[-2]
    expected = [to_hex(cmap(norm(value))) for value in (9.0, 1.0)]
    assert [to_hex(color) for color in stable.get_facecolor()] == expected


# ---- by name, or for all -------------------------------------------------------------------------


def test_trajectories_and_trials_are_for_all_panels_or_by_name():
    fig = plot_panels(PANELS, OWN["left"], hidden(), [3, 1])
    for ax in fig.axes:
        assert len(lines(ax)) == 2
    np.testing.assert_array_equal(*(lines(ax) for ax in fig.axes))
    axes = np.eye(4)[:, :2]
    own = {"left": [4], "right": None}
    fig = plot_panels(PANELS, OWN, hidden(), own, 5, projection=axes)
    np.testing.assert_allclose(lines(fig.axes[0]), OWN["left"][[4], 5:, :2])
    np.testing.assert_allclose(lines(fig.axes[1]), OWN["right"][:, 5:, :2])
    fig = plot_panels(PANELS, OWN | {"left": None}, hidden())
    assert [len(lines(ax)) for ax in fig.axes] == [0, 2]


def test_the_first_step_may_be_counted_from_the_end_of_each():
    own = {"left": trajectories(time=6), "right": trajectories(time=9)}
    fig = plot_panels(PANELS, own, hidden(), None, -2, projection=np.eye(4)[:, :2])
    for ax, states in zip(fig.axes, own.values(), strict=True):
        np.testing.assert_allclose(lines(ax), states[:, -2:, :2])


def test_layers_by_names_that_are_no_panels_are_the_same_for_all():
    h, c = trajectories(n_states=1), trajectories(n_states=3, seed=7)
    fig = plot_panels(PANELS, {"h": h, "c": c}, hidden(), projection=np.eye(4)[:, :2])
    states = np.concatenate([c, h], axis=2)  # in the order of their names, as JAX has them
    for ax in fig.axes:
        np.testing.assert_allclose(lines(ax), states[..., :2])


def test_one_panel_is_the_figure_of_its_points():
    (ax,) = plot_panels({"only": PANELS["left"]}, OWN["left"], hidden()).axes
    (alone,) = plot_fixed_points_2d(PANELS["left"], OWN["left"], hidden()).axes
    np.testing.assert_allclose(lines(ax), lines(alone))
    np.testing.assert_allclose(marks(ax), marks(alone))


# ---- where they are ------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "shape"), [(1, (1, 1)), (4, (1, 4)), (6, (2, 4)), (8, (2, 4))])
def test_more_than_four_panels_are_in_rows_and_the_lowest_ones_have_labels(n, shape):
    fig = plot_panels({f"p{k}": some_points(seed=k) for k in range(n)}, None, hidden())
    assert len(fig.axes) == n
    assert [ax.get_title() for ax in fig.axes] == [f"p{k}" for k in range(n)]
    places = [ax.get_subplotspec() for ax in fig.axes]
    assert places[0].get_gridspec().get_geometry() == shape
    fig.draw_without_rendering()
    for k, ax in enumerate(fig.axes):
        is_lowest = k + shape[1] >= n
        assert bool(ax.get_xlabel()) == is_lowest
        assert ax.xaxis.get_tick_params()["labelbottom"] == is_lowest
        assert bool(ax.get_ylabel()) == (k % shape[1] == 0)


def test_the_figure_is_as_high_as_its_rows_need_unless_its_size_is_given():
    many = {f"p{k}": some_points() for k in range(6)}
    width, height = plot_panels(PANELS, None, hidden()).get_size_inches()
    assert (width, height) == (10, pytest.approx(0.9 * 5 + 0.8))
    width, height = plot_panels(many, None, hidden()).get_size_inches()
    assert (width, height) == (10, pytest.approx(0.9 * 2.5 * 2 + 0.8))
    fig = plot_panels(many, None, hidden(figsize=(7, 3)))
    assert fig.get_size_inches().tolist() == [7, 3]


def test_the_title_is_above_all_panels():
    fig = plot_panels(PANELS, OWN, hidden(title="Two contexts"))
    assert fig.get_suptitle() == "Two contexts"
    for title in ("", None):
        fig = plot_panels(PANELS, OWN, hidden(title=title))
        assert fig.get_suptitle() == ""
        assert [ax.get_title() for ax in fig.axes] == ["left", "right"]


def test_a_label_of_the_callers_is_not_shortened():
    fig = plot_panels(PANELS, OWN, hidden(xlabel="part of variance"), projection=np.eye(4)[:, :2])
    assert fig.axes[0].get_xlabel() == "part of variance"


def test_it_is_written_to_a_file(tmp_path):
    path = tmp_path / "new" / "panels.pdf"
    plot_panels(PANELS, OWN, hidden(save_path=path), color_by="time")
    content = path.read_bytes()
    assert b"/Type3" not in content and b"/CIDFontType2" in content


# ---- few states and no points --------------------------------------------------------------------


def test_return_maps_have_one_range_and_one_scale_of_both_axes():
    panels = {"a": some_points(n_states=1), "b": some_points(n_states=1, seed=4)}
    own = {"a": trajectories(n_states=1), "b": 4 * trajectories(n_states=1, seed=5)}
    fig = plot_panels(panels, own, hidden())
    fig.draw_without_rendering()
    for ax, states in zip(fig.axes, own.values(), strict=True):
        expected = np.concatenate([states[:, :-1], states[:, 1:]], axis=2)
        np.testing.assert_allclose(lines(ax)[:5], expected)
        box, (left, right), (low, high) = ax.bbox, ax.get_xlim(), ax.get_ylim()
        assert box.width / (right - left) == pytest.approx(box.height / (high - low))
    assert fig.axes[0].get_xlim() == fig.axes[1].get_xlim()
    assert "$x_{t+1} = x_t$" in legend(fig)


@pytest.mark.parametrize("empty", [FixedPoints(), some_points()[:0]], ids=["bare", "sized"])
@pytest.mark.parametrize("own", [None, {"left": OWN["left"], "right": None}, OWN["left"]])
def test_a_panel_without_points_has_the_axes_of_the_others(empty, own):
    fig = plot_panels({"left": PANELS["left"], "right": empty}, own, hidden())
    left, right = fig.axes
    full = plot_panels({"left": PANELS["left"], "right": PANELS["left"]}, own, hidden())
    np.testing.assert_allclose(marks(left), marks(full.axes[0]))
    assert [a for a in right.collections if isinstance(a, PathCollection)] == []
    assert len(lines(right)) == (5 if isinstance(own, np.ndarray) else 0)
    assert (left.get_xlim(), left.get_xlabel()) == (right.get_xlim(), right.get_xlabel())


def test_a_panel_without_points_has_no_conditions_to_ask_for():
    panels = {"left": some_points(cond_id=np.array([0, 1, 1])), "right": FixedPoints()}
    fig = plot_panels(panels, OWN, hidden(), color_by="cond_id")
    assert [text for text in legend(fig) if "condition" in text] == ["condition 0", "condition 1"]


def test_panels_without_any_points_and_trajectories_are_empty():
    fig = plot_panels({"a": FixedPoints(), "b": FixedPoints()}, None, hidden())
    assert [ax.get_title() for ax in fig.axes] == ["a", "b"]
    assert all(len(ax.collections) == len(ax.lines) == 0 for ax in fig.axes)
    assert legend(fig) == []


# ---- bad input -----------------------------------------------------------------------------------


@pytest.mark.checks_input
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fixed_points": some_points()}, r"`fixed_points` is a slow.*; expected a dict of names"),
        ({"fixed_points": {}}, r"`fixed_points` is empty; expected a panel or more"),
        ({"fixed_points": {"a": 3}}, r"`fixed_points\['a'\]` is 3; expected a slowpoints.Fixed"),
        (
            {"fixed_points": {"a": some_points(), "b": some_points(n_states=3)}},
            "`fixed_points` has points of 3 and 4 states; expected points of one network",
        ),
        (
            {"state_traj": OWN | {"right": trajectories(n_states=3)}},
            "plot_panels, panel 'right': `state_traj` has 3 columns.*; expected 4, .* the points",
        ),
        (
            {
                "fixed_points": {"left": FixedPoints(), "right": FixedPoints()},
                "state_traj": OWN | {"right": trajectories(n_states=3)},
            },
            "panel 'right': `state_traj` has 3 columns.*; expected 4, .* the other panels",
        ),
        (
            {"state_traj": OWN | {"right": OWN["right"][0]}},
            r"panel 'right': `state_traj` has shape \(12, 4\); expected \(trials, time",
        ),
        (
            {"state_traj": OWN | {"right": OWN["right"] * np.nan}},
            r"panel 'right': `state_traj`, of shape .* not finite",
        ),
        ({"state_traj": {"left": OWN["left"]}}, r"`state_traj` has no 'right'; expected one for"),
        ({"color_by": {"left": "time"}}, r"`color_by` has no 'right'; expected .* 'left', 'right'"),
        (
            {"color_by": {"left": "time", "right": "time", "middle": "time"}},
            r"`color_by` has 'middle'; expected one for each panel, 'left', 'right'",
        ),
        (
            {"color_by": {"left": "time", "right": np.ones(5)}},
            r"panel 'right': `color_by` has shape \(5,\); expected \(2,\)",
        ),
        ({"color_points_by": np.ones(3)}, r"panel 'right': `color_points_by` has shape \(3,\)"),
        ({"plot_start_time": "x"}, "panel 'left': `plot_start_time` is 'x'; expected a whole"),
        ({"plot_start_time": 12}, "`plot_start_time` is 12; expected .* at most 11"),
        ({"plot_batch_idx": [4]}, "panel 'right': `plot_batch_idx` is from 4 to 4; expected at"),
        ({"projection": np.ones((3, 2))}, r"`projection` has shape \(3, 2\); expected \(4, 2\)"),
        ({"eigenvectors": "slow"}, "panel 'left': `eigenvectors` is 'slow'"),
        ({"config": 3}, "plot_panels: `config` is 3; expected a slowpoints.PlotConfig"),
    ],
)
def test_bad_input_is_named(arguments, message):
    given = {"fixed_points": PANELS, "state_traj": OWN, "config": hidden()} | arguments
    with pytest.raises((TypeError, ValueError), match=message):
        plot_panels(**given)


def fills(ax):
    kinds = [a for a in ax.collections if isinstance(a, PathCollection) and len(a.get_offsets())]
    return {to_hex(color) for kind in kinds for color in kind.get_facecolors()}


def test_points_without_a_number_are_white_beside_others_that_have_one():
    """In the colours of their kinds, they looked as if they had numbers of the scale."""
    numbers = {"left": np.array([0.5, np.nan, 1.0]), "right": None}
    fig = plot_panels(PANELS, OWN, hidden(), color_points_by=numbers)
    left, right, *_ = fig.axes
    assert fills(right) == {"#ffffff"} and "#ffffff" in fills(left) and len(fills(left)) == 3
    every = plot_fixed_points_2d(PANELS["left"], None, hidden(), color_points_by=np.full(3, np.nan))
    assert fills(every.axes[0]) == {"#ffffff"}
    # Beside words, kinds have their own colours.
    words = {"left": ["a", "b", "a"], "right": None}
    fig = plot_panels(PANELS, OWN, hidden(), color_points_by=words)
    assert "#ffffff" not in fills(fig.axes[1])


@pytest.mark.checks_input
def test_words_in_one_panel_and_numbers_in_another_are_refused():
    mixed = {"left": [0.5, 0.1, 1.0], "right": ["none"] * 5}
    with pytest.raises(ValueError, match="has words in one panel and numbers in another"):
        plot_panels(PANELS, OWN, hidden(), color_points_by=mixed)


def test_a_figure_for_two_columns_is_180_mm_wide():
    one, two = PlotConfig.for_column(show=False), PlotConfig.for_column(2, show=False)
    assert [round(25.4 * config.figsize[0]) for config in (one, two)] == [85, 180]
    with pytest.raises(ValueError, match="`columns` is 3; expected 1 or 2"):
        PlotConfig.for_column(3)


def test_points_without_a_number_do_not_widen_the_scale():
    numbers = {"left": np.array([-0.2, 0.1, 0.3]), "right": None}
    fig = plot_panels(PANELS, None, hidden(), color_points_by=numbers)
    assert fig.axes[-1].get_ylim() == (-0.2, 0.3)
