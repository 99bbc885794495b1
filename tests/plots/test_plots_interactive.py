"""The interactive figure: what it holds, and that it works in a real browser."""

import sys

import matplotlib
import numpy as np
import pytest
from chromium import browser as browser
from matplotlib.colors import BoundaryNorm, LogNorm, to_hex

from slowpoints import FixedPoints, PlotConfig, plot_fixed_points_3d

go = pytest.importorskip("plotly.graph_objects")
matplotlib.use("Agg")

SCENE = "document.querySelector('.plotly-graph-div')._fullLayout.scene._scene"
MIDDLE = 0.455
"""Where the middle of the data is, from the top, since the camera looks below it."""


def some_points(**fields):
    rng = np.random.default_rng(1)
    eigval = np.array([[0.5, 0.1, 0, 0], [1.5, 0.1, 0, 0], [0.25, 0, 0, 0]], complex)
    vectors = np.linalg.qr(rng.normal(size=(3, 4, 4)))[0] + 0j
    return FixedPoints(
        xstar=rng.normal(size=(3, 4)),
        qstar=np.array([1e-14, 2e-14, 3e-14]),
        inputs=np.tile([[0.5, -1.0]], (3, 1)),
        eigval_J_xstar=eigval,
        eigvec_J_xstar=vectors,
        is_stable=np.array([True, False, True]),
        **fields,
    )


def trajectories(trials=5, time=12, n_states=4):
    rng = np.random.default_rng(0)
    return np.cumsum(rng.normal(size=(trials, time, n_states)), axis=1)


def figure(fps=None, traj=None, config=None, **options):
    fps, traj = some_points() if fps is None else fps, trajectories() if traj is None else traj
    config = PlotConfig(show=False) if config is None else config
    return plot_fixed_points_3d(fps, traj, config, interactive=True, **options)


def traces(fig, mode):
    return {trace.name: trace for trace in fig.data if trace.mode == mode}


def xyz(trace):
    return np.stack([trace.x, trace.y, trace.z], axis=1)


# ---- what it holds -----------------------------------------------------------------------------


@pytest.mark.fast
def test_it_shows_what_the_static_figure_shows():
    fig = figure(eigenvectors="unstable")
    (ax,) = plot_fixed_points_3d(
        some_points(), trajectories(), PlotConfig(show=False), eigenvectors="unstable"
    ).axes
    static = {a.get_label(): np.stack(a._offsets3d, axis=1) for a in ax.collections}
    points = traces(fig, "markers")
    assert points.keys() == static.keys()
    for name, trace in points.items():
        np.testing.assert_allclose(xyz(trace), static[name])
    lines = xyz(traces(fig, "lines")["trajectories (5)"]).reshape(5, 13, 3)
    assert np.isnan(lines[:, -1]).all()
    for drawn, line in zip(lines, ax.lines, strict=False):
        np.testing.assert_allclose(drawn[:-1], np.stack(line.get_data_3d(), axis=1))
    segment = xyz(traces(fig, "lines")["unstable eigenvectors, saddle, index 1"])
    drawn = next(line for line in ax.lines if line.get_path_effects())
    np.testing.assert_allclose(segment[:2], np.stack(drawn.get_data_3d(), axis=1))
    titles = [fig.layout.scene[f"{axis}axis"].title.text for axis in "xyz"]
    assert titles == [ax.get_xlabel(), ax.get_ylabel(), ax.get_zlabel()]
    assert fig.layout.title.text == ax.get_title()


@pytest.mark.fast
def test_the_text_at_a_point_says_what_is_known_of_it():
    valid = np.array([False, True, True])
    fps = some_points(cond_id=np.array([5, 6, 7]), valid=valid, hits=np.array([1, 2, 3]))
    (text,) = traces(figure(fps), "markers")["saddle, index 1 (1)"].text
    assert text.split("<br>") == [
        "row 1",
        "saddle, index 1",
        "condition: 6",
        "q: 2e-14",
        "leading eigenvalue: 1.5",
        "its time constant: -2.466 steps",
        "its frequency: 0",
        "time constant of the slowest mode: -2.466 steps",
        "starts that led here: 2",
        "input: 0.5, -1",
    ]


