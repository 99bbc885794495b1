"""The figures: what is drawn where, what the labels say, and what is left behind."""

import inspect
import subprocess
import sys
from dataclasses import fields

import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from PIL import Image
from sklearn.decomposition import PCA

from slowpoints._drawing.config import PlotConfig
from slowpoints._plots.fixed_points import plot_fixed_points_2d, plot_fixed_points_3d
from slowpoints._points.fixed_points import FixedPoints

pytestmark = pytest.mark.fast

matplotlib.use("Agg")

PLOTS = {2: plot_fixed_points_2d, 3: plot_fixed_points_3d}
both = pytest.mark.parametrize("n_axes", [2, 3])


def hidden(**settings):
    return PlotConfig(show=False, **settings)


def trajectories(trials=5, time=12, n_states=6, seed=0):
    rng = np.random.default_rng(seed)
    scale = 2.0 ** -np.arange(n_states)
    return (3 + np.cumsum(rng.normal(size=(trials, time, n_states)), axis=1) * scale).astype("f4")


def spectrum(index, n_states=6):
    """Return eigenvalues of which `index` lie outside the unit circle."""
    return np.where(np.arange(n_states) < index, -1.5, 0.5j)


def some_points(n_states=6, indices=(0, 0, 1, 2, 1)):
    rng = np.random.default_rng(1)
    eigval = np.stack([spectrum(k, n_states) for k in indices])
    return FixedPoints(
        xstar=rng.normal(size=(len(indices), n_states)).astype("f4"),
        eigval_J_xstar=eigval,
        is_stable=np.abs(eigval).max(axis=1) < 1,
    )


def marks(fig):
    """Return what was drawn as points: name without the count -> coordinates `[n, axes]`."""
    (ax,) = fig.axes
    drawn = {}
    for artist in ax.collections:
        if isinstance(artist, PathCollection):
            name, count = artist.get_label().rsplit(" (", 1)
            if hasattr(artist, "_offsets3d"):
                xyz = np.stack([np.asarray(c, float) for c in artist._offsets3d], axis=1)
            else:
                xyz = np.asarray(artist.get_offsets())
            assert count == f"{len(xyz)})"
            drawn[name] = xyz
    return drawn


def lines(fig, n):
    """Return the first `n` lines, which are the trajectories, as `[n][steps, axes]`."""
    return [
        np.stack(line.get_data_3d() if hasattr(line, "get_data_3d") else line.get_data(), axis=1)
        for line in drawn_lines(fig)[:n]
    ]


def ends(fig):
    """Return the marks for where trajectories start and end, each `[shown, axes]`."""
    found = {"o": [], "s": []}
    for line in fig.axes[0].lines:
        if line.get_linestyle() == "None":
            place = line.get_data_3d() if hasattr(line, "get_data_3d") else line.get_data()
            found[line.get_marker()].append(np.concatenate(place))
    return tuple(np.array(places) for places in found.values())


def drawn_lines(fig):
    """Return the lines that are no marks of starts and ends."""
    return [line for line in fig.axes[0].lines if line.get_linestyle() != "None"]


def labels(fig):
    (ax,) = fig.axes
    names = [ax.get_xlabel(), ax.get_ylabel()]
    return names + ([ax.get_zlabel()] if hasattr(ax, "get_zlabel") else [])


def legend_entries(fig):
    return [text.get_text() for text in fig.axes[0].get_legend().get_texts()]


# ---- status ----------------------------------------------------------------------------------


@both
def test_points_that_are_no_fixed_points_are_named_as_what_they_are(n_axes):
    status = np.array([1, 2, 1, 2, 4], np.int8)
    fps = some_points().replace(status=status)
    fig = PLOTS[n_axes](fps, trajectories(), hidden())
    assert {name: len(x) for name, x in marks(fig).items()} == {
        "stable fixed point": 1,
        "saddle, index 1": 1,
        "slow point": 2,
        "unfinished point": 1,
    }
    (ax,) = fig.axes
    looks = [artist.get_facecolor().tobytes() for artist in ax.collections]
    assert len(set(looks)) == 4
    title = "2 fixed points, 2 slow points and 1 unfinished point, 5 trajectories"
    assert ax.get_title() == title


