"""A plane of the state space: which one it is, its grid, and the points in it or near it."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from slowpoints._core import arguments
from slowpoints._drawing.drawing import draw_points, scale_of_marks
from slowpoints._drawing.marks import groups_of
from slowpoints._drawing.view import fit_pca
from slowpoints._pipeline.parts import brief
from slowpoints._points.fixed_points import FixedPoints

_ON_A_LINE = 1e-5
"""Points whose extent across their first principal component is at most this part of that along it
lie on a line, as far as float32 can tell."""

_LEAST_SHAPE = 0.5
"""The shorter side of the figure is this part of the longer one or more."""


@dataclass(frozen=True)
class Section:
    """A plane of the state space, and the points that it was made for."""

    origin: Float[np.ndarray, " n_states"]
    axes: Float[np.ndarray, "2 n_states"]  # orthonormal, so that distances are true
    through: Float[np.ndarray, "m n_states"]
    names: tuple[str, str]

    def across(self, x: Float[np.ndarray, "k n_states"]) -> Float[np.ndarray, "k 2"]:
        """Return where the projections of states are in the plane."""
        return (x - self.origin).astype(np.float64) @ self.axes.T.astype(np.float64)

    def distance(self, x: Float[np.ndarray, "k n_states"]) -> Float[np.ndarray, " k"]:
        """Return how far states are from the plane."""
        back = self.origin + self.across(x) @ self.axes.astype(np.float64)
        return np.linalg.norm(x - back, axis=1)


def checked_points(caller: str, name: str, fps: Any) -> FixedPoints | None:
    """Return the valid rows, or `None` where there are no points."""
    if fps is None:
        return None
    arguments.instance(caller, name, fps, FixedPoints, "a slowpoints.FixedPoints or None")
    if fps.xstar is None:
        arguments.refuse(caller, f"{name}.xstar", "is None", "the points' xstar", ValueError)
    points: Any = fps.to_numpy().compact()
    arguments.check_precision(caller, f"{name}.xstar", points.xstar.dtype)
    arguments.check_finite(caller, f"{name}.xstar", points.xstar)
    return points if points.n else None


def section_of(
    caller: str, n_states: int | None, plane: Any, points: FixedPoints | None
) -> Section:
    """Return the plane that is asked for, of so many states where that is known."""
    given: Any = None if points is None else points.xstar
    if plane is None or isinstance(plane, FixedPoints):
        chosen = points if plane is None else checked_points(caller, "plane", plane)
        if chosen is None:
            was = "is None" if plane is None else "has no valid rows"
            expected = "points through which the plane is to go, here or in `fixed_points`"
            arguments.refuse(caller, "plane", was, expected, ValueError)
        array: Any = chosen.xstar
    else:
        n_states = n_states if given is None else given.shape[1]
        shapes: list[Any] = [("m", "n_states" if n_states is None else n_states)]
        if given is not None:
            shapes.append((n_states, 2))
        array = arguments.array(caller, "plane", plane, *shapes, finite=True, nonempty=True)
        array = np.asarray(array)
    if not np.issubdtype(array.dtype, np.floating):
        array = array.astype(np.float32)
    arguments.check_precision(caller, "plane", array.dtype)
    if given is not None and array.shape[1] != given.shape[1]:
        return _along(caller, array, given)
    return _through(caller, array)


def _through(caller: str, x: Float[np.ndarray, "m n_states"]) -> Section:
    """Return the plane of the first two principal components, or of the states themselves."""
    n, n_states = x.shape
    if n_states == 2:
        names = ("state $x_1$", "state $x_2$")
        return Section(np.zeros(2, x.dtype), np.eye(2, dtype=x.dtype), x, names)
    if n < 3 or n_states < 2:
        was, expected = f"has shape {x.shape}", "three or more points, of two or more states"
        arguments.refuse(caller, "plane", was, expected, ValueError)
    mean, axes, variance = fit_pca(x.astype(np.float64), 2)
    along = (x - mean) @ axes.T
    if np.ptp(along[:, 1]) <= _ON_A_LINE * np.ptp(along[:, 0]):
        was = f"has shape {x.shape}, and these points are on a line"
        arguments.refuse(caller, "plane", was, "points that span a plane", ValueError)
    names = ["PC 1 of the points", "PC 2 of the points"]
    if n > 3:
        names = [f"{name} ({100 * v:.1f} %)" for name, v in zip(names, variance, strict=True)]
    return Section(mean.astype(x.dtype), axes.astype(x.dtype), x, (names[0], names[1]))


def _along(
    caller: str, matrix: Float[np.ndarray, "n_states 2"], x: Float[np.ndarray, "n n_states"]
) -> Section:
    """Return the plane that two columns span, through the mean of points."""
    q, r = np.linalg.qr(matrix.astype(np.float64))
    if np.abs(np.diag(r)).min() <= _ON_A_LINE * np.abs(r).max():
        was = f"has shape {matrix.shape}, and its columns are along the same line"
        arguments.refuse(caller, "plane", was, "columns that span a plane", ValueError)
    axes = (q * np.sign(np.diag(r))).T.astype(x.dtype)  # the first one along the first column
    return Section(x.mean(axis=0), axes, x, ("first column", "second column, orthogonalised"))


def check_inputs(
    caller: str, points: FixedPoints, name: str, u: Float[np.ndarray, " n_inputs"]
) -> None:
    """Refuse points under another input than the one of this name, where they are none."""
    if points.inputs is None:
        return
    same_size = points.inputs.shape[1] == u.size
    other = ~np.isclose(points.inputs, u, rtol=1e-5, atol=1e-7).all(axis=1) if same_size else None
    if other is None or other.any():
        n = points.n if other is None else int(other.sum())
        was = f"differ from `{name}` in {n} of {points.n} rows"
        expected = "points under this input"
        arguments.refuse(caller, "fixed_points.inputs", was, expected, ValueError)


def extent_of(
    section: Section, points: FixedPoints | None, margin: float
) -> tuple[Float[np.ndarray, " 2"], Float[np.ndarray, " 2"]]:
    """Return the lower left and the upper right corner."""
    shown = section.across(section.through)
    if points is not None:
        shown = np.concatenate([shown, section.across(points.xstar)])
    low, high = shown.min(axis=0), shown.max(axis=0)
    longest = float((high - low).max()) or 2.0  # around a single point
    room = np.maximum(_LEAST_SHAPE * longest - (high - low), 0) / 2 + margin * longest
    room = np.maximum(room, _LEAST_SHAPE * longest * ((high - low).max() == 0))
    return low - room, high + room


def grid_between(low: Any, high: Any, n: int) -> Float[np.ndarray, "rows columns 2"]:
    """Return the centres of about square cells, `n` of them along the longer side."""
    longest = (high - low).max()
    counts = np.maximum(np.round(n * (high - low) / longest), 1).astype(int)
    sides = [
        a + (b - a) * (np.arange(k) + 0.5) / k for a, b, k in zip(low, high, counts, strict=True)
    ]
    return np.stack(np.meshgrid(*sides), axis=-1)


def draw_marks(ax: Any, points: FixedPoints, section: Section) -> None:
    """Draw the points: full in the plane, and hollow where they are projected onto it."""
    from matplotlib.patheffects import withStroke

    scale = scale_of_marks()
    across, distance = section.across(points.xstar), section.distance(points.xstar)
    inside = distance <= points.tol_unique  # no farther than what counts as the same point
    groups = groups_of(points)
    draw_points(
        ax, across, [replace(g, rows=g.rows & inside) for g in groups if (g.rows & inside).any()]
    )
    for group in groups:
        rows: Bool[np.ndarray, " n"] = group.rows & ~inside
        if rows.any():
            near, far = brief(distance[rows].min()), brief(distance[rows].max())
            away = near if near == far else f"{near} to {far}"
            ax.scatter(
                *across[rows].T,
                s=40 * scale**2,
                marker=group.marker,
                facecolors="none",
                edgecolors=group.color,
                linewidths=1.2 * scale,
                path_effects=[withStroke(linewidth=2.2 * scale, foreground="black")],
                zorder=3,
                label=f"{group.name} ({rows.sum()}), {away} from the plane",
            )