@pytest.mark.fast
def test_the_text_along_a_trajectory_names_the_trial_and_the_step():
    fig = figure(plot_batch_idx=[3, 1], plot_start_time=10)
    text = traces(fig, "lines")["trajectories (2)"].text
    steps = [f"trial {trial}, time step {step}" for trial in (3, 1) for step in (10, 11)]
    assert list(text) == [*steps[:2], "", *steps[2:], ""]


@pytest.mark.fast
def test_conditions_and_numbers_colour_the_lines():
    lines = traces(figure(color_by=[0, 1, 1, 0, 0]), "lines")
    assert set(lines) == {"condition 0 (3)", "condition 1 (2)"}
    assert len({trace.line.color for trace in lines.values()}) == 2
    (line,) = traces(figure(color_by="time"), "lines").values()
    places = np.array(line.line.color, float)[:13]
    np.testing.assert_allclose(places, np.array([*range(12), 11]) / 11)
    assert (line.line.cmin, line.line.cmax) == (0, 1)
    assert line.line.colorbar.ticktext == ("0", "2.75", "5.5", "8.25", "11")
    assert line.line.colorbar.title.text == "time step t"
    fps = some_points(cond_id=np.array([0, 1, 1]))
    points = traces(figure(fps, color_by="cond_id"), "markers")
    assert len(set(points["stable fixed point (2)"].marker.color)) == 2


@pytest.mark.fast
def test_numbers_of_points_have_a_scale_of_their_own_and_are_told():
    of_points = np.array([1.0, 10, 100])
    config = PlotConfig(show=False, norm=LogNorm(), cmap="gray", clabel="gain")
    fig = figure(config=config, color_points_by=of_points)
    stable = traces(fig, "markers")["stable fixed point (2)"]
    assert stable.marker.color == ("#000000", "#ffffff")
    assert traces(fig, "markers")["saddle, index 1 (1)"].text[0].split("<br>")[2] == "gain: 10"
    (scale,) = [trace.marker for trace in fig.data if trace.marker.showscale]
    assert scale.colorbar.title.text == "gain"
    assert scale.colorbar.ticktext == ("1", "3.16", "10", "31.6", "100")
    assert (scale.colorscale[0][1], scale.colorscale[-1][1]) == ("#000000", "#ffffff")


@pytest.mark.fast
def test_logarithms_of_trials_and_points_are_on_one_scale():
    config = PlotConfig(show=False, norm=LogNorm(), cmap="gray")
    options = {"color_by": np.array([1.0, 10, 100, 1, 10]), "color_points_by": [10.0, 1000, 1]}
    fig = figure(config=config, **options)
    (line,) = traces(fig, "lines").values()
    np.testing.assert_allclose(line.line.color[:: 12 + 1], np.array([0, 1, 2, 0, 1]) / 3)
    assert line.line.colorbar.ticktext[::4] == ("1", "1e+03")
    assert not any(trace.marker.showscale for trace in fig.data)
    stable = traces(fig, "markers")["stable fixed point (2)"]
    gray = matplotlib.colormaps["gray"]
    assert stable.marker.color == (to_hex(gray(1 / 3)), "#000000")


@pytest.mark.fast
def test_labels_of_points_are_in_the_legend_unless_trajectories_have_them():
    labels = ["up", "down", "up"]
    fig = figure(color_points_by=labels)
    points = traces(fig, "markers")
    names = {"condition up (2)", "condition down (1)"}
    assert {name for name in points if name.startswith("condition")} == names
    assert fig.layout.legend.orientation == "h"  # which takes no width, as on a phone
    shown = points["stable fixed point (2)"]
    assert set(shown.marker.color) == {points["condition up (2)"].marker.color}
    assert [text.split("<br>")[2] for text in shown.text] == ["condition: up"] * 2
    fig = figure(color_by=["up", "up", "left", "left", "left"], color_points_by=labels)
    names = {name for name in traces(fig, "markers") if name.startswith("condition")}
    assert names == {"condition down (1)"}
    conditions = some_points(cond_id=np.array([4, 5, 4]))
    text = traces(figure(conditions, color_by="cond_id"), "markers")["saddle, index 1 (1)"].text
    assert text[0].count("condition: 5") == 1


