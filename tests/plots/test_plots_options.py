"""What figures of points among trajectories can be asked for beyond the documented arguments."""

import itertools

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import BoundaryNorm, LogNorm, Normalize, to_hex, to_rgb
from matplotlib.figure import Figure
from PIL import Image
from sklearn.decomposition import PCA

import slowpoints
from slowpoints import FixedPoints, PlotConfig, plot_fixed_points_2d, plot_fixed_points_3d
from slowpoints._drawing.coloring import _CONDITIONS, MOST_LABELS
from slowpoints._drawing.layout import NARROW
from slowpoints._drawing.marks import _OTHERS, _UNKNOWN, _UNSTABLE, MARKS
from slowpoints._drawing.scene import LONGEST, MOST_TRIALS

matplotlib.use("Agg")

PLOTS = {2: plot_fixed_points_2d, 3: plot_fixed_points_3d}
both = pytest.mark.parametrize("n_axes", [2, 3])


def hidden(**settings):
    return PlotConfig(show=False, **settings)


def trajectories(trials=5, time=12, n_states=4, seed=0):
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.normal(size=(trials, time, n_states)), axis=1)


def linearised(*spectra, **fields):
    """Return points with these eigenvalues; their eigenvectors are those of a random matrix."""
    eigval = np.array(spectra, complex)
    n, n_states = eigval.shape
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(n, n_states, n_states)) + 0j
    for row, k in np.argwhere(eigval.imag > 0):
        turned = vectors[row, :, k] + 1j * rng.normal(size=n_states)
        vectors[row, :, k], vectors[row, :, k + 1] = turned, turned.conj()
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return FixedPoints(
        xstar=rng.normal(size=(n, n_states)),
        eigval_J_xstar=eigval,
        eigvec_J_xstar=vectors,
        is_stable=(eigval.real < 0 if fields.get("continuous_time") else np.abs(eigval) < 1).all(1),
        **fields,
    )


def coordinates(line):
    return np.stack(line.get_data_3d() if hasattr(line, "get_data_3d") else line.get_data(), axis=1)


def segments(fig):
    """Return the lines along eigenvectors and whether each is dashed."""
    lines = [line for line in fig.axes[0].lines if line.get_path_effects()]
    lines = [line for line in lines if len(coordinates(line))]
    return np.array([coordinates(line) for line in lines]), [line.is_dashed() for line in lines]


def scatters(fig):
    return [artist for artist in fig.axes[0].collections if isinstance(artist, PathCollection)]


def legend(fig):
    return [text.get_text() for text in legend_of(fig).get_texts()]


def legend_of(fig):
    """Return the legend of the axes, or that of a narrow figure."""
    return fig.axes[0].get_legend() or fig.legends[0]


IN_ORDER = ["#440154", to_hex(matplotlib.colormaps["viridis"](0.8))]
"""The colours of two conditions that are numbers."""


# ---- colours that colour-blind readers tell apart ----------------------------------------------

