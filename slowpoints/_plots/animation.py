"""`animate_fixed_points`: trajectories that settle onto points, for talks."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float

from slowpoints._core import arguments
from slowpoints._drawing.config import PlotConfig
from slowpoints._drawing.drawing import new_figure, style
from slowpoints._drawing.scene import Scene, Trials, scene_of
from slowpoints._plots.fixed_points import draw_scene, new_axes
from slowpoints._points.fixed_points import FixedPoints

if TYPE_CHECKING:
    import matplotlib.animation

_CALLER = "animate_fixed_points"
_WRITERS = {".gif": "pillow", ".mp4": "ffmpeg"}


def animate_fixed_points(
    fixed_points: FixedPoints,
    state_traj: Any,
    config: PlotConfig | None = None,
    plot_batch_idx: Trials | None = None,
    plot_start_time: int = 0,
    *,
    dimensions: Literal[2, 3] | int = 2,
    projection: Any = None,
    color_by: Any = None,
    color_points_by: Any = None,
) -> "matplotlib.animation.FuncAnimation":
    """Show how trajectories run among the fixed points, and settle onto some of them.

    Points are drawn as in [`plot_fixed_points_2d`][slowpoints.plot_fixed_points_2d] and
    [`plot_fixed_points_3d`][slowpoints.plot_fixed_points_3d]. Each trajectory has a dot at its
    state at the time shown, which leaves a line behind.

    Args:
        fixed_points: the points; only `valid` rows are drawn.
        state_traj: `[trials, time, n_states]` the trajectories, of two time steps or more.
        config: the looks. `fps` is the number of frames per second, and `time_steps_per_second` how
            many time steps these show, one per frame by default; between steps, states move along
            straight lines. `save_path` ends in `.gif`, or in `.mp4` if FFmpeg is installed. Unless
            `save_dpi` is set, it is 100 for animations.
        plot_batch_idx: the trials to draw; `None` for all, or for 8 of them, evenly spaced; of
            conditions that `color_by` tells apart, some of each.
        plot_start_time: the first time step to draw.
        dimensions: 2 or 3.
        projection: see `plot_fixed_points_2d`.
        color_by: `None`, `"cond_id"` or labels of the trials; see `plot_fixed_points_2d`.
        color_points_by: `[n]` labels or numbers of the points.

    Returns:
        The animation. In a notebook, `IPython.display.HTML(animation.to_jshtml())` shows it.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if an argument has the wrong shape, is out of range or is not finite.
        RuntimeError: if an `.mp4` file is to be written and FFmpeg is not installed.
    """
    from matplotlib.animation import FuncAnimation

    config = PlotConfig() if config is None else config
    n_axes = arguments.whole(_CALLER, "dimensions", dimensions, least=2, most=3)
    if state_traj is None:
        arguments.refuse(_CALLER, "state_traj", "is None", "trajectories to show", TypeError)
    scene = scene_of(
        _CALLER,
        fixed_points,
        state_traj,
        config,
        plot_batch_idx,
        plot_start_time,
        n_axes,
        projection,
        color_by,
        color_points_by,
        None,
    )
    _check_scene(scene, state_traj, color_by)
    fps, times = _frames(scene.view.trajectories.shape[1], config)
    writer = None if config.save_path is None else _writer(Path(config.save_path))
    with style(config):
        fig = new_figure(config)
        ax = new_axes(fig, n_axes)
        draw_scene(ax, scene, config, config.title or scene.title, ends=False)
        fig.draw_without_rendering()
        fig.set_layout_engine("none")  # or the axes would move from frame to frame
        show = _frame(ax, scene)
        animation = FuncAnimation(
            fig, show, frames=times.tolist(), interval=1000 / fps, repeat=config.repeat, blit=False
        )
        if writer is not None:
            _save(animation, Path(str(config.save_path)), writer, fps, len(times), config)
        if config.show:
            from matplotlib import pyplot as plt

            plt.show()
    return animation


def _check_scene(scene: Scene, state_traj: Any, color_by: Any) -> None:
    """Check that trajectories can be shown as they run, and have a color each."""
    if scene.coloring.values is not None:
        was = f"is {color_by!r}" if isinstance(color_by, str) else "has numbers"
        expected = "None, 'cond_id' or labels of the trials"
        arguments.refuse(_CALLER, "color_by", was, expected, ValueError)
    n_steps = scene.view.trajectories.shape[1]
    if n_steps < 2:
        was = f"has shape {np.shape(state_traj)}, and {n_steps} time step(s) to show"
        arguments.refuse(_CALLER, "state_traj", was, "at least 2 steps", ValueError)


def _frames(n_steps: int, config: PlotConfig) -> tuple[int, Float[np.ndarray, " frames"]]:
    """Return how many frames to show per second, and at which time each of them is."""
    fps = arguments.whole(_CALLER, "config.fps", config.fps, least=1)
    per_frame = 1.0
    if config.time_steps_per_second is not None:
        rate = arguments.positive(
            _CALLER, "config.time_steps_per_second", config.time_steps_per_second
        )
        per_frame = float(rate) / fps
    # The last frame shows the last step, even if no frame falls on it.
    return fps, np.append(np.arange(0, n_steps - 1, per_frame), n_steps - 1.0)


def _frame(ax: Any, scene: Scene) -> Callable[[int | float], list[Any]]:
    """Return a function that shows the trajectories up to a time, in steps after the first one."""
    trajectories = scene.view.trajectories
    n_shown, n_steps, n_axes = trajectories.shape
    for setting in ("xlim", "ylim", "zlim")[:n_axes]:  # of all time steps
        getattr(ax, f"set_{setting}")(getattr(ax, f"get_{setting}")())
    lines = ax.lines[:n_shown]
    dots = [
        ax.plot(*[[]] * n_axes, marker="o", color=line.get_color(), markersize=4, zorder=4)[0]
        for line in lines
    ]

    def put(artist: Any, places: Float[np.ndarray, "k axes"]) -> None:
        artist.set_data(*places[:, :2].T)
        if n_axes == 3:
            artist.set_3d_properties(places[:, 2])

    def show(time: int | float) -> list[Any]:
        before = int(time)
        share = time - before
        after = min(before + 1, n_steps - 1)
        now = (1 - share) * trajectories[:, before] + share * trajectories[:, after]
        for line, dot, trajectory, place in zip(lines, dots, trajectories, now, strict=True):
            put(line, np.concatenate([trajectory[: before + 1], place[None]]))
            put(dot, place[None])
        return [*lines, *dots]

    return show


def _writer(path: Path) -> str:
    """Return the name of Matplotlib's writer for a file."""
    from matplotlib.animation import writers

    if path.suffix.lower() not in _WRITERS:
        was, expected = f"is {str(path)!r}", f"a name that ends in {' or '.join(_WRITERS)}"
        arguments.refuse(_CALLER, "config.save_path", was, expected, ValueError)
    writer = _WRITERS[path.suffix.lower()]
    if not writers.is_available(writer):
        raise RuntimeError(
            f"{_CALLER}: `config.save_path` is {str(path)!r}, and FFmpeg, which writes such files, "
            "is not installed; a name that ends in .gif needs nothing else."
        )
    return writer


def _save(
    animation: Any, path: Path, writer: str, fps: int, n_frames: int, config: PlotConfig
) -> None:
    from tqdm import tqdm

    path.parent.mkdir(parents=True, exist_ok=True)
    with tqdm(total=n_frames, unit=" frames", disable=not config.show_progress_bar) as bar:
        animation.save(
            path,
            writer=writer,
            fps=fps,
            dpi=_DPI if config.save_dpi == PlotConfig.save_dpi else config.save_dpi,
            progress_callback=lambda frame, n: bar.update(),
        )
    if config.verbose:
        print(f"Saved {path}.")


_DPI = 100
"""The default resolution of figures, 300, would give animations more pixels than a screen has."""