def test_points_that_are_all_slow_are_not_called_fixed():
    fps = some_points().replace(status=np.full(5, 2, np.int8))
    fig = PLOTS[2](fps, trajectories(), hidden())
    assert list(marks(fig)) == ["slow point"]
    assert not any("fixed" in text for text in [*legend_entries(fig), fig.axes[0].get_title()])


# ---- the projection --------------------------------------------------------------------------


@both
def test_points_and_trajectories_are_projected_with_the_pca_of_the_trajectories_alone(n_axes):
    traj, fps = trajectories(), some_points()
    fig = PLOTS[n_axes](fps, traj, hidden())
    pca = PCA(n_axes).fit(traj.reshape(-1, 6).astype("f8"))
    expected = pca.transform(fps.xstar.astype("f8"))
    drawn = marks(fig)
    np.testing.assert_allclose(drawn["stable fixed point"], expected[[0, 1]], atol=1e-6)
    np.testing.assert_allclose(drawn["saddle, index 1"], expected[[2, 4]], atol=1e-6)
    np.testing.assert_allclose(drawn["saddle, index 2"], expected[[3]], atol=1e-6)
    for line, trial in zip(lines(fig, 5), traj, strict=True):
        np.testing.assert_allclose(line, pca.transform(trial.astype("f8")), atol=1e-6)
    ratios = pca.explained_variance_ratio_
    end = " of variance)" if n_axes == 2 else ")"
    assert labels(fig) == [f"PC {k + 1} ({100 * r:.1f} %{end}" for k, r in enumerate(ratios)]


@pytest.mark.slow
@both
def test_far_fixed_points_do_not_turn_the_axes(n_axes):
    traj, fps = trajectories(), some_points()
    far = fps.replace(xstar=100 * fps.xstar)
    near_lines = lines(PLOTS[n_axes](fps, traj, hidden()), 5)
    far_lines = lines(PLOTS[n_axes](far, traj, hidden()), 5)
    np.testing.assert_array_equal(near_lines, far_lines)


@both
def test_the_pca_is_that_of_all_trials_from_the_first_step_shown(n_axes):
    traj = trajectories()
    fig = PLOTS[n_axes](some_points(), traj, hidden(), [3, 1], 4)
    pca = PCA(n_axes).fit(traj[:, 4:].reshape(-1, 6).astype("f8"))
    drawn = lines(fig, 3)
    assert len(drawn) == 2
    for line, trial in zip(drawn, traj[[3, 1], 4:], strict=True):
        np.testing.assert_allclose(line, pca.transform(trial.astype("f8")), atol=1e-6)


def test_the_pca_of_very_many_states_is_that_of_an_even_sample(monkeypatch):
    traj = trajectories(trials=40, time=50)
    every = labels(plot_fixed_points_2d(some_points(), traj, hidden(), [0]))
    monkeypatch.setattr("slowpoints._drawing.view.MOST_SAMPLES", 500)
    sample = labels(plot_fixed_points_2d(some_points(), traj, hidden(), [0]))
    shares = [[float(text.split("(")[1].split()[0]) for text in names] for names in (every, sample)]
    assert every != sample
    np.testing.assert_allclose(*shares, atol=3)
    rows = np.linspace(0, 1999, 500).astype(int)
    pca = PCA(2).fit(traj.reshape(-1, 6)[rows].astype("f8"))
    np.testing.assert_allclose(shares[1], 100 * pca.explained_variance_ratio_, atol=0.06)


@pytest.mark.slow_cases
@both
@pytest.mark.parametrize("chosen", [[2, 0], range(2, 4), np.array([1, 4]), jnp.array([1, 4]), [-1]])
def test_trials_are_chosen_by_lists_ranges_and_arrays(n_axes, chosen):
    fig = PLOTS[n_axes](FixedPoints(), trajectories(), hidden(), chosen)
    assert len(drawn_lines(fig)) == len(chosen)
    assert f"{len(chosen)} of 5 trajectories" in fig.axes[0].get_title()


@pytest.mark.slow
@both
def test_eight_trials_evenly_spaced_are_the_default(n_axes):
    traj = trajectories(trials=85)
    fig = PLOTS[n_axes](some_points(), traj, hidden())
    even = PLOTS[n_axes](some_points(), traj, hidden(), range(0, 85, 12))
    np.testing.assert_array_equal(lines(fig, 85), lines(even, 85))
    assert len(drawn_lines(fig)) == 8
    assert fig.axes[0].get_title() == "5 fixed points, 8 of 85 trajectories"


