"""`slowpoints plot`."""

from pathlib import Path
from typing import Any

import click
import numpy as np

from slowpoints._cli.arrays import ARRAY_HELP, ArrayFile, trajectories
from slowpoints._cli.command import Command, Option, check_writable
from slowpoints._points.fixed_points import FixedPoints

_HELP = """Draw the points in a file among the trajectories of the network.

\b
Examples:
  slowpoints plot fixed_points.npz --states states.npy -o figure.pdf --preset column
  slowpoints plot fixed_points.npz --states states.npy -o figure.png --dimensions 3 \\
      --color-by time --eigenvectors unstable
  slowpoints plot fixed_points.npz --states states.npy -o figure.html
  slowpoints plot fixed_points.npz --states states.npy -o figure.gif --trials 0:10

FILE is what `slowpoints find` wrote. The suffix of --out chooses the format: .pdf, .svg, .eps,
.png, .jpg or .tif; .html for a page with the three-dimensional figure, which can be turned with the
mouse and needs the extra `plotly`; and .gif or .mp4 for an animation of the trajectories, of which
.mp4 needs FFmpeg. A figure that is there already is replaced.
"""

_SUFFIXES = (".pdf", ".svg", ".eps", ".png", ".jpg", ".tif", ".html", ".gif", ".mp4")
_INTERACTIVE = ".html"
_ANIMATED = (".gif", ".mp4")

_NAMES = {
    "fixed_points": "FILE",
    "fixed_points.xstar": "xstar in FILE",
    "fixed_points.cond_id": "cond_id in FILE",
    "state_traj": "--states",
    "plot_batch_idx": "--trials",
    "plot_start_time": "--start-time",
    "projection": "--projection",
    "color_by": "--color-by",
    "eigenvectors": "--eigenvectors",
    "dimensions": "--dimensions",
    "config.save_path": "--out",
}


class Trials(click.ParamType):
    """Numbers of trials, such as 0,3,5 or 0:10, of which the last is left out."""

    name = "numbers"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the numbers."""
        if not isinstance(value, str):
            return value
        try:
            if ":" in value:
                first, end = value.split(":")
                return list(range(int(first or 0), int(end)))
            return [int(number) for number in value.split(",")]
        except ValueError:
            self.fail(f"{value!r} is neither like 0,3,5 nor like 0:10.", param, ctx)


class ColorBy(ArrayFile):
    """The word `time` or `cond_id`, or an array in a file."""

    name = "time|cond_id|file"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the word or the array."""
        is_word = isinstance(value, str) and value in ("time", "cond_id")
        return value if is_word else super().convert(value, param, ctx)


@click.command(
    "plot", cls=Command, help=_HELP, short_help="Draw the points in a file.", names=_NAMES
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--states",
    type=ArrayFile(),
    help=f"The trajectories, an array [trials, time, n_states] in {ARRAY_HELP}; without them, only "
    "the points are drawn. Animations need them.",
    section="What to draw",
    cls=Option,
)
@click.option(
    "--trials",
    type=Trials(),
    help="Which trials to draw, such as 0,3,5, or 0:10 for the first ten.",
    section="What to draw",
    cls=Option,
)
@click.option(
    "--start-time",
    type=int,
    help="The first time step to draw.",
    section="What to draw",
    cls=Option,
)
@click.option(
    "--dimensions",
    type=click.Choice(["2", "3"]),
    help="Dimensions of the figure; 2 by default, and 3 in .html.",
    section="What to draw",
    cls=Option,
)
@click.option(
    "--projection",
    type=ArrayFile(),
    help=f"A matrix [n_states, 2 or 3] in {ARRAY_HELP}, onto whose columns states are projected, "
    "such as the weights of a readout; by default principal components.",
    section="What to draw",
    cls=Option,
)
@click.option(
    "--eigenvectors",
    type=click.Choice(["unstable", "slow"]),
    help="Draw the unstable eigenvectors, or these and the slow stable ones.",
    section="What to draw",
    cls=Option,
)
@click.option(
    "--color-by",
    type=ColorBy(),
    help="What colours stand for: time, the condition of each point, or an array of one label or "
    f"number for each trial in {ARRAY_HELP}.",
    section="What it looks like",
    cls=Option,
)
@click.option(
    "--preset",
    type=click.Choice(["column", "slide"]),
    help="Size and text for one column of a paper (85 mm), or for a slide.",
    section="What it looks like",
    cls=Option,
)
@click.option(
    "--title",
    help="The title; '' for none. By default it says what is shown.",
    section="What it looks like",
    cls=Option,
)
@click.option(
    "--dpi",
    type=click.IntRange(min=1),
    help="Resolution of .png, .jpg, .tif and animations in dots per inch.",
    section="What it looks like",
    cls=Option,
)
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="File for the figure.",
    cls=Option,
)
def plot(file: Path, out: Path, states: Any, preset: str | None, **options: Any) -> None:
    """Draw the points, as the help of the command says."""
    _check_suffix(out)
    suffix = out.suffix.lower()
    interactive, animated = suffix == _INTERACTIVE, suffix in _ANIMATED
    check_writable(out, "--out")
    if interactive and options["dimensions"] == "2":
        raise click.UsageError("--dimensions 2 and .html do not go together; a page is in 3-D.")
    if animated and states is None:
        raise click.UsageError(f"{suffix} needs --states: an animation shows trajectories.")
    if animated and options["eigenvectors"] is not None:
        raise click.UsageError(f"--eigenvectors and {suffix} do not go together.")
    dimensions = 3 if interactive else int(options["dimensions"] or 2)
    fps = FixedPoints.load(file)
    given = {
        "plot_batch_idx": options["trials"],
        "plot_start_time": options["start_time"],
        "projection": options["projection"],
        "color_by": options["color_by"],
        "eigenvectors": options["eigenvectors"],
        "interactive": interactive or None,
    }
    draw(
        fps,
        None if states is None else trajectories(np.asarray(states)),
        _config(preset, out, options["title"], options["dpi"]),
        dimensions,
        animated,
        **{name: value for name, value in given.items() if value is not None},
    )
    click.echo(f"Written: {out}")


def draw(
    fps: FixedPoints, states: Any, config: Any, dimensions: int, animated: bool, **given: Any
) -> Any:
    """Call the function that draws in so many dimensions, which writes the figure."""
    from slowpoints._plots.animation import animate_fixed_points
    from slowpoints._plots.fixed_points import plot_fixed_points_2d, plot_fixed_points_3d

    if animated:
        return animate_fixed_points(fps, states, config, dimensions=dimensions, **given)
    function = plot_fixed_points_3d if dimensions == 3 else plot_fixed_points_2d
    return function(fps, states, config, **given)


def _config(preset: str | None, out: Path, title: str | None, dpi: int | None) -> Any:
    from slowpoints._drawing.config import PlotConfig

    settings: dict[str, Any] = {"save_path": out, "show": False}
    if title is not None:
        settings["title"] = title or None
    if dpi is not None:
        settings["save_dpi"] = dpi
    make = {None: PlotConfig, "column": "for_column", "slide": "for_slide"}[preset]
    return (getattr(PlotConfig, make) if isinstance(make, str) else make)(**settings)


def _check_suffix(out: Path) -> None:
    if out.suffix.lower() not in _SUFFIXES:
        raise click.BadParameter(
            f"{str(out)!r}: expected a name that ends in one of {', '.join(_SUFFIXES)}.",
            param_hint="'--out'",
        )
