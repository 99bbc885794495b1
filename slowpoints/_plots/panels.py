"""How panels are arranged, and a legend beside or below all of a figure."""

from typing import TYPE_CHECKING, Any

from slowpoints._plots.config import PlotConfig
from slowpoints._plots.layout import NARROW

if TYPE_CHECKING:
    import matplotlib.figure


def is_narrow(config: PlotConfig) -> bool:
    """Return whether panels are above each other rather than side by side."""
    return config.figsize[0] < NARROW


def draw_figure_legend(fig: "matplotlib.figure.Figure", ax: Any, config: PlotConfig) -> None:
    """Draw the legend of one panel beside all of them, or below them in a narrow figure.

    Unlike a legend of the axes themselves, it takes no width from these where it is below.
    """
    handles, labels = ax.get_legend_handles_labels()
    if not handles:
        return
    below = is_narrow(config)
    look: dict[str, Any] = {"frameon": False, "columnspacing": 1.0}
    look |= {"handlelength": 1.4, "handletextpad": 0.6}
    look["loc"] = "outside lower center" if below else "outside right upper"
    legend = fig.legend(handles, labels, ncols=2 if below else 1, **look)
    if below and legend.get_window_extent().width > fig.bbox.width:
        legend.remove()
        fig.legend(handles, labels, ncols=1, **look)