@pytest.mark.slow
@both
def test_jax_arrays_give_the_same_figure(n_axes):
    traj, fps = trajectories(), some_points()
    on_jax = FixedPoints(
        xstar=jnp.asarray(fps.xstar),
        eigval_J_xstar=jnp.asarray(fps.eigval_J_xstar),
        is_stable=jnp.asarray(fps.is_stable),
        valid=jnp.array([True, True, False, True, True]),
    )
    fps = fps.replace(valid=np.asarray(on_jax.valid))
    ours, theirs = (
        marks(PLOTS[n_axes](points, states, hidden()))
        for points, states in [(fps, traj), (on_jax, jnp.asarray(traj))]
    )
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name])


# ---- the kinds of points ---------------------------------------------------------------------


def test_stable_and_unstable_points_differ_in_shape_and_colour():
    traj = trajectories()
    fig = plot_fixed_points_2d(some_points(indices=(0, 1, 2, 3, 4, 5)), traj, hidden())
    artists = fig.axes[0].collections
    assert len(artists) == 6
    assert len({artist.get_paths()[0].vertices.tobytes() for artist in artists}) == 6
    assert len({to_hex(artist.get_facecolor()[0]) for artist in artists}) == 6


@both
def test_the_legend_counts_each_kind(n_axes):
    fig = PLOTS[n_axes](some_points(), trajectories(), hidden())
    assert legend_entries(fig) == [
        "trajectories (5)",
        "start",
        "end",
        "stable fixed point (2)",
        "saddle, index 1 (2)",
        "saddle, index 2 (1)",
    ]


def test_an_index_keeps_its_looks_whatever_else_is_there():
    traj = trajectories()
    alone = plot_fixed_points_2d(some_points(indices=(2,)), traj, hidden()).axes[0].collections[0]
    among = plot_fixed_points_2d(some_points(indices=(0, 1, 2)), traj, hidden())
    same = among.axes[0].collections[2]
    assert alone.get_label() == same.get_label() == "saddle, index 2 (1)"
    np.testing.assert_array_equal(alone.get_facecolor(), same.get_facecolor())


def test_high_indices_share_an_entry_and_a_full_index_is_a_repeller():
    fps = some_points(n_states=9, indices=(5, 8, 9, 1))
    drawn = marks(plot_fixed_points_2d(fps, trajectories(n_states=9), hidden()))
    assert {name: len(xy) for name, xy in drawn.items()} == {
        "saddle, index 1": 1,
        "unstable, index 5 to 9": 3,
    }
    drawn = marks(plot_fixed_points_2d(fps[[2, 3]], trajectories(n_states=9), hidden()))
    assert list(drawn) == ["saddle, index 1", "repeller, index 9"]


@both
def test_without_eigenvalues_unstable_points_have_one_kind(n_axes):
    fps = some_points().replace(eigval_J_xstar=None)
    drawn = marks(PLOTS[n_axes](fps, trajectories(), hidden()))
    assert {name: len(x) for name, x in drawn.items()} == {
        "stable fixed point": 2,
        "unstable fixed point": 3,
    }


@both
def test_before_any_linearisation_stability_is_unknown(n_axes):
    fps = some_points().replace(eigval_J_xstar=None, is_stable=None)
    drawn = marks(PLOTS[n_axes](fps, trajectories(), hidden()))
    assert {name: len(x) for name, x in drawn.items()} == {"fixed point, stability unknown": 5}


def test_eigenvalues_alone_tell_the_stability():
    fps = some_points()
    with_flags = marks(plot_fixed_points_2d(fps, trajectories(), hidden()))
    without = marks(plot_fixed_points_2d(fps.replace(is_stable=None), trajectories(), hidden()))
    assert with_flags.keys() == without.keys()


def test_points_whose_index_is_unknown_are_just_unstable():
    fps = some_points(indices=(0, 1, 1))
    fps.eigval_J_xstar[2] = np.nan
    drawn = marks(plot_fixed_points_2d(fps, trajectories(), hidden()))
    assert {name: len(x) for name, x in drawn.items()} == {
        "stable fixed point": 1,
        "saddle, index 1": 1,
        "unstable fixed point": 1,
    }


