"""`PlotConfig`: how a figure looks and where it goes."""

import os
from dataclasses import dataclass
from typing import Any


@dataclass
class PlotConfig:
    """What a figure looks like and where it goes.

    Attributes:
        title: the title; `""` for one that says what is shown, `None` for none.
        xlabel: the first axis' label, to which the explained variance is appended; `""` for "PC 1".
        ylabel: the second axis' label, likewise.
        figsize: width and height in inches.
        grid: whether to draw grid lines.
        save_path: file to write; its suffix chooses the format, and missing folders are made.
        show: whether to call `matplotlib.pyplot.show`. If not, pyplot never learns of the figure.
        time_steps_per_second: for animations; no effect here.
        fps: for animations; no effect here.
        repeat: for animations; no effect here.
        show_progress_bar: for animations; no effect here.
        render_backend: for animations; no effect here.
        render_workers: for animations; no effect here.
        render_start_method: for animations; no effect here.
        show_legend: whether to draw the legend, beside the axes.
        color: colour of the trajectories, which are drawn translucent.
        clabel: label of a colour bar; no effect here, where the legend explains the colours.
        kwargs: `matplotlib.lines.Line2D` properties of the trajectories, such as
            `{"linewidth": 2}`; these win over `color` and `rasterized`.
        savefig_kwargs: arguments of `Figure.savefig`; these win over the three below.
        rasterized: whether vector formats hold the trajectories as an image, to keep files small.
        save_dpi: resolution of the file.
        save_bbox_inches: `"tight"` to trim the margins, `None` for Matplotlib's setting.
        save_format: file format; `None` leaves it to the suffix.
        verbose: whether to print the axes' contents and the file's name.
    """

    title: str | None = ""
    xlabel: str = ""
    ylabel: str = ""
    figsize: tuple[int | float, int | float] = (10, 6)
    grid: bool = False
    save_path: str | os.PathLike[str] | None = None
    show: bool = True
    time_steps_per_second: int | None = None
    fps: int = 30
    repeat: bool = True
    show_progress_bar: bool = True
    render_backend: str | None = None
    render_workers: int | None = None
    render_start_method: str | None = None
    show_legend: bool = True
    color: Any = "black"
    clabel: str = "Value"
    kwargs: dict[str, Any] | None = None
    savefig_kwargs: dict[str, Any] | None = None
    rasterized: bool | None = None
    save_dpi: int = 300
    save_bbox_inches: str | None = "tight"
    save_format: str | None = None
    verbose: bool = False

    def __post_init__(self) -> None:
        if self.kwargs is None:
            self.kwargs = {}

    @classmethod
    def for_static_plot(cls, **kwargs: Any) -> "PlotConfig":
        """Return a configuration without a time base, whatever `kwargs` says of one."""
        settings: dict[str, Any] = kwargs | {"time_steps_per_second": None}
        return cls(**settings)

    def to_matplotlib_kwargs(self) -> dict[str, Any]:
        """Return `kwargs`, with `rasterized` where only the field of that name is set."""
        given = dict(self.kwargs or {})
        if self.rasterized is not None:
            given.setdefault("rasterized", self.rasterized)
        return given

    def to_savefig_kwargs(self) -> dict[str, Any]:
        """Return the arguments of `Figure.savefig`."""
        fields = {"dpi": self.save_dpi}
        fields |= {"bbox_inches": self.save_bbox_inches, "format": self.save_format}
        fields = {name: value for name, value in fields.items() if value is not None}
        return fields | (self.savefig_kwargs or {})