# Machado, Oliveira & Fernandes (2009), table 1, for the strongest deficiency; on linear RGB.
DEFICIENCIES = {
    "none": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
TOLD_APART = 15
"""CIE76 distances from about 2.3 on are just noticeable side by side; small marks need more."""


def lab(color, deficiency):
    """Return the CIELAB coordinates of a colour as people with a deficiency see it."""
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.asarray(DEFICIENCIES[deficiency]) @ linear, 0, 1)
    to_xyz = [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
    t = np.asarray(to_xyz) @ linear / [0.95047, 1, 1.08883]
    f = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
@pytest.mark.parametrize(
    "palette",
    [
        [color for _, color in MARKS],
        [*(color for _, color in MARKS[:4]), _OTHERS[2][2] if 2 in _OTHERS else "", _UNSTABLE[1]],
        list(_CONDITIONS[:3]),
    ],
    ids=["by index", "with slow points", "conditions"],
)
def test_colours_are_told_apart_by_everybody(palette, deficiency):
    seen = [lab(color, deficiency) for color in palette]
    for (a, i), (b, j) in itertools.combinations(zip(seen, palette, strict=True), 2):
        assert np.linalg.norm(a - b) > TOLD_APART, (i, j)


def test_the_simulation_sees_what_a_protanope_confuses():
    a, b = "#2CA02C", "#D62728"  # Matplotlib's green and red
    seen = [np.linalg.norm(lab(a, k) - lab(b, k)) for k in ("none", "deuteranopia")]
    assert seen[1] < 0.4 * seen[0]


def test_every_kind_has_its_own_shape_and_a_dark_edge():
    shapes = [marker for marker, _ in MARKS] + [look[1] for look in _OTHERS.values()]
    shapes += [_UNKNOWN[0], _UNSTABLE[0]]
    assert len(set(shapes)) == len(shapes)
    fig = plot_fixed_points_2d(linearised([0.5, 0.1], [1.5, 0.1]), None, hidden())
    assert {to_hex(artist.get_edgecolor()[0]) for artist in scatters(fig)} == {"#000000"}


@pytest.mark.slow_cases
@pytest.mark.parametrize("color_by", [None, "cond_id"])
@both
def test_unfinished_points_are_pale_and_behind_those_that_are_known(n_axes, color_by):
    """Hundreds of them once hid the only fixed point of a network."""
    fps = linearised([0.5, 0.1], [0.4, 0.1], [0.3, 0.1], cond_id=np.array([0, 0, 1]))
    fps = fps.replace(status=np.array([1, 4, 4], np.int8))
    fig = PLOTS[n_axes](fps, trajectories(n_states=fps.n_states), hidden(), color_by=color_by)
    known, unfinished = (
        next(a for a in scatters(fig) if a.get_label().startswith(name))
        for name in ("stable fixed point (1)", "unfinished point (2)")
    )
    assert unfinished.get_zorder() < known.get_zorder()
    assert unfinished.get_sizes()[0] < known.get_sizes()[0]
    assert {to_hex(color) for color in unfinished.get_facecolor()} == {to_hex("0.88")}
    assert len({to_hex(color) for color in unfinished.get_edgecolor()}) == (
        1 if not color_by else 2
    )


# ---- trajectories ------------------------------------------------------------------------------


@pytest.mark.parametrize("trials", [1, 5, 8])
def test_trajectories_do_not_vanish_where_there_are_many(trials):
    fig = plot_fixed_points_2d(FixedPoints(), trajectories(trials), hidden())
    alphas = {line.get_alpha() for line in fig.axes[0].lines if line.get_linestyle() != "None"}
    assert alphas == {max(0.35, min(0.7, 1.5 / trials))}


@both
def test_starts_and_ends_are_marked(n_axes):
    traj = trajectories()
    fig = PLOTS[n_axes](FixedPoints(), traj, hidden(), [4, 1], 3)
    pca = PCA(n_axes).fit(traj[:, 3:].reshape(-1, 4))
    for marker, step in (("o", 3), ("s", -1)):
        places = [
            coordinates(line)[0]
            for line in fig.axes[0].lines
            if line.get_linestyle() == "None" and line.get_marker() == marker
        ]
        np.testing.assert_allclose(places, pca.transform(traj[[4, 1], step]), atol=1e-9)


@pytest.mark.slow_cases
@both
def test_time_colours_each_step(n_axes):
    traj = trajectories()
    fig = PLOTS[n_axes](FixedPoints(), traj, hidden(), [0, 3], 2, color_by="time")
    (lines,) = [a for a in fig.axes[0].collections if isinstance(a, LineCollection)]
    assert lines.get_array().tolist() == [*range(2, 11), *range(2, 11)]  # of each step, its start
    assert lines.get_clim() == (2, 11)
    pieces = np.array(lines._segments3d if n_axes == 3 else lines.get_segments())
    pca = PCA(n_axes).fit(traj[:, 2:].reshape(-1, 4))
    drawn = pca.transform(traj[3, 2:])
    np.testing.assert_allclose(pieces[9:, 0], drawn[:-1], atol=1e-9)
    np.testing.assert_allclose(pieces[9:, 1], drawn[1:], atol=1e-9)
    assert fig.axes[1].get_ylabel() == "time step $t$"


def test_numbers_of_trials_and_steps_are_on_a_named_scale():
    traj = trajectories()
    of_trials = np.array([0.5, 2.0, -1.0, 0.0, 4.0])
    fig = plot_fixed_points_2d(FixedPoints(), traj, hidden(clabel="coherence"), color_by=of_trials)
    (lines,) = fig.axes[0].collections
    assert lines.get_array().tolist() == of_trials.tolist()  # whole lines, which have no seams
    assert [len(line) for line in lines.get_segments()] == [12] * 5
    assert fig.axes[1].get_ylabel() == "coherence"
    at_steps = traj[..., 0]
    fig = plot_fixed_points_2d(FixedPoints(), traj, hidden(), [2], 4, color_by=at_steps)
    (lines,) = fig.axes[0].collections
    np.testing.assert_array_equal(lines.get_array(), at_steps[2, 4:-1])


@pytest.mark.slow_cases
@both
@pytest.mark.parametrize("labels", [[7, 3, 7, 7, 3], ["go", "stop", "go", "go", "stop"]])
def test_conditions_have_a_colour_and_a_line_in_the_legend_each(n_axes, labels):
    fig = PLOTS[n_axes](FixedPoints(), trajectories(), hidden(), color_by=labels)
    first, second = sorted(set(labels))
    n = [labels.count(first), labels.count(second)]
    assert legend(fig)[0].startswith("condition")
    shown = {text for text in legend(fig) if text.startswith("condition")}
    assert shown == {f"condition {first} ({n[0]})", f"condition {second} ({n[1]})"}
    lines = [line for line in fig.axes[0].lines if line.get_linestyle() != "None"]
    colors = IN_ORDER if first == 3 else _CONDITIONS
    expected = [colors[0 if label == first else 1] for label in labels]
    assert [to_hex(line.get_color()) for line in lines] == [to_hex(color) for color in expected]


def test_many_whole_numbers_are_on_a_scale():
    traj = trajectories(trials=MOST_LABELS + 1)
    few = np.arange(MOST_LABELS + 1) % MOST_LABELS
    fig = plot_fixed_points_2d(FixedPoints(), traj, hidden(), color_by=few)
    assert len([text for text in legend(fig) if text.startswith("condition")]) == MOST_LABELS
    fig = plot_fixed_points_2d(FixedPoints(), traj, hidden(), color_by=np.arange(MOST_LABELS + 1))
    assert fig.axes[1].get_ylabel() == "value"


@both
def test_points_take_the_colours_of_their_conditions(n_axes):
    fps = linearised(
        [0.5, 0.1, 0, 0], [1.5, 0.1, 0, 0], [0.5, 0, 0, 0], cond_id=np.array([4, 4, 2])
    )
    fig = PLOTS[n_axes](fps, trajectories(), hidden(), color_by="cond_id")
    stable, saddle, *patches = scatters(fig)
    colors = [to_hex(IN_ORDER[1]), to_hex(IN_ORDER[0])]
    assert [to_hex(color) for color in stable.get_facecolor()] == colors
    assert [to_hex(color) for color in saddle.get_facecolor()] == colors[:1]
    assert stable.get_paths()[0].vertices.shape != saddle.get_paths()[0].vertices.shape
    assert [artist.get_label() for artist in patches] == ["condition 2 (1)", "condition 4 (2)"]


def test_points_share_the_colours_of_trials_only_if_all_conditions_are_theirs():
    fps = linearised([0.5, 0.1, 0, 0], [0.6, 0.1, 0, 0], cond_id=np.array([1, 0]))
    of_trials = np.array([0, 1, 1, 0, 0])
    fig = plot_fixed_points_2d(fps, trajectories(), hidden(), color_by=of_trials)
    (stable,) = scatters(fig)
    colors = [to_hex(IN_ORDER[1]), to_hex(IN_ORDER[0])]
    assert [to_hex(color) for color in stable.get_facecolor()] == colors
    others = fps.replace(cond_id=np.array([1, 5]))
    fig = plot_fixed_points_2d(others, trajectories(), hidden(), color_by=of_trials)
    (stable,) = scatters(fig)
    assert {to_hex(color) for color in stable.get_facecolor()} == {MARKS[0][1].lower()}


def scaled(fig):
    """Return the trajectories whose colours are numbers."""
    (lines,) = [a for a in fig.axes[0].collections if isinstance(a, LineCollection)]
    return lines


def faces(artist):
    return [to_hex(color) for color in artist.get_facecolor()]


def test_words_have_colours_in_the_order_in_which_they_come():
    labels = ["stop", "go", "stop", "wait", "go"]
    fig = plot_fixed_points_2d(FixedPoints(), trajectories(), hidden(), color_by=labels)
    lines = [line for line in fig.axes[0].lines if line.get_linestyle() != "None"]
    place = {"stop": 0, "go": 1, "wait": 2}
    expected = [to_hex(_CONDITIONS[place[label]]) for label in labels]
    assert [to_hex(line.get_color()) for line in lines] == expected
    some = plot_fixed_points_2d(FixedPoints(), trajectories(), hidden(), [3, 1], color_by=labels)
    lines = [line for line in some.axes[0].lines if line.get_linestyle() != "None"]
    assert [to_hex(line.get_color()) for line in lines] == [expected[3], expected[1]]


def test_whole_numbers_have_colours_in_their_order():
    cmap = matplotlib.colormaps["coolwarm"]
    fig = plot_fixed_points_2d(
        FixedPoints(), trajectories(), hidden(cmap="coolwarm"), color_by=[3, -2, 0, 3, -2]
    )
    lines = [line for line in fig.axes[0].lines if line.get_linestyle() != "None"]
    expected = [to_hex(cmap(place)) for place in (1.0, 0.0, 0.5, 1.0, 0.0)]
    assert [to_hex(line.get_color()) for line in lines] == expected


@both
def test_points_have_the_colours_of_their_own_labels(n_axes):
    fps = linearised([0.5, 0.1, 0, 0], [1.5, 0.1, 0, 0], [0.5, 0, 0, 0])
    fig = PLOTS[n_axes](fps, trajectories(), hidden(), color_points_by=["up", "down", "down"])
    stable, saddle, *patches = scatters(fig)
    up, down = (to_hex(color) for color in _CONDITIONS[:2])
    assert faces(stable) == [up, down] and faces(saddle) == [down]
    assert [a.get_label() for a in patches] == ["condition up (1)", "condition down (2)"]
    handles = dict(zip(legend(fig), legend_of(fig).legend_handles, strict=True))
    assert faces(handles["condition up (1)"]) == [up]
    assert faces(handles["condition down (2)"]) == [down]


@pytest.mark.parametrize("of_trials", [["go", "stop", "go", "go", "stop"], [0, 1, 1, 0, 0]])
def test_labels_that_only_points_have_are_in_the_legend_as_well(of_trials):
    fps = linearised([0.5, 0.1, 0, 0], [0.6, 0.1, 0, 0], [0.7, 0.1, 0, 0])
    options = {"color_by": of_trials, "color_points_by": ["stop", "wait", "wait"]}
    fig = plot_fixed_points_2d(fps, trajectories(), hidden(), **options)
    shown = {text for text in legend(fig) if text.startswith("condition")}
    of_lines = {f"condition {each} ({of_trials.count(each)})" for each in of_trials}
    only = {"condition wait (2)"} | ({"condition stop (1)"} if 0 in of_trials else set())
    assert shown == of_lines | only
    stable = scatters(fig)[0]
    assert faces(stable)[1] == faces(stable)[2] != faces(stable)[0]
    handles = dict(zip(legend(fig), legend_of(fig).legend_handles, strict=True))
    assert to_hex(handles["condition wait (2)"].get_facecolor()[0]) == faces(stable)[1]


def test_numbers_of_points_are_on_the_scale_of_the_trajectories():
    fps = linearised([0.5, 0.1, 0, 0], [0.6, 0.1, 0, 0])
    of_points = np.array([-3.0, 2.0])
    options = {"color_by": np.array([0.5, 2.5, 1, 1, 0]), "color_points_by": of_points}
    fig = plot_fixed_points_2d(fps, trajectories(), hidden(cmap="plasma"), **options)
    lines = scaled(fig)
    assert lines.get_clim() == (-3, 2.5)
    expected = [to_hex(lines.cmap(lines.norm(value))) for value in of_points]
    assert faces(scatters(fig)[0]) == expected
    alone = plot_fixed_points_2d(fps, None, hidden(cmap="plasma"), color_points_by=of_points)
    assert faces(scatters(alone)[0]) == [
        to_hex(matplotlib.colormaps["plasma"](k)) for k in (0, 255)
    ]
    assert alone.axes[1].get_ylabel() == "value"


@pytest.mark.slow_cases
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_conditions_that_are_numbers_are_on_the_scale_of_the_trials(dtype):
    coherence = np.array([-0.1, 0.1, 0.3, 0.1, -0.1])
    fps = linearised([0.5, 0.1, 0, 0], [0.6, 0.1, 0, 0], cond_id=np.array([0.3, -0.1], dtype))
    fig = plot_fixed_points_2d(fps, trajectories(), hidden(), color_by=coherence)
    ends = scaled(fig).cmap([1.0, 0.0])
    assert faces(scatters(fig)[0]) == [to_hex(color) for color in ends]
    others = fps.replace(cond_id=np.array([0.3, 0.2], dtype))
    fig = plot_fixed_points_2d(others, trajectories(), hidden(), color_by=coherence)
    assert set(faces(scatters(fig)[0])) == {MARKS[0][1].lower()}


def test_only_valid_points_have_colours():
    fps = linearised([0.5, 0.1, 0, 0], [0.6, 0.1, 0, 0], [0.7, 0.1, 0, 0])
    fps = fps.replace(valid=np.array([True, False, True]))
    of_points = np.array([1.0, 100.0, 3.0])
    fig = plot_fixed_points_2d(fps, None, hidden(cmap="gray"), color_points_by=of_points)
    assert faces(scatters(fig)[0]) == ["#000000", "#ffffff"]


@pytest.mark.slow_cases
@both
@pytest.mark.parametrize("preset", [PlotConfig, PlotConfig.for_column])
def test_marks_in_the_legend_are_grey_where_colours_do_not_tell_kinds(n_axes, preset):
    fps = linearised([0.5, 0.1, 0, 0], [1.5, 0.1, 0, 0])
    for of_points, expected in ((None, [MARKS[0][1], MARKS[1][1]]), ([0.5, 1.5], ["0.75"] * 2)):
        fig = PLOTS[n_axes](fps, trajectories(), preset(show=False), color_points_by=of_points)
        handles = dict(zip(legend(fig), legend_of(fig).legend_handles, strict=True))
        seen = [
            to_hex(handles[name].get_facecolor()[0])
            for name in ("stable fixed point (1)", "saddle, index 1 (1)")
        ]
        assert seen == [to_hex(color) for color in expected]


@pytest.mark.parametrize("width", [8, 16])
def test_a_part_of_a_figure_may_be_drawn_on(width):
    from matplotlib.figure import Figure

    _, part = Figure(figsize=(width, 4), layout="constrained").subfigures(1, 2)
    ax = part.add_subplot()
    fps = linearised([0.5, 0.1, 0, 0], [1.6, 0.1, 0, 0])
    plot_fixed_points_2d(fps, trajectories(), ax=ax, color_by=np.arange(5.0))
    legend = ax.get_legend().get_window_extent()
    axes = ax.get_window_extent()
    # Each part is half as wide as the figure: the legend is below in the narrow one.
    assert legend.y1 < axes.y0 if width == 8 else legend.x0 > axes.x1


# ---- scales of colours -------------------------------------------------------------------------


def test_both_ends_of_a_scale_may_be_given():
    of_trials = np.array([0.5, -0.25, 0, 0, 0.1])
    fig = plot_fixed_points_2d(
        FixedPoints(), trajectories(), hidden(norm=(-1, 1)), color_by=of_trials
    )
    assert scaled(fig).get_clim() == (-1, 1)


@pytest.mark.slow_cases
@pytest.mark.parametrize(
    ("norm", "expected"),
    [
        ((-1, 1), "neither"),
        ((-0.25, np.float32(0.5) * (1 - 1e-7)), "neither"),
        ((-0.2, 1), "min"),
        (Normalize(vmax=0.2), "max"),
        (LogNorm(0.2, 0.3), "both"),
        (BoundaryNorm([-1, 0, 1], 256, extend="both"), "both"),
    ],
)
def test_a_scale_shows_where_numbers_go_beyond_it(norm, expected):
    of_trials = np.array([0.5, -0.25, 0.01, 0.02, 0.1])
    of_trials = np.abs(of_trials) if isinstance(norm, LogNorm) else of_trials
    config = hidden(norm=norm)
    fig = plot_fixed_points_2d(FixedPoints(), trajectories(), config, color_by=of_trials)
    (bar,) = (ax for ax in fig.axes if ax.get_label() == "<colorbar>")
    assert bar._colorbar.extend == expected


def test_a_norm_of_the_callers_stays_as_it_was():
    norm = Normalize(vmin=-2)
    for of_trials, largest in ((np.arange(5.0), 4), (np.arange(5.0) / 2, 2)):
        config = hidden(norm=norm)
        fig = plot_fixed_points_2d(FixedPoints(), trajectories(), config, color_by=of_trials)
        assert scaled(fig).get_clim() == (-2, largest)
        assert (norm.vmin, norm.vmax) == (-2, None)


def test_numbers_may_be_on_a_scale_of_their_logarithms():
    of_trials = np.array([1.0, 10, 100, 1, 100])
    fps = linearised([0.5, 0.1, 0, 0])
    fig = plot_fixed_points_2d(
        fps,
        trajectories(),
        hidden(norm=LogNorm(), cmap="gray"),
        color_by=of_trials,
        color_points_by=np.array([10.0]),
    )
    lines = scaled(fig)
    places = lines.norm(np.array([1.0, 10, 100]))
    np.testing.assert_allclose(places, [0, 0.5, 1])
    assert faces(scatters(fig)[0]) == [to_hex(matplotlib.colormaps["gray"](0.5))]
    assert fig.axes[1].get_yscale() == "log"


def test_numbers_may_be_in_bins():
    norm = BoundaryNorm([0, 1, 10], 256)
    fps = linearised([0.5, 0.1, 0, 0], [0.6, 0.1, 0, 0], [0.7, 0.1, 0, 0])
    config, of_points = hidden(norm=norm, cmap="gray"), np.array([0.2, 0.8, 9.0])
    fig = plot_fixed_points_2d(fps, None, config, color_points_by=of_points)
    assert faces(scatters(fig)[0]) == ["#000000", "#000000", "#ffffff"]


@pytest.mark.checks_input
@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"cmap": "nope"}, "`config.cmap` is 'nope'; expected the name of a colour map of Matplot"),
        ({"cmap": 3}, "`config.cmap` is 3; expected the name"),
        ({"norm": "x"}, "`config.norm` is 'x'; expected"),
        ({"norm": (1, 2, 3)}, r"`config.norm` has shape \(3,\); expected \(2,\)"),
        ({"norm": (0, np.inf)}, "`config.norm` holds 1 values that are NaN or infinite"),
        ({"norm": (2, 1)}, r"`config.norm` is \(2, 1\); expected the lower end first"),
        ({"norm": LogNorm}, "`config.norm` .*expected"),
        ({"norm": LogNorm()}, "`config.norm` is a LogNorm for numbers from -5.0 to -1.0; expected"),
        ({"norm": LogNorm(-1, 1)}, "`config.norm` is a LogNorm for numbers from -5.0 to -1.0"),
    ],
)
def test_scales_that_cannot_be_drawn_are_named_before_anything_is(config, message):
    fig = Figure()
    ax, of_trials = fig.add_subplot(), -np.arange(1.0, 6)
    with pytest.raises((TypeError, ValueError), match=message):
        plot_fixed_points_2d(
            linearised([0.5, 0.1, 0, 0]),
            trajectories(),
            hidden(**config),
            ax=ax,
            color_by=of_trials,
        )
    assert fig.axes == [ax] and len(ax.lines) == len(ax.collections) == 0


