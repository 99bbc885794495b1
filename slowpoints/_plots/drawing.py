"""What all static figures are made of: axes, points, a legend, a file."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from slowpoints._plots.config import PlotConfig
from slowpoints._plots.marks import Group
from slowpoints._plots.view import View

if TYPE_CHECKING:
    import matplotlib.figure


def axis_labels(view: View, config: PlotConfig) -> list[str]:
    """Return the labels of all axes, with the explained variance where there is one."""
    given = [config.xlabel, config.ylabel, ""]
    labels = [own or name for own, name in zip(given, view.names, strict=False)]
    for k, ratio in enumerate(view.variance):
        labels[k] += f" ({100 * ratio:.1f} % of variance)"
    return labels


def new_figure(config: PlotConfig) -> "matplotlib.figure.Figure":
    """Return an empty figure of the size that is asked for."""
    if config.show:
        from matplotlib import pyplot as plt

        return plt.figure(figsize=config.figsize, layout="constrained")
    from matplotlib.figure import Figure

    # Not pyplot's, which would open a window and hold on to the figure.
    return Figure(figsize=config.figsize, layout="constrained")


def draw_points(ax: Any, points: Float[np.ndarray, "n axes"], groups: list[Group]) -> None:
    """Draw each group of points with its mark, and name it for the legend."""
    size, edge = (70, 0.8) if len(points) <= 100 else (30, 0.4)
    # Shading by depth would make colours differ from those in the legend.
    depthshade = {"depthshade": False} if points.shape[1] == 3 else {}
    for group in groups:
        ax.scatter(
            *points[group.rows].T,
            s=size,
            marker=group.marker,
            color=group.color,
            edgecolors="white",
            linewidths=edge,
            zorder=3,
            label=f"{group.name} ({group.rows.sum()})",
            **depthshade,
        )


def style_axes(ax: Any, view: View, config: PlotConfig) -> None:
    """Set scales, ticks, spines and grid."""
    from matplotlib.ticker import MaxNLocator

    if len(view.names) == 3:
        for axis in (ax.xaxis, ax.yaxis, ax.zaxis):
            axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        # Distances are comparable between components, but not between states and time.
        ax.set_aspect("equal" if view.time_span is None else "equalxy", adjustable="datalim")
    else:
        ax.spines[["top", "right"]].set_visible(False)
        ax.set_axisbelow(True)
        if view.is_return_map:
            ax.set_aspect("equal", adjustable="datalim")
    ax.grid(config.grid, **({"alpha": 0.3} if config.grid else {}))


def draw_legend(ax: Any, anchor: tuple[float, float]) -> None:
    """Draw the legend to the right of the axes, where it hides nothing."""
    legend = ax.legend(loc="upper left", bbox_to_anchor=anchor, borderaxespad=0.0, frameon=False)
    for line in legend.get_lines():
        line.set_alpha(0.8)  # one translucent line by itself is hardly seen


def finish(fig: "matplotlib.figure.Figure", config: PlotConfig) -> None:
    """Write and show the figure, if that is asked for."""
    if config.save_path:
        Path(config.save_path).parent.mkdir(parents=True, exist_ok=True)
        fig.savefig(config.save_path, **config.to_savefig_kwargs())
        if config.verbose:
            print(f"Saved {os.fspath(config.save_path)}.")
    if config.show:
        from matplotlib import pyplot as plt

        plt.show()