@pytest.mark.slow
@both
def test_only_valid_rows_are_drawn(n_axes):
    fps, valid = some_points(), np.array([True, False, False, True, False])
    fps.xstar[1] = np.nan  # padding may hold anything
    fig = PLOTS[n_axes](fps.replace(valid=valid), trajectories(), hidden())
    reference = marks(PLOTS[n_axes](fps[valid], trajectories(), hidden()))
    drawn = marks(fig)
    assert list(drawn) == ["stable fixed point", "saddle, index 2"]
    for name in drawn:
        np.testing.assert_array_equal(drawn[name], reference[name])
    assert fig.axes[0].get_title().startswith("2 fixed points")


@pytest.mark.slow_cases
@both
@pytest.mark.parametrize(
    "fps",
    [
        FixedPoints(),
        FixedPoints(xstar=np.zeros((0, 6))),
        some_points()[[]],
        some_points().replace(valid=np.zeros(5, bool)),
    ],
)
def test_without_fixed_points_the_trajectories_are_drawn(n_axes, fps):
    fig = PLOTS[n_axes](fps, trajectories(), hidden())
    assert marks(fig) == {}
    assert len(drawn_lines(fig)) == 5
    assert legend_entries(fig) == ["trajectories (5)", "start", "end"]
    assert fig.axes[0].get_title() == "No fixed points, 5 trajectories"


# ---- few dimensions, few samples ---------------------------------------------------------------


def test_one_dimensional_states_are_drawn_as_a_return_map():
    traj = trajectories(n_states=1)
    fps = some_points(n_states=1, indices=(0, 1))
    fps.F_xstar = fps.xstar + 0.25
    fig = plot_fixed_points_2d(fps, traj, hidden())
    assert labels(fig) == ["state $x_t$", "next state $x_{t+1}$"]
    drawn = marks(fig)
    np.testing.assert_allclose(
        drawn["stable fixed point"], [[fps.xstar[0, 0], fps.F_xstar[0, 0]]], rtol=1e-7
    )
    assert "repeller, index 1" in drawn
    for line, trial in zip(lines(fig, 5), traj[..., 0], strict=True):
        np.testing.assert_allclose(line, np.stack([trial[:-1], trial[1:]], axis=1), rtol=1e-7)
    (diagonal,) = drawn_lines(fig)[5:]
    np.testing.assert_array_equal(*diagonal.get_data())


def test_without_F_xstar_the_points_of_a_return_map_are_on_the_diagonal():
    fps = some_points(n_states=1, indices=(0,))
    (xy,) = marks(plot_fixed_points_2d(fps, trajectories(n_states=1), hidden())).values()
    np.testing.assert_allclose(xy, [[fps.xstar[0, 0]] * 2], rtol=1e-7)


def test_two_dimensional_states_are_only_rotated():
    traj, fps = trajectories(n_states=2), some_points(n_states=2)
    fig = plot_fixed_points_2d(fps, traj, hidden())
    states = np.concatenate(list(marks(fig).values()))
    order = [0, 1, 2, 4, 3]
    for drawn, given in [(states, fps.xstar[order]), (lines(fig, 1)[0], traj[0])]:
        np.testing.assert_allclose(
            np.linalg.norm(np.diff(drawn, axis=0), axis=1),
            np.linalg.norm(np.diff(given, axis=0), axis=1),
            rtol=1e-5,
        )


@pytest.mark.slow
@pytest.mark.parametrize("n_states", [1, 2])
def test_time_is_the_third_axis_where_the_states_have_too_few(n_states):
    traj, fps = trajectories(n_states=n_states), some_points(n_states=n_states, indices=(0, 1))
    flat = plot_fixed_points_2d(fps, traj, hidden(), plot_start_time=4)
    fig = plot_fixed_points_3d(fps, traj, hidden(), plot_start_time=4)
    assert labels(fig) == [label.replace(" of variance", "") for label in labels(flat)] + [
        "time step $t$"
    ]
    for line, reference in zip(lines(fig, 5), lines(flat, 5), strict=True):
        np.testing.assert_array_equal(line[:, :2], reference)
        np.testing.assert_array_equal(line[:, 2], 4 + np.arange(len(line)))
    for name, xy in marks(flat).items():
        xyz = marks(fig)[name]
        np.testing.assert_array_equal(xyz, [[*row, 11.0] for row in xy])
        assert any(
            np.array_equal(line.get_data_3d(), [[x, x], [y, y], [4, 11]])
            for line in drawn_lines(fig)[5:]
            for x, y in xy
        )