@pytest.mark.fast
def test_kinds_of_points_differ_in_shape():
    eigval = np.where(np.arange(6) < np.arange(6)[:, None], 1.5, 0.5) + 0j
    fps = FixedPoints(
        xstar=np.random.default_rng(0).normal(size=(6, 6)),
        eigval_J_xstar=eigval,
        is_stable=np.arange(6) == 0,
    )
    points = traces(figure(fps, trajectories(n_states=6)), "markers").values()
    assert len({trace.marker.symbol for trace in points}) == len(points) == 6


@pytest.mark.fast
@pytest.mark.parametrize("n_states", [1, 2])
def test_time_is_the_third_axis_of_few_states(n_states):
    fps = FixedPoints(xstar=np.zeros((1, n_states)))
    fig = figure(fps, trajectories(n_states=n_states))
    assert fig.layout.scene.zaxis.title.text == "time step t"
    assert "$" not in fig.layout.scene.xaxis.title.text
    assert fig.layout.scene.aspectmode == "cube"


@pytest.mark.fast
@pytest.mark.checks_input
@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"save_path": "a.png"}, r"`config.save_path` is 'a.png'; expected the name of an HTML"),
        (
            {"norm": BoundaryNorm([0, 1, 2], 256)},
            "`config.norm` is a BoundaryNorm; expected one that has an inverse, for interactive",
        ),
        ({"kwargs": {"dashes": 1}}, r"`config.kwargs` has \['dashes'\]; expected only color, li"),
    ],
)
def test_what_plotly_cannot_do_is_refused(config, message):
    with pytest.raises(ValueError, match=message):
        figure(config=PlotConfig(show=False, **config), color_by="time")


@pytest.mark.fast
def test_without_plotly_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(ImportError, match=r'pip install -e "\.\[plotly\]"'):
        figure()


@pytest.mark.fast
def test_it_is_shown_if_asked_for(monkeypatch):
    shown = []
    monkeypatch.setattr(go.Figure, "show", lambda fig: shown.append(fig))
    fig = figure(config=PlotConfig())
    assert shown == [fig]


# ---- in a browser ------------------------------------------------------------------------------


@pytest.mark.slow
def test_in_chromium_it_renders_turns_and_tells_of_points(browser, tmp_path):
    path = tmp_path / "figure.html"
    # A saddle in the middle of six stable points, so that it is in the middle of the page.
    corners = np.array([[1.0, 0, 0, 0], [0, 0.8, 0, 0], [0, 0, 0.6, 0]])
    eigval = np.full((7, 4), 0.5)
    eigval[0, 0] = 1.5
    fps = FixedPoints(
        xstar=np.concatenate([np.zeros((1, 4)), corners, -corners]),
        eigval_J_xstar=eigval + 0j,
        is_stable=np.arange(7) > 0,
    )
    config = PlotConfig(show=False, save_path=path, title="Seen")
    plot_fixed_points_3d(fps, None, config, interactive=True)
    page = browser.new_page(viewport={"width": 900, "height": 700})
    errors, addresses = [], []
    page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: addresses.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_selector(".gl-container canvas")
    page.wait_for_function(SCENE)
    page.wait_for_timeout(1500)
    assert page.locator(".gtitle").text_content() == "Seen"
    assert page.locator(".legendtext").all_text_contents() == [
        "stable fixed point (6)",
        "saddle, index 1 (1)",
    ]

    def look():
        return page.screenshot(clip={k: box[k] for k in ("x", "y", "width", "height")})

    def camera():
        return page.evaluate(f"{SCENE}.getCamera().eye")

    box = page.evaluate(f"{SCENE}.container.getBoundingClientRect().toJSON()")
    x, y = box["x"] + box["width"] / 2, box["y"] + MIDDLE * box["height"]
    hovered = page.locator(".hovertext")
    for k in range(100):  # what is under the pointer is looked up between two frames
        page.mouse.move(x + k % 3 - 1, y)
        page.wait_for_timeout(100)
        if hovered.count():
            break
    text = hovered.text_content(timeout=1000)
    assert "row 0" in text and "saddle, index 1" in text

    before, eye = look(), camera()
    page.mouse.move(x - 100, y)
    page.mouse.down()
    page.mouse.move(x + 60, y + 40, steps=8)
    page.mouse.up()
    page.wait_for_timeout(500)
    assert camera() != eye
    assert look() != before  # it is drawn, and not blank
    assert errors == []
    assert {address.split(":")[0] for address in addresses} <= {"file", "data", "blob"}
    page.close()
