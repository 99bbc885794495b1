"""The interactive figure: a scene in three dimensions that can be turned, drawn by Plotly."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from slowpoints._core import arguments
from slowpoints._drawing.coloring import Coloring, Scale
from slowpoints._drawing.config import PlotConfig
from slowpoints._drawing.drawing import axis_labels
from slowpoints._drawing.scene import Scene
from slowpoints._points.summary import columns

if TYPE_CHECKING:
    import plotly.graph_objects as go

_CALLER = "plot_fixed_points_3d"

# Plotly has eight shapes in three dimensions: of two kinds with the same, the colours differ.
_SYMBOLS = {
    "o": "circle",
    "^": "diamond",
    "s": "square",
    "D": "cross",
    "P": "x",
    "v": "diamond-open",
    "*": "circle-open",
    "p": "square-open",
    "h": "square-open",
    "d": "diamond-open",
    "X": "x",
}

_PROPERTIES = ("color", "linewidth", "alpha")
"""What Plotly's lines have of Matplotlib's properties."""


def interactive_figure(scene: Scene, config: PlotConfig) -> "go.Figure":
    """Draw a scene with Plotly; write it and show it, if that is asked for."""
    try:
        import plotly.graph_objects as go
    except ImportError as error:
        raise ImportError(
            f"{_CALLER}: Plotly, which draws interactive figures, is not installed; "
            '`pip install plotly`, or `pip install -e ".[plotly]"` in the checkout of slowpoints.'
        ) from error
    path = None if config.save_path is None else Path(config.save_path)
    if path is not None and path.suffix not in (".html", ".htm"):
        was = f"is {str(path)!r}"
        expected = "the name of an HTML file, since the figure is interactive"
        arguments.refuse(_CALLER, "config.save_path", was, expected, ValueError)
    fig = go.Figure([*_trajectories(scene, config), *_segments(scene), *_points(scene)])
    view = scene.view
    axes = {
        f"{axis}axis": {"title": {"text": _plain(label)}, "showspikes": False}
        for axis, label in zip("xyz", axis_labels(view, config), strict=True)
    }
    fig.update_layout(
        template="plotly_white",
        title={"text": "" if config.title is None else config.title or scene.title},
        scene=axes
        | {
            "aspectmode": "data" if view.time_span is None else "cube",
            "camera": {"eye": {"x": 1.6, "y": -1.6, "z": 0.9}, "center": {"z": -0.1}},
        },
        # Below the scene: beside it, it would take half of the screen of a phone.
        legend={"itemsizing": "constant", "orientation": "h", "x": 0, "y": 0, "yanchor": "top"},
        showlegend=config.show_legend,
        margin={"l": 0, "r": 0, "b": 10, "t": 50},
    )
    if config.font_size is not None:
        fig.update_layout(font={"size": config.font_size})
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        page = fig.to_html(include_plotlyjs=True, config={"displaylogo": False})
        path.write_text(page, encoding="utf-8")
        if config.verbose:
            print(f"Saved {path}.")
    if config.show:
        fig.show()
    return fig


def _plain(text: str) -> str:
    """Return a label without the signs of TeX, which a page would need a further program for."""
    return text.replace("$x_{t+1}$", "x(t+1)").replace("$x_t$", "x(t)").replace("$", "")


# ---- trajectories ------------------------------------------------------------------------------


def _trajectories(scene: Scene, config: PlotConfig) -> list[Any]:
    """Return one line for all trajectories of a condition, with gaps between them."""
    from matplotlib.cbook import normalize_kwargs
    from matplotlib.colors import to_hex
    from matplotlib.lines import Line2D

    trajectories, coloring = scene.view.trajectories, scene.coloring
    n_shown, n_steps, _ = trajectories.shape
    given: dict[str, Any] = normalize_kwargs(config.to_matplotlib_kwargs(), Line2D)
    if unknown := sorted(set(given) - {*_PROPERTIES, "rasterized"}):
        was, expected = f"has {unknown}", f"only {', '.join(_PROPERTIES)} for interactive figures"
        arguments.refuse(_CALLER, "config.kwargs", was, expected, ValueError)
    look = {"color": config.color, "linewidth": 1.0, "alpha": 0.5} | given
    words = "trajectory" if n_shown == 1 else "trajectories"
    parts = [(np.arange(n_shown), f"{words} ({n_shown})", to_hex(look["color"]))]
    if coloring.of_trajectory is not None:
        parts = [
            (rows, f"{coloring.name} {label} ({rows.size})", to_hex(color))
            for k, (label, color) in enumerate(zip(coloring.labels, coloring.colors, strict=True))
            if (rows := np.flatnonzero(coloring.of_trajectory == k)).size
        ]
    traces = []
    for rows, name, color in parts if n_shown and n_steps else []:
        line: dict[str, Any] = {"width": 2 * look["linewidth"], "color": color}
        if coloring.values is not None and coloring.scale is not None:
            values = coloring.values[rows, :n_steps]  # and a number for the gap, which is not seen
            values = np.concatenate([values, values[:, -1:]], axis=1).ravel()
            line["color"] = np.asarray(coloring.scale.norm(values)).tolist()
            line |= _scale(coloring.scale)
        steps = scene.first_step + np.arange(n_steps)
        texts = [
            text
            for trial in scene.trials[rows]
            for text in (*(f"trial {trial}, time step {step}" for step in steps), "")
        ]
        lines = _lines(trajectories[rows], name, line)
        lines.update(opacity=look["alpha"], text=texts, hoverinfo="text")
        traces.append(lines)
    return traces


def _lines(places: Float[np.ndarray, "m steps 3"], name: str, line: dict[str, Any]) -> Any:
    """Return several lines as one, with gaps between them."""
    import plotly.graph_objects as go

    gap = np.full((len(places), 1, 3), np.nan)
    x, y, z = np.concatenate([places, gap], axis=1).reshape(-1, 3).T
    return go.Scatter3d(x=x, y=y, z=z, mode="lines", name=name, line=line, connectgaps=False)


def _scale(scale: Scale) -> dict[str, Any]:
    """Return the scale of numbers from 0 to 1, which a `Normalize` has made of others."""
    from matplotlib.colors import to_hex

    colors = [to_hex(color) for color in scale.cmap(np.linspace(0, 1, 16))]
    places, ticks = np.linspace(0, 1, 16).tolist(), np.linspace(0, 1, 5)
    bar = {"title": {"text": _plain(scale.name)}, "x": -0.05, "len": 0.6}
    try:
        texts = [f"{value:.3g}" for value in np.asarray(scale.norm.inverse(ticks))]
    except ValueError:
        was = f"is a {type(scale.norm).__name__}"
        expected = "one that has an inverse, for interactive figures"
        arguments.refuse(_CALLER, "config.norm", was, expected, ValueError)
    return {
        "colorscale": [list(pair) for pair in zip(places, colors, strict=True)],
        "cmin": 0.0,
        "cmax": 1.0,
        "showscale": True,
        "colorbar": bar | {"tickvals": ticks.tolist(), "ticktext": texts},
    }


# ---- points ------------------------------------------------------------------------------------


def _points(scene: Scene) -> list[Any]:
    import plotly.graph_objects as go
    from matplotlib.colors import to_hex

    texts, coloring = _texts(scene), scene.coloring
    size = 7 if scene.points.n <= 100 else 4
    traces = []
    for group in scene.groups:
        x, y, z = scene.view.points[group.rows].T
        own = coloring.of_points(group.rows)
        color: Any = group.color if own is None else [to_hex(each) for each in own]
        symbol = _SYMBOLS[group.marker]
        edge = color if symbol.endswith("-open") else "black"
        traces.append(
            go.Scatter3d(
                x=x,
                y=y,
                z=z,
                mode="markers",
                name=f"{group.name} ({group.rows.sum()})",
                marker={
                    "symbol": symbol,
                    "color": color,
                    "size": size,
                    "line": {"color": edge, "width": 1},
                },
                text=[texts[row] for row in np.flatnonzero(group.rows)],
                hoverinfo="text",
            )
        )
    return [*traces, *_keys_of_points(coloring)]


def _keys_of_points(coloring: Coloring) -> list[Any]:
    """Return marks that are nowhere, for what colours tell of points and not of trajectories."""
    import plotly.graph_objects as go
    from matplotlib.colors import to_hex

    nowhere: dict[str, Any] = {axis: [None] for axis in "xyz"}
    looks = []
    if coloring.scale is not None and coloring.values is None:
        looks.append({"showlegend": False, "marker": {"color": [0.0], **_scale(coloring.scale)}})
    of_lines = coloring.of_trajectory
    for k, label in enumerate(coloring.labels):
        n = 0 if coloring.of_point is None else np.sum(coloring.of_point == k)
        if n and (of_lines is None or not np.any(of_lines == k)):
            mark = {"color": to_hex(coloring.colors[k]), "symbol": "square"}
            looks.append({"name": f"{coloring.name} {label} ({n})", "marker": mark})
    return [go.Scatter3d(mode="markers", hoverinfo="skip", **nowhere, **look) for look in looks]


def _texts(scene: Scene) -> list[str]:
    """Return what is known of each point, a line for each quantity."""
    fps, kinds = scene.points, np.full(scene.points.n, "", object)
    for group in scene.groups:
        kinds[group.rows] = group.name
    known = columns(fps)
    flow = fps.continuous_time
    unit = "" if flow else " steps"
    said = [[f"row {row}", str(kind)] for row, kind in zip(scene.rows, kinds, strict=True)]
    for k, lines in enumerate(said):
        lines.extend(_told_of_point(scene.coloring, k, known))
    for key, name, form, end in (
        ("condition", "condition", "", ""),
        ("q", "q", ".2g", ""),
        ("leading_eigenvalue", "leading eigenvalue", ".4g", ""),
        ("time_constant", "its time constant", ".4g", unit),
        ("frequency", "its frequency", ".3g", ""),
        ("slowest_time_constant", "time constant of the slowest mode", ".4g", unit),
        ("hits", "starts that led here", "", ""),
    ):
        for lines, value in zip(said, known.get(key, ()), strict=False):
            shown = value.real if np.imag(value) == 0 and form else value
            lines.append(f"{name}: {format(shown, form)}{end}")
    if fps.inputs is not None and 0 < fps.n_inputs <= _MOST_INPUTS:
        for lines, u in zip(said, np.asarray(fps.inputs), strict=True):
            lines.append(f"input: {', '.join(format(value, '.3g') for value in u)}")
    return ["<br>".join(lines) for lines in said]


def _told_of_point(coloring: Coloring, k: int, known: dict[str, Any]) -> list[str]:
    """Return what the colour of a point says, unless it is the condition, which is said anyway."""
    if coloring.point_values is not None and coloring.scale is not None:
        name, value = _plain(coloring.scale.name), f"{coloring.point_values[k]:.4g}"
    elif coloring.of_point is not None:
        name, value = coloring.name, str(coloring.labels[coloring.of_point[k]])
    else:
        return []
    is_said = name == "condition" and value == str(known.get(name, [None] * (k + 1))[k])
    return [] if is_said else [f"{name}: {value}"]


_MOST_INPUTS = 8
"""Longer inputs are not shown at the pointer, where they would cover the figure."""


def _segments(scene: Scene) -> list[Any]:
    """Return lines along eigenvectors, of each kind of point one, with gaps between them."""
    traces = []
    for is_unstable, dash, words in (
        (True, "solid", "unstable eigenvectors"),
        (False, "dash", "slowest stable eigenvectors"),
    ):
        for group in scene.groups:
            ends = [
                segment.ends
                for segment in scene.segments
                if segment.is_unstable == is_unstable and group.rows[segment.row]
            ]
            if ends:
                line = {"color": group.color, "width": 6, "dash": dash}
                lines = _lines(np.stack(ends), f"{words}, {group.name}", line)
                traces.append(lines.update(hoverinfo="skip"))
    return traces