@pytest.mark.one_in(5)
@both
@pytest.mark.parametrize("n_states", [1, 2, 3, 6])
@pytest.mark.parametrize(("trials", "time"), [(1, 1), (1, 2), (2, 1), (1, 12)])
@pytest.mark.parametrize("n_points", [0, 2])
@pytest.mark.slow
def test_few_samples_are_enough(n_axes, n_states, trials, time, n_points):
    traj = trajectories(trials, time, n_states)
    fps = some_points(n_states)[:n_points]
    fig = PLOTS[n_axes](fps, traj, hidden())
    fig.draw_without_rendering()
    assert sum(len(xyz) for xyz in marks(fig).values()) == n_points
    for coordinates in [*marks(fig).values(), *lines(fig, trials)]:
        assert np.isfinite(coordinates).all()
    assert not any("nan" in label for label in labels(fig))


def test_missing_directions_still_tell_points_apart():
    # One sample spans no direction; the points must not all fall onto the origin.
    fps = some_points()
    xyz = np.concatenate(
        list(marks(plot_fixed_points_3d(fps, trajectories(1, 2), hidden())).values())
    )
    assert np.ptp(xyz, axis=0).min() > 0.1


@pytest.mark.slow_cases
@both
@pytest.mark.parametrize("value", [0.0, 0.1, 1e30])
def test_trajectories_that_stand_still_explain_no_variance(n_axes, value):
    traj = np.full((3, 7, 4), value, dtype=np.float32)
    fig = PLOTS[n_axes](some_points(n_states=4), traj, hidden())
    fig.draw_without_rendering()
    assert labels(fig) == [
        f"PC {k + 1} (0.0 %{' of variance' * (n_axes == 2)})" for k in range(n_axes)
    ]
    np.testing.assert_array_equal(lines(fig, 3), np.zeros((3, 7, n_axes)))
    assert fig.axes[0].lines[0].get_marker() == "."


def test_the_three_axes_have_one_scale():
    ax = plot_fixed_points_3d(some_points(), trajectories(), hidden()).axes[0]
    limits = [ax.get_xlim3d(), ax.get_ylim3d(), ax.get_zlim3d()]
    scale = np.ptp(limits, axis=1) / ax.get_box_aspect()
    np.testing.assert_allclose(scale, scale[0])


# ---- the configuration -------------------------------------------------------------------------


def test_the_configuration_has_the_documented_fields_in_order_and_their_defaults():
    defaults = {field.name: field.default for field in fields(PlotConfig)}
    assert list(defaults.items()) == [
        ("title", ""),
        ("xlabel", ""),
        ("ylabel", ""),
        ("figsize", (10, 6)),
        ("grid", False),
        ("save_path", None),
        ("show", True),
        ("time_steps_per_second", None),
        ("fps", 30),
        ("repeat", True),
        ("show_progress_bar", True),
        ("render_backend", None),
        ("render_workers", None),
        ("render_start_method", None),
        ("show_legend", True),
        ("color", "black"),
        ("clabel", "Value"),
        ("kwargs", None),
        ("savefig_kwargs", None),
        ("rasterized", None),
        ("save_dpi", 300),
        ("save_bbox_inches", "tight"),
        ("save_format", None),
        ("verbose", False),
        ("font_size", None),
        ("cmap", None),
        ("norm", None),
    ]


NEW = {2: dict.fromkeys(("ax", "projection", "color_by", "color_points_by", "eigenvectors"))}
NEW[3] = NEW[2] | {"interactive": False}


@both
def test_the_signature_is_the_documented_one(n_axes):
    parameters = inspect.signature(PLOTS[n_axes]).parameters
    assert {name: p.default for name, p in parameters.items()} == {
        "fixed_points": inspect.Parameter.empty,
        "state_traj": inspect.Parameter.empty,
        "config": None,
        "plot_batch_idx": None,
        "plot_start_time": 0,
    } | NEW[n_axes]
    assert all(parameters[name].kind == inspect.Parameter.KEYWORD_ONLY for name in NEW[n_axes])


