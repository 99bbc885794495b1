"""`PlotConfig`: how a figure looks and where it goes."""

import os
from dataclasses import dataclass
from typing import Any

_COLUMN = (85 / 25.4, 90 / 25.4)
"""One column of most journals, in inches; the height leaves room for the legend below the axes."""

_COLUMNS = (180 / 25.4, 90 / 25.4)
"""Both columns."""

_SLIDE = (40 / 3, 7.5)
"""A slide of common programs, in inches."""


@dataclass
class PlotConfig:
    """What a figure looks like and where it goes.

    Attributes:
        title: the title; `""` for one that says what is shown, `None` for none.
        xlabel: the first axis' label, to which the explained variance is appended; `""` for "PC 1".
        ylabel: the second axis' label, likewise.
        figsize: width and height in inches. The legend is to the right of the axes, or below them
            if the figure is narrower than 6 inches.
        grid: whether to draw grid lines.
        save_path: file to write; its suffix chooses the format, and missing folders are made.
        show: whether to call `matplotlib.pyplot.show`. If not, pyplot never learns of the figure.
        time_steps_per_second: of an animation: how many time steps a second of it shows; `None` for
            one time step per frame.
        fps: frames per second of an animation.
        repeat: whether an animation starts again at its end.
        show_progress_bar: whether to show how far the writing of an animation has come.
        render_backend: kept for compatibility; animations are always drawn by Matplotlib.
        render_workers: kept for compatibility; frames are drawn one after another.
        render_start_method: kept for compatibility, like `render_workers`.
        show_legend: whether to draw the legend, and the colour bar, beside the axes.
        color: colour of the trajectories, which are drawn translucent, unless `color_by` is given.
        clabel: label of the colour bar, where there is one.
        kwargs: `matplotlib.lines.Line2D` properties of the trajectories, such as
            `{"linewidth": 2}`; these win over `color` and `rasterized`.
        savefig_kwargs: arguments of `Figure.savefig`; these win over the three below.
        rasterized: whether vector formats hold the trajectories as an image, to keep files small.
        save_dpi: resolution of the file.
        save_bbox_inches: `"tight"` to trim the margins, `None` for Matplotlib's setting.
        save_format: file format; `None` leaves it to the suffix.
        verbose: whether to print the axes' contents and the file's name.
        font_size: size of the text in points, with which marks and lines grow; `None` for
            Matplotlib's setting.
        cmap: colours of numbers: a colour map of Matplotlib, or its name, such as `"coolwarm"` for
            evidence for either of two choices, whose middle is 0 if `norm` is as wide to both
            sides; `None` for "viridis" without its lightest fifth.
        norm: which numbers have which colours, so that several figures or panels have one scale:
            the numbers at both ends, such as `(-1, 1)`, or a `Normalize` of Matplotlib; `None` for
            the least and the largest that are drawn. Numbers beyond an end have its colour, and
            the scale is pointed there.
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
    font_size: int | float | None = None
    cmap: Any = None
    norm: Any = None

    def __post_init__(self) -> None:
        if self.kwargs is None:
            self.kwargs = {}

    @classmethod
    def for_static_plot(cls, **kwargs: Any) -> "PlotConfig":
        """Return a configuration without a time base, whatever `kwargs` says of one."""
        settings: dict[str, Any] = kwargs | {"time_steps_per_second": None}
        return cls(**settings)

    @classmethod
    def for_column(cls, columns: int = 1, **kwargs: Any) -> "PlotConfig":
        """Return a configuration for a paper: 85 mm wide, or 180 mm for two columns of text.

        Text has 8 points. The file has just this width, since its margins are not trimmed.

        Args:
            columns: 1 or 2.
            **kwargs: fields that are to be others.

        Raises:
            ValueError: if `columns` is neither 1 nor 2.
        """
        if columns not in (1, 2):
            raise ValueError(f"PlotConfig.for_column: `columns` is {columns!r}; expected 1 or 2.")
        size: dict[str, Any] = {"font_size": 8, "save_bbox_inches": None}
        size["figsize"] = _COLUMN if columns == 1 else _COLUMNS
        return cls(**(size | kwargs))

    @classmethod
    def for_slide(cls, **kwargs: Any) -> "PlotConfig":
        """Return a configuration for a slide: 16 to 9, with text that the last row can read."""
        return cls(**({"figsize": _SLIDE, "font_size": 20, "save_dpi": 150} | kwargs))

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
