"""Animations: what each frame shows, and what is written."""

import itertools

import matplotlib
import numpy as np
import pytest
from matplotlib.animation import writers
from PIL import Image

from slowpoints import FixedPoints, PlotConfig, animate_fixed_points, plot_fixed_points_2d

matplotlib.use("Agg")


def hidden(**settings):
    small = {"figsize": (4, 3), "show_progress_bar": False}
    return PlotConfig(show=False, **(small | settings))


def trajectories(trials=3, time=6, n_states=4):
    rng = np.random.default_rng(0)
    return np.cumsum(rng.normal(size=(trials, time, n_states)), axis=1)


def some_points(n=2, n_states=4):
    return FixedPoints(xstar=np.random.default_rng(1).normal(size=(n, n_states)))


@pytest.fixture
def animate():
    """Return a function as `animate_fixed_points` whose animations may end unseen."""
    made = []

    def call(*args, **options):
        made.append(animate_fixed_points(*args, **options))
        return made[-1]

    yield call
    for animation in made:
        animation._draw_was_started = True  # or Matplotlib warns that it was never shown


def frames(animation):
    """Return the times of all frames."""
    return list(animation.new_frame_seq())


def shown(animation, time):
    """Return the lines and the dots at one time, each `[steps, axes]`."""
    artists = animation._func(time)
    data = [a.get_data_3d() if hasattr(a, "get_data_3d") else a.get_data() for a in artists]
    places = [np.stack(each, axis=1) for each in data]
    return places[: len(places) // 2], places[len(places) // 2 :]


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_frame_shows_the_way_up_to_its_time(animate, dimensions):
    traj, matrix = trajectories(), np.eye(4)[:, :dimensions]
    animation = animate(some_points(), traj, hidden(), dimensions=dimensions, projection=matrix)
    for time in (0, 1, 2.25, 5):
        lines, dots = shown(animation, time)
        before, share = int(time), time % 1
        now = (1 - share) * traj[:, before] + share * traj[:, min(before + 1, 5)]
        for line, dot, trial, place in zip(lines, dots, traj, now, strict=True):
            np.testing.assert_allclose(line[:-1], trial[: before + 1] @ matrix)
            np.testing.assert_allclose(line[-1], place @ matrix)
            np.testing.assert_allclose(dot, [place @ matrix])


@pytest.mark.parametrize(
    ("settings", "times"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"fps": 10, "time_steps_per_second": 20}, [0, 2, 4, 5]),
        ({"fps": 10, "time_steps_per_second": 25}, [0, 2.5, 5]),
        ({"fps": 4, "time_steps_per_second": 2}, np.arange(0, 5.5, 0.5)),
    ],
)
def test_the_time_base_chooses_the_frames_and_the_last_shows_the_end(animate, settings, times):
    animation = animate(some_points(), trajectories(), hidden(**settings))
    np.testing.assert_allclose(frames(animation), times)
    assert animation._interval == 1000 / settings.get("fps", 30)


def test_points_and_limits_are_those_of_the_static_figure(animate):
    animation = animate(some_points(), trajectories(), hidden(), color_by=[0, 1, 1])
    (ax,) = animation._fig.axes
    fig = plot_fixed_points_2d(some_points(), trajectories(), hidden(), color_by=[0, 1, 1])
    (still,) = fig.axes
    assert (ax.get_xlim(), ax.get_ylim()) == (still.get_xlim(), still.get_ylim())
    for one, other in zip(ax.collections, still.collections, strict=True):
        np.testing.assert_array_equal(one.get_offsets(), other.get_offsets())
    legends = [a.figure.legends[0] for a in (ax, still)]
    texts = [[text.get_text() for text in each.get_texts()] for each in legends]
    assert texts[0] == [text for text in texts[1] if text not in ("start", "end")]
    before = ax.get_xlim(), ax.get_position().bounds
    animation._func(0)
    assert (ax.get_xlim(), ax.get_position().bounds) == before


@pytest.mark.slow_cases
@pytest.mark.parametrize("repeat", [True, False])
def test_a_gif_has_all_frames(tmp_path, repeat, capfd):
    path = tmp_path / "new" / "a.gif"
    config = hidden(save_path=path, save_dpi=40, fps=20, repeat=repeat)
    animation = animate_fixed_points(some_points(), trajectories(), config)
    assert animation._repeat == repeat
    with Image.open(path) as image:
        assert (image.n_frames, image.size, image.info["duration"]) == (6, (160, 120), 50)
        frames = []
        for k in range(6):
            image.seek(k)
            frames.append(np.asarray(image.convert("RGB"), int))
    assert all(np.abs(a - b).max() > 50 for a, b in itertools.pairwise(frames))
    assert capfd.readouterr() == ("", "")


def test_progress_goes_to_standard_error_and_the_name_is_printed_if_asked(tmp_path, capfd):
    path = tmp_path / "a.gif"
    config = hidden(save_path=path, save_dpi=30, show_progress_bar=True, verbose=True)
    animate_fixed_points(some_points(), trajectories(), config)
    out, err = capfd.readouterr()
    assert f"Saved {path}." in out and "6/6" in err


def test_without_a_resolution_there_are_100_dots_per_inch(tmp_path):
    path = tmp_path / "a.gif"
    animate_fixed_points(some_points(), trajectories(time=2), hidden(save_path=path))
    with Image.open(path) as image:
        assert image.size == (400, 300)


def test_films_need_ffmpeg_and_the_error_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "is_available", lambda name: name != "ffmpeg")
    with pytest.raises(RuntimeError, match=r"FFmpeg.*is not installed; a name that ends in \.gif"):
        animate_fixed_points(some_points(), trajectories(), hidden(save_path=tmp_path / "a.mp4"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.checks_input
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"save_path": "a.png"}, r"`config.save_path` is 'a.png'; expected .* \.gif or \.mp4"),
        ({"fps": 0}, r"`config.fps` is 0; expected"),
        ({"time_steps_per_second": 0}, r"`config.time_steps_per_second` is 0; expected"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        animate_fixed_points(some_points(), trajectories(), hidden(**settings))