@pytest.mark.checks_input
@pytest.mark.parametrize("given", [[[1.0, 2.0], [3.0]], [["a"], ["b", "c"]]])
@pytest.mark.parametrize("argument", ["color_by", "color_points_by"])
def test_rows_of_several_lengths_are_no_colours(argument, given):
    message = f"`{argument}` is the list .*, of rows of several lengths; expected labels or num"
    with pytest.raises(ValueError, match=message):
        plot_fixed_points_2d(
            linearised([0.5, 0, 0, 0]), trajectories(), hidden(), **{argument: given}
        )


# ---- which trials are drawn --------------------------------------------------------------------


def shown_trials(color_by, n_trials=88, **options):
    """Return which trials are drawn, of trials each of which stays near its number."""
    traj = np.arange(n_trials)[:, None, None] + np.array([0, 0.25])[:, None] * np.ones((1, 2, 2))
    options["projection"] = np.eye(2)
    fig = plot_fixed_points_2d(FixedPoints(), traj, hidden(), color_by=color_by, **options)
    lines = [line for line in fig.axes[0].lines if line.get_linestyle() != "None"]
    starts = [line.get_xdata()[0] for line in lines]
    for drawn in fig.axes[0].collections:
        starts = [segment[0, 0] for segment in drawn.get_segments()]
    return np.array(starts).astype(int)