def test_for_static_plot_drops_the_time_base():
    config = PlotConfig.for_static_plot(title="a", time_steps_per_second=100)
    assert config == PlotConfig(title="a")


def test_kwargs_win_over_fields():
    assert PlotConfig().to_matplotlib_kwargs() == {}
    assert PlotConfig(rasterized=True).to_matplotlib_kwargs() == {"rasterized": True}
    config = PlotConfig(rasterized=True, kwargs={"rasterized": False, "lw": 3})
    assert config.to_matplotlib_kwargs() == {"rasterized": False, "lw": 3}
    assert PlotConfig().to_savefig_kwargs() == {"dpi": 300, "bbox_inches": "tight"}
    config = PlotConfig(
        savefig_kwargs={"dpi": 50, "transparent": True}, save_bbox_inches=None, save_format="pdf"
    )
    assert config.to_savefig_kwargs() == {"dpi": 50, "transparent": True, "format": "pdf"}


def test_the_dictionaries_given_stay_as_they_are():
    kwargs, savefig_kwargs = {"lw": 3}, {"dpi": 50}
    config = PlotConfig(rasterized=True, kwargs=kwargs, savefig_kwargs=savefig_kwargs, show=False)
    plot_fixed_points_2d(some_points(), trajectories(), config)
    config.to_savefig_kwargs()
    assert kwargs == {"lw": 3}
    assert savefig_kwargs == {"dpi": 50}


@pytest.mark.slow
@both
def test_labels_titles_size_and_grid_act(n_axes):
    config = hidden(title="T", xlabel="X", ylabel="Y", figsize=(4, 3), grid=True)
    fig = PLOTS[n_axes](some_points(), trajectories(), config)
    assert fig.axes[0].get_title() == "T"
    assert [label.split(" (")[0] for label in labels(fig)] == ["X", "Y", "PC 3"][:n_axes]
    assert all(" %" in label for label in labels(fig))
    assert tuple(fig.get_size_inches()) == (4, 3)
    fig.draw_without_rendering()
    assert fig.axes[0].xaxis.get_gridlines()[0].get_visible() or n_axes == 3
    if n_axes == 3:
        assert fig.axes[0]._draw_grid
        assert not PLOTS[3](some_points(), trajectories(), hidden()).axes[0]._draw_grid


def test_no_title_and_no_legend_on_request():
    fig = plot_fixed_points_2d(some_points(), trajectories(), hidden(title=None, show_legend=False))
    assert fig.axes[0].get_title() == ""
    assert fig.axes[0].get_legend() is None


def test_labels_of_a_return_map_can_be_set():
    config = hidden(xlabel="X", ylabel="Y")
    fig = plot_fixed_points_2d(some_points(1, (0,)), trajectories(n_states=1), config)
    assert labels(fig) == ["X", "Y"]


@pytest.mark.slow
@both
def test_colour_and_line_properties_act_on_the_trajectories(n_axes):
    config = hidden(color="tab:green", rasterized=True, kwargs={"lw": 3, "alpha": 1.0})
    fig = PLOTS[n_axes](some_points(), trajectories(), config)
    for line in drawn_lines(fig):
        assert to_rgba(line.get_color()) == to_rgba("tab:green")
        assert (line.get_linewidth(), line.get_alpha(), line.get_rasterized()) == (3, 1.0, True)
    fig = PLOTS[n_axes](some_points(), trajectories(), hidden(kwargs={"c": "red"}))
    assert fig.axes[0].lines[0].get_color() == "red"


@both
def test_trajectories_lie_below_the_points(n_axes):
    ax = PLOTS[n_axes](some_points(), trajectories(), hidden()).axes[0]
    assert max(a.get_zorder() for a in ax.lines) < min(a.get_zorder() for a in ax.collections)


@pytest.mark.slow_cases
@both
def test_the_legend_is_beside_the_axes(n_axes):
    fig = PLOTS[n_axes](some_points(), trajectories(), hidden())
    fig.draw_without_rendering()
    (ax,) = fig.axes
    legend = ax.get_legend().get_window_extent()
    assert legend.x0 > ax.get_window_extent().x1
    assert legend.x1 <= fig.bbox.x1