@pytest.mark.slow
def test_of_many_trials_some_are_drawn_and_the_title_says_so():
    even = np.linspace(0, 87, MOST_TRIALS).round().astype(int)
    for color_by in (None, "time"):
        np.testing.assert_array_equal(shown_trials(color_by), even)
    np.testing.assert_array_equal(shown_trials(None, MOST_TRIALS), np.arange(MOST_TRIALS))
    fig = plot_fixed_points_2d(FixedPoints(), trajectories(20), hidden())
    assert fig.axes[0].get_title() == "No fixed points, 8 of 20 trajectories"


@pytest.mark.slow_cases
@pytest.mark.parametrize("n_conditions", [2, 3, 8, 12])
def test_some_trials_of_each_condition_are_drawn_however_rare_it_is(n_conditions):
    of_trials = np.zeros(88, int)
    of_trials[-3 * (n_conditions - 1) :] = np.repeat(np.arange(1, n_conditions), 3)
    for color_by in (of_trials, [f"condition {k}" for k in of_trials]):
        drawn = of_trials[shown_trials(color_by)]
        counts = np.bincount(drawn, minlength=n_conditions)
        each = max(1, MOST_TRIALS // n_conditions)
        assert counts.tolist() == [each, *[min(3, each)] * (n_conditions - 1)]


def test_of_numbers_on_a_scale_all_of_its_range_is_drawn():
    of_trials = np.random.default_rng(0).permutation(88) / 10
    drawn = np.sort(of_trials[shown_trials(of_trials)])
    np.testing.assert_allclose(drawn, np.linspace(0, 8.7, MOST_TRIALS), atol=0.06)


# ---- projections -------------------------------------------------------------------------------


@pytest.mark.slow_cases
@both
def test_directions_with_names_are_the_axes(n_axes):
    traj, fps = trajectories(), linearised([0.5, 0.1, 0, 0])
    directions = dict(zip("zyxw", np.random.default_rng(5).normal(size=(4, 4)), strict=True))
    fig = PLOTS[n_axes](fps, traj, hidden(), projection=directions)
    (ax,) = fig.axes
    matrix = np.stack([directions[name] for name in "zyx"[:n_axes]], axis=1)
    np.testing.assert_allclose(coordinates(ax.lines[0]), traj[0] @ matrix)
    (point,) = scatters(fig)
    drawn = np.stack(point._offsets3d, 1) if n_axes == 3 else np.asarray(point.get_offsets())
    np.testing.assert_allclose(drawn, fps.xstar @ matrix)
    assert [ax.get_xlabel(), ax.get_ylabel()] == ["z", "y"]
    fig = PLOTS[n_axes](fps, traj, hidden(xlabel="Mine"), projection=directions)
    assert [fig.axes[0].get_xlabel(), fig.axes[0].get_ylabel()] == ["Mine", "y"]


@pytest.mark.checks_input
@pytest.mark.parametrize(
    ("projection", "message"),
    [
        ({}, r"`projection` has 0 direction\(s\); expected 2, one for each axis"),
        ({"a": np.ones(4)}, r"`projection` has 1 direction\(s\); expected 2"),
        ({"a": np.ones(4), "b": np.ones(3)}, r"`projection\['b'\]` has shape \(3,\); expected"),
        ({"a": np.full(4, np.nan), "b": np.ones(4)}, r"`projection\['a'\]` holds 4 values that"),
    ],
)
def test_directions_that_are_none_are_named(projection, message):
    with pytest.raises(ValueError, match=message):
        plot_fixed_points_2d(FixedPoints(), trajectories(), hidden(), projection=projection)


@both
def test_pairs_and_layers_are_vectors_one_after_another(n_axes):
    traj, eye = trajectories(n_states=6), np.eye(6)[:, 1:6:2]
    layers = {"a": (traj[..., :1], traj[..., 1:3]), "b": traj[..., 3:].reshape(5, 12, 1, 3)}
    options = {"projection": eye[:, :n_axes]}
    fig = PLOTS[n_axes](FixedPoints(), layers, hidden(), **options)
    for line, states in zip(fig.axes[0].lines, traj, strict=False):
        np.testing.assert_allclose(coordinates(line), states @ eye[:, :n_axes])


@pytest.mark.checks_input
def test_layers_of_different_trials_are_no_states():
    parts = np.ones((5, 12, 2)), np.ones((4, 12, 2))
    with pytest.raises((TypeError, ValueError), match="`state_traj` "):
        plot_fixed_points_2d(FixedPoints(), parts, hidden())


def test_without_anything_the_figure_is_empty():
    fig = plot_fixed_points_2d(FixedPoints(), None, hidden(), color_by="cond_id")
    (ax,) = fig.axes
    assert ax.get_title() == "No fixed points" and len(ax.lines) == len(ax.collections) == 0


@both
def test_a_matrix_projects_points_trajectories_and_segments(n_axes):
    traj, fps = trajectories(), linearised([1.5, 0.1, 0, 0])
    matrix = np.random.default_rng(5).normal(size=(4, n_axes)).astype("f4")
    config = hidden()
    fig = PLOTS[n_axes](fps, traj, config, projection=matrix, eigenvectors="unstable")
    np.testing.assert_allclose(coordinates(fig.axes[0].lines[0]), traj[0] @ matrix, rtol=1e-6)
    (point,) = scatters(fig)
    drawn = np.stack(point._offsets3d, 1) if n_axes == 3 else np.asarray(point.get_offsets())
    np.testing.assert_allclose(drawn, fps.xstar @ matrix, rtol=1e-6)
    ((a, b),), _ = segments(fig)
    along = fps.eigvec_J_xstar[0, :, 0].real @ matrix
    np.testing.assert_allclose(
        np.abs((b - a) @ along), np.linalg.norm(b - a) * np.linalg.norm(along)
    )
    names = [fig.axes[0].get_xlabel(), fig.axes[0].get_ylabel()]
    assert names == ["projection 1", "projection 2"]


@both
def test_a_fitted_transformer_projects(n_axes):
    traj, fps = trajectories(), linearised([0.5, 0.1, 0, 0])
    pca = PCA(4).fit(np.random.default_rng(2).normal(size=(50, 4)))
    fig = PLOTS[n_axes](fps, traj, hidden(), projection=pca)
    expected = pca.transform(traj[0])[:, :n_axes]
    np.testing.assert_allclose(coordinates(fig.axes[0].lines[0]), expected)
    assert fig.axes[0].get_xlabel() == "component 1"


def test_a_transformer_with_too_few_components_is_refused():
    pca = PCA(1).fit(np.random.default_rng(2).normal(size=(50, 4)))
    with pytest.raises(ValueError, match=r"`projection` turns .*\(5?\d+, 1\); expected at least 2"):
        plot_fixed_points_2d(FixedPoints(), trajectories(), hidden(), projection=pca)


def test_without_trajectories_the_points_are_in_their_own_components():
    fps = linearised([0.5, 0, 0, 0], [1.5, 0, 0, 0], [2.5, 0, 0, 0])
    fig = plot_fixed_points_2d(fps, None, hidden())
    pca = PCA(2).fit(fps.xstar)
    drawn = np.concatenate([np.asarray(artist.get_offsets()) for artist in scatters(fig)])
    np.testing.assert_allclose(drawn, pca.transform(fps.xstar), atol=1e-9)
    assert fig.axes[0].get_title() == "3 fixed points"
    assert legend(fig) == ["stable fixed point (1)", "saddle, index 1 (2)"]


# ---- eigenvectors ------------------------------------------------------------------------------


def test_segments_are_scaled_by_the_eigenvalue():
    fps = linearised([3.0, 1.5, 0.5, 0.1], [0.75, 0.1, 0, 0])
    traj, eye = trajectories(), np.eye(4)[:, :2]
    drawn, dashed = segments(
        plot_fixed_points_2d(fps, traj, hidden(), projection=eye, eigenvectors="unstable")
    )
    assert dashed == [False, False]
    states = np.concatenate([traj.reshape(-1, 4), fps.xstar])[:, :2]
    reach = LONGEST * np.ptp(states, axis=0).max()
    for (a, b), size, k in zip(drawn, (1.0, 0.5), (0, 1), strict=True):
        along = reach * size * fps.eigvec_J_xstar[0, :2, k].real
        np.testing.assert_allclose((b - a) / 2, along)
        np.testing.assert_allclose((a + b) / 2, fps.xstar[0, :2])


def test_the_slowest_stable_direction_is_dashed():
    fps = linearised([3.0, 0.9, 0.5, 0.1], [0.75, 0.1, 0, 0])
    fig = plot_fixed_points_2d(fps, trajectories(), hidden(), eigenvectors="slow")
    # The key is long enough for dashes to be seen; without any, it is short.
    solid = plot_fixed_points_2d(fps, trajectories(), hidden(), eigenvectors="unstable")
    lengths = [drawn.axes[0].get_legend().handlelength for drawn in (solid, fig)]
    assert lengths == [1.4, 2.6]
    assert segments(fig)[1] == [False, True, True]
    assert {"unstable eigenvectors", "slowest stable eigenvectors"} <= set(legend(fig))


def test_a_complex_pair_has_the_two_directions_of_its_plane():
    fps = linearised([1.2 + 0.5j, 1.2 - 0.5j, 0.5, 0.1])
    drawn, _ = segments(
        plot_fixed_points_2d(
            fps, None, hidden(), projection=np.eye(4)[:, :2], eigenvectors="unstable"
        )
    )
    vector = fps.eigvec_J_xstar[0, :2, 0]
    for (a, b), part in zip(drawn, (vector.real, vector.imag), strict=True):
        np.testing.assert_allclose(np.linalg.det([b - a, part]), 0, atol=1e-12)


def test_in_continuous_time_the_real_part_is_the_scale():
    fps = linearised([2.0, 1.0, -0.5, -3.0], continuous_time=True)
    fig = plot_fixed_points_2d(
        fps, trajectories(), hidden(), projection=np.eye(4)[:, :2], eigenvectors="unstable"
    )
    drawn, _ = segments(fig)
    length = np.linalg.norm(drawn[:, 1] - drawn[:, 0], axis=1)
    shown = np.linalg.norm(fps.eigvec_J_xstar[0, :2, :2].real, axis=0)
    np.testing.assert_allclose(length[0] / length[1], 2 * shown[0] / shown[1])


def test_where_the_index_is_unknown_nothing_is_drawn_along_eigenvectors():
    fps = linearised([np.nan, 0.5, 0.1, 0], [1.5, 0.1, 0, 0])
    drawn, _ = segments(
        plot_fixed_points_2d(fps, trajectories(), hidden(), eigenvectors="unstable")
    )
    assert len(drawn) == 1


def test_eigenvectors_that_are_not_there_are_asked_for():
    fps = linearised([1.5, 0.5, 0.1, 0]).replace(eigvec_J_xstar=None)
    with pytest.raises(ValueError, match=r"`eigenvectors` is 'slow', but .* is None"):
        plot_fixed_points_2d(fps, trajectories(), hidden(), eigenvectors="slow")
    with pytest.raises(ValueError, match="a return map has no directions"):
        plot_fixed_points_2d(
            linearised([1.5]), trajectories(n_states=1), hidden(), eigenvectors="slow"
        )


# ---- axes, sizes, the short way ----------------------------------------------------------------


@both
def test_axes_that_are_given_are_drawn_on(n_axes, tmp_path):
    fig = Figure()
    ax = fig.add_subplot(1, 2, 2, **({"projection": "3d"} if n_axes == 3 else {}))
    config = hidden(save_path=tmp_path / "a.png")
    returned = PLOTS[n_axes](linearised([0.5, 0.1, 0, 0]), trajectories(), config, ax=ax)
    assert returned is fig
    assert len(ax.collections) == 1 and ax.get_title() == ""
    assert list(tmp_path.iterdir()) == []
    PLOTS[n_axes](FixedPoints(), trajectories(), hidden(title="Mine"), ax=ax)
    assert ax.get_title() == "Mine"


def test_flat_axes_do_not_take_a_solid_figure_nor_the_other_way_round():
    fig = Figure()
    flat, solid = fig.add_subplot(1, 2, 1), fig.add_subplot(1, 2, 2, projection="3d")
    for plot, ax in ((plot_fixed_points_3d, flat), (plot_fixed_points_2d, solid)):
        with pytest.raises(TypeError, match=r"`ax` is .*; expected .*Axes of Matplotlib"):
            plot(FixedPoints(), trajectories(), hidden(), ax=ax)


def overlap(a, b):
    return a.x0 < b.x1 and b.x0 < a.x1 and a.y0 < b.y1 and b.y0 < a.y1


@pytest.mark.slow_cases
@both
@pytest.mark.parametrize("preset", [PlotConfig.for_column, PlotConfig.for_slide, PlotConfig])
def test_nothing_hides_anything_at_any_size(n_axes, preset):
    fps = linearised([0.5, 0.1, 0, 0], [1.5, 0.1, 0, 0])
    fig = PLOTS[n_axes](fps, trajectories(), preset(show=False))
    fig.draw_without_rendering()
    (ax,) = fig.axes
    legend = legend_of(fig).get_window_extent()
    axes = [ax.xaxis, ax.yaxis] + ([ax.zaxis] if n_axes == 3 else [])
    labels = [axis.label.get_window_extent() for axis in axes]
    assert not any(overlap(legend, label) for label in labels)
    if n_axes == 2:  # the boxes around slanted labels overlap, though the labels do not
        assert not overlap(*labels)
    for artist in (*labels, legend):
        assert fig.bbox.x0 <= artist.x0 and artist.x1 <= fig.bbox.x1
        assert fig.bbox.y0 <= artist.y0 and artist.y1 <= fig.bbox.y1
    below = fig.get_figwidth() < NARROW
    assert below == (preset == PlotConfig.for_column)
    assert (legend.y1 < ax.get_window_extent().y0) == below


ELONGATED = np.array([4.0, 0.4, 0.2, 0.1])
"""How far the trajectories of a figure reach along each component: nearly all along the first."""


def elongated():
    """A figure in a long and thin box, where distances between labels are short."""
    traj = trajectories() / np.ptp(trajectories(), axis=(0, 1)) * ELONGATED
    return FixedPoints(xstar=traj[:3, -1]), traj


def printed(fig):
    """Return where a figure is not white."""
    FigureCanvasAgg(fig).draw()
    return np.asarray(fig.canvas.buffer_rgba())[..., :3].min(axis=2) < 250


@pytest.mark.slow_cases
@pytest.mark.parametrize("preset", [PlotConfig.for_column, PlotConfig.for_slide, PlotConfig])
def test_labels_of_long_and_thin_boxes_are_clear_of_their_ticks(preset):
    fig = plot_fixed_points_3d(*elongated(), preset(show=False, show_legend=False, title=None))
    (ax,) = fig.axes
    for artist in (*ax.lines, *ax.collections, ax.patch):
        artist.set_visible(False)
    axes = ax.xaxis, ax.yaxis, ax.zaxis
    for axis in axes:
        axis.line.set_visible(False)
        axis.pane.set_visible(False)
        axis.set_tick_params(color="none", labelcolor="none")
        axis.label.set_visible(False)
    for axis in axes:
        axis.label.set_visible(True)
        label = printed(fig)
        axis.label.set_visible(False)
        axis.set_tick_params(labelcolor="black")
        ticks = printed(fig)
        axis.set_tick_params(labelcolor="none")
        assert label.any() and ticks.any()
        assert not (label & ticks).any()


def test_a_trimmed_box_is_whole_and_has_no_more_margin_than_it_needs(tmp_path):
    path = tmp_path / "box.png"
    config = PlotConfig(show=False, save_path=path, save_dpi=100, title=None, show_legend=False)
    plot_fixed_points_3d(*elongated(), config)
    dark = np.asarray(Image.open(path).convert("L")) < 250
    rows, columns = np.flatnonzero(dark.any(axis=1)), np.flatnonzero(dark.any(axis=0))
    height, width = dark.shape
    margins = rows[0], height - 1 - rows[-1], columns[0], width - 1 - columns[-1]
    assert min(margins) >= 5 and max(margins) <= 15  # of 0.1 inches, up to the width of a line


def test_presets_set_sizes_of_text_and_figure():
    column = PlotConfig.for_column(title="T", figsize=(3, 3))
    assert (column.font_size, column.figsize, column.title) == (8, (3, 3), "T")
    assert round(PlotConfig.for_column().figsize[0] * 25.4, 6) == 85
    before = matplotlib.rcParams.copy()
    sizes = {}
    for name in ("for_column", "for_slide"):
        config = getattr(PlotConfig, name)(show=False)
        fig = plot_fixed_points_2d(linearised([0.5, 0.1, 0, 0]), trajectories(), config)
        (ax,) = fig.axes
        texts = [ax.xaxis.label, ax.title, *ax.get_xticklabels(), *legend_of(fig).get_texts()]
        sizes[name] = min(text.get_fontsize() for text in texts)
        assert ax.collections[0].get_sizes()[0] == 60 * (config.font_size / 10) ** 2
    assert sizes == {"for_column": pytest.approx(7.2), "for_slide": pytest.approx(18)}
    assert matplotlib.rcParams == before


def test_text_in_a_pdf_stays_text(tmp_path):
    path = tmp_path / "a.pdf"
    plot_fixed_points_2d(FixedPoints(), trajectories(), hidden(save_path=path))
    content = path.read_bytes()
    assert b"/Type3" not in content and b"/CIDFontType2" in content


def test_three_axes_have_the_limits_of_the_data():
    fps, traj = linearised([0.5, 0.1, 0, 0]), trajectories()
    (ax,) = plot_fixed_points_3d(fps, traj, hidden()).axes
    pca = PCA(3).fit(traj.reshape(-1, 4))
    drawn = pca.transform(np.concatenate([traj.reshape(-1, 4), fps.xstar]))
    for limits, low, high in zip(
        (ax.get_xlim(), ax.get_ylim(), ax.get_zlim()), drawn.min(0), drawn.max(0), strict=True
    ):
        assert limits[0] < low and high < limits[1]
        assert high - low > 0.9 * (limits[1] - limits[0])


@pytest.mark.slow
@both
def test_points_draw_themselves(n_axes):
    fps, traj = linearised([1.5, 0.1, 0, 0]), trajectories()
    short = fps.plot(traj, hidden(), dimensions=n_axes, eigenvectors="unstable")
    long = PLOTS[n_axes](fps, traj, hidden(), eigenvectors="unstable")
    np.testing.assert_array_equal(segments(short)[0], segments(long)[0])
    assert len(fps.plot(config=hidden()).axes[0].collections) == 1
    with pytest.raises(ValueError, match="`dimensions` is 4; expected"):
        fps.plot(traj, hidden(), dimensions=4)
    assert slowpoints.FixedPoints.plot is FixedPoints.plot


def test_a_line_in_the_legend_has_no_colour_of_the_scale():
    """A blue that no trajectory had looked like one of the numbers."""
    numbers = np.array([-1.0, 0.0, 1.0, 2.0, 3.0])
    fig = plot_fixed_points_2d(FixedPoints(), trajectories(), hidden(), color_by=numbers)
    line, *_ = legend_of(fig).legend_handles
    color = line.get_color()
    assert to_hex(color if isinstance(color, str) else color[0]) == to_hex("0.4")