# ---- files and windows -------------------------------------------------------------------------


@pytest.mark.slow
@both
@pytest.mark.parametrize(
    ("suffix", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")]
)
def test_the_suffix_chooses_the_format_and_folders_are_made(n_axes, suffix, magic, tmp_path):
    path = tmp_path / "new" / "folder" / f"figure.{suffix}"
    PLOTS[n_axes](some_points(), trajectories(), hidden(save_path=path, save_dpi=40))
    assert path.read_bytes().startswith(magic)


def test_resolution_margins_and_format_act(tmp_path):
    path = str(tmp_path / "figure.dat")
    settings = {"save_path": path, "figsize": (5, 4), "save_dpi": 40, "save_bbox_inches": None}
    config = hidden(**settings, save_format="png")
    plot_fixed_points_2d(some_points(), trajectories(), config)
    with Image.open(path) as image:
        assert (image.format, image.size) == ("PNG", (200, 160))
    config = hidden(**settings, savefig_kwargs={"format": "jpeg", "dpi": 20})
    plot_fixed_points_2d(some_points(), trajectories(), config)
    with Image.open(path) as image:
        assert (image.format, image.size) == ("JPEG", (100, 80))


@pytest.fixture
def pyplot():
    from matplotlib import pyplot as plt

    plt.close("all")
    yield plt
    plt.close("all")


@pytest.mark.slow
@both
def test_a_hidden_figure_is_unknown_to_pyplot_and_still_usable(
    n_axes, pyplot, monkeypatch, tmp_path
):
    monkeypatch.setattr(pyplot, "show", lambda: pytest.fail("show was called"))
    fig = PLOTS[n_axes](some_points(), trajectories(), hidden(save_path=tmp_path / "a.png"))
    assert pyplot.get_fignums() == []
    assert isinstance(fig, Figure)
    fig.axes[0].set_title("later")
    fig.savefig(tmp_path / "b.png")
    assert (tmp_path / "b.png").stat().st_size > 1000


@both
def test_figures_are_shown_by_default(n_axes, pyplot, monkeypatch):
    shown = []
    monkeypatch.setattr(pyplot, "show", lambda: shown.append(pyplot.get_fignums()))
    fig = PLOTS[n_axes](some_points(), trajectories())
    assert shown == [[fig.number]]


@pytest.mark.slow_cases
@both
def test_a_file_is_written_before_the_window_opens(n_axes, pyplot, monkeypatch, tmp_path):
    path, seen = tmp_path / "a.png", []
    monkeypatch.setattr(pyplot, "show", lambda: seen.append(path.exists()))
    PLOTS[n_axes](some_points(), trajectories(), PlotConfig(save_path=path, save_dpi=40))
    assert seen == [True]


@pytest.mark.slow
@both
def test_nothing_is_printed_unless_asked(n_axes, capfd, tmp_path):
    path = tmp_path / "a.png"
    PLOTS[n_axes](some_points(), trajectories(), hidden(save_path=path, save_dpi=40))
    assert capfd.readouterr() == ("", "")
    config = hidden(save_path=path, save_dpi=40, verbose=True)
    fig = PLOTS[n_axes](some_points(), trajectories(), config)
    out = capfd.readouterr().out
    assert str(path) in out
    assert all(label in out for label in labels(fig))


@pytest.mark.slow
def test_the_users_settings_stay_as_they_are():
    before = matplotlib.rcParams.copy()
    for plot in PLOTS.values():
        plot(some_points(), trajectories(), hidden(grid=True))
    assert matplotlib.rcParams == before


@pytest.mark.slow
def test_importing_the_module_loads_no_plotting_library():
    code = "import slowpoints, sys; assert not {'matplotlib', 'sklearn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- bad input ---------------------------------------------------------------------------------

TRAJ = trajectories()


@both
@pytest.mark.checks_input
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"state_traj": TRAJ[0]},
            r"`state_traj` has shape \(12, 6\); expected \(trials, time, n_states\); one trial is "
            r"`state_traj\[None\]`",
        ),
        (  # by layers, and as a pair (h, c)
            {"state_traj": TRAJ.reshape(5, 12, 2, 3)},
            r"\(5, 12, 2, 3\); expected \(trials, time, n_states\); "
            r"`slowpoints.as_transition\(model\).flatten` makes such vectors",
        ),
        (
            {"state_traj": (TRAJ[..., :3], TRAJ[:4, :, 3:])},
            r"`state_traj` is the tuple .*; `slowpoints.as_transition\(model\).flatten` makes",
        ),
        (
            {"state_traj": {"h": TRAJ[0]}},
            r"is the dict .*; expected .*; `slowpoints.as_transition\(model\).flatten` makes",
        ),
        ({"state_traj": TRAJ[:0]}, r"`state_traj` is empty: its shape is \(0, 12, 6\); expected"),
        ({"state_traj": TRAJ[:, :0]}, r"`state_traj` is empty: its shape is \(5, 0, 6\); expected"),
        (
            {"state_traj": TRAJ[..., :0]},
            r"`state_traj` is empty: its shape is \(5, 12, 0\); expected",
        ),
        (
            {"state_traj": TRAJ[..., :4]},
            r"`state_traj` has 4 columns, its last axis; expected 6, the number of states of the "
            r"points in `fixed_points`; `slowpoints.as_transition\(model\).flatten` makes such",
        ),
        (
            {"state_traj": TRAJ.swapaxes(1, 2)},
            r"`state_traj` has 12 columns, .*; expected 6, .*\. Another of its axes has 6: "
            r"expected is \[trials, time, n_states\], and these axes may be transposed\.",
        ),
        (
            {"fixed_points": some_points().replace(F_xstar=np.zeros((5, 3)))},
            r"`fixed_points.F_xstar` has shape \(5, 3\); expected \(5, 6\), as `xstar` has",
        ),
        ({"state_traj": np.where(TRAJ > 3, np.nan, TRAJ)}, r"`state_traj`, of shape .* not finite"),
        ({"state_traj": np.where(TRAJ > 3, np.inf, TRAJ)}, r"`state_traj`, of shape .* not finite"),
        ({"plot_batch_idx": [0, 5]}, r"`plot_batch_idx` is from 0 to 5; expected .* 5 trial"),
        ({"plot_batch_idx": [-6]}, r"`plot_batch_idx` is from -6 to -6; expected .* 5 trial"),
        ({"plot_batch_idx": []}, r"`plot_batch_idx` is empty: its shape is \(0,\)"),
        ({"plot_batch_idx": [0.5]}, r"`plot_batch_idx` has dtype float64; expected whole numbers"),
        ({"plot_batch_idx": [[0]]}, r"`plot_batch_idx` has shape \(1, 1\); expected \(shown,\)"),
        ({"plot_batch_idx": np.ones(5, bool)}, r"`plot_batch_idx` has dtype bool; expected"),
        ({"plot_start_time": 12}, r"`plot_start_time` is 12; expected .* at least -12, at most 11"),
        (
            {"plot_start_time": -13},
            r"`plot_start_time` is -13; expected .* at least -12, at most 11",
        ),
        (
            {"fixed_points": some_points().replace(xstar=np.full((5, 6), np.nan))},
            r"`fixed_points.xstar`, of shape \(5, 6\) where it is drawn, has 30 value",
        ),
        ({"fixed_points": FixedPoints(x_init=np.zeros((5, 6)))}, r"5 row\(s\) but no `xstar`"),
    ],
)
def test_bad_input_is_named(n_axes, arguments, message):
    arguments = {"fixed_points": some_points(), "state_traj": TRAJ} | arguments
    with pytest.raises((TypeError, ValueError), match=message):
        PLOTS[n_axes](config=hidden(), **arguments)


@both
@pytest.mark.checks_input
def test_a_refused_call_leaves_no_figure(n_axes, pyplot):
    with pytest.raises(ValueError):
        PLOTS[n_axes](some_points(), TRAJ[0])
    assert pyplot.get_fignums() == []


def test_what_is_not_drawn_may_be_anything():
    traj = TRAJ.copy()
    traj[3:] = np.nan
    traj[:, :2] = np.inf
    fig = plot_fixed_points_2d(some_points(), traj, hidden(), range(3), 2)
    assert np.isfinite(lines(fig, 3)).all()
