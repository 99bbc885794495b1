"""What a figure shows of points and trajectories: the coordinates of its axes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from slowpoints._core import arguments
from slowpoints._points.fixed_points import FixedPoints

MOST_SAMPLES = 100_000
"""Principal components are those of an even sample of so many states, if there are more. They
differ from those of all states by less than a line is wide, and a second of waiting is saved."""


def check_finite(caller: str, name: str, values: Float[np.ndarray, "..."]) -> None:
    """Raise a `ValueError` if values that are to be drawn are not finite."""
    if not np.isfinite(values).all():
        raise ValueError(
            f"{caller}: `{name}`, of shape {values.shape} where it is drawn, has "
            f"{np.sum(~np.isfinite(values))} value(s) that are not finite; expected none."
        )


@dataclass(frozen=True)
class Projection:
    """A map from states `[..., n_states]` to the axes of a figure.

    `variance` has one ratio per principal component, and is empty for other projections.
    """

    of: Callable[[Any], Float[np.ndarray, "..."]]
    names: tuple[str, ...]
    variance: tuple[float, ...] = ()


@dataclass(frozen=True)
class View:
    """The coordinates to draw, one column per axis of the figure.

    The time axis comes last and reaches over `time_span` where there is one.
    """

    trajectories: Float[np.ndarray, "shown steps axes"]
    points: Float[np.ndarray, "n axes"]
    projection: Projection
    is_return_map: bool
    time_span: tuple[float, float] | None

    @property
    def names(self) -> tuple[str, ...]:
        """What the axes show, without the explained variance."""
        time = () if self.time_span is None else ("time step $t$",)
        return (*self.projection.names, *time)


def given_projection(caller: str, projection: Any, n_states: int, n_axes: int) -> Projection:
    """Return the projection that a caller asks for: directions, or what has been fitted already."""
    if isinstance(projection, Projection):
        return projection
    if isinstance(projection, Mapping):
        return _along_directions(caller, projection, n_states, n_axes)
    if hasattr(projection, "transform"):

        def transformed(states: Any) -> Float[np.ndarray, "..."]:
            flat = np.reshape(states, (-1, n_states))
            if len(flat) == 0:  # which scikit-learn refuses
                return np.zeros((*np.shape(states)[:-1], n_axes))
            result = np.asarray(projection.transform(flat), np.float64)
            if result.ndim != 2 or result.shape[1] < n_axes:
                was = f"turns {flat.shape} states into an array of shape {result.shape}"
                expected = f"at least {n_axes} numbers for each state"
                arguments.refuse(caller, "projection", was, expected, ValueError)
            return result[:, :n_axes].reshape(*np.shape(states)[:-1], n_axes)

        names = tuple(f"component {k + 1}" for k in range(n_axes))
        return Projection(transformed, names)
    matrix = arguments.array(caller, "projection", projection, (n_states, n_axes), finite=True)
    matrix = np.asarray(matrix, np.float64)
    names = tuple(f"projection {k + 1}" for k in range(n_axes))
    return Projection(lambda states: np.asarray(states, np.float64) @ matrix, names)


def affine_map(
    caller: str, projection: Projection, n_states: int
) -> tuple[Float[np.ndarray, " n_states"], Float[np.ndarray, "n_states axes"]]:
    """Return the mean that a linear projection subtracts, and the directions of its axes.

    Raises:
        ValueError: if the projection is not linear.
    """
    origin = projection.of(np.zeros(n_states))
    once, twice = (projection.of(k * np.eye(n_states)) - origin for k in (1, 2))
    rounding = 1e-4 * max(np.abs(once).max(initial=0), np.abs(origin).max(initial=0))
    if not np.allclose(twice, 2 * once, rtol=0, atol=rounding):  # of float32, and a few digits more
        expected = "a linear one, such as scikit-learn's PCA, since directions are drawn as well"
        arguments.refuse(
            caller, "projection", "is a transformer that is not linear", expected, ValueError
        )
    return -np.linalg.pinv(once).T @ origin, once


def _along_directions(
    caller: str, directions: Mapping[Any, Any], n_states: int, n_axes: int
) -> Projection:
    """Return the projection onto directions, which have names."""
    if len(directions) < n_axes:
        was, expected = f"has {len(directions)} direction(s)", f"{n_axes}, one for each axis"
        arguments.refuse(caller, "projection", was, expected, ValueError)
    names = tuple(directions)[:n_axes]
    shape, hint = (n_states,), ", with 0 for states that it does not read, such as c of an LSTM"
    columns = [
        arguments.array(
            caller, f"projection[{name!r}]", directions[name], shape, finite=True, hint=hint
        )
        for name in names
    ]
    matrix = np.stack(columns, axis=1).astype(np.float64)
    words = tuple(str(name) for name in names)
    return Projection(lambda states: np.asarray(states, np.float64) @ matrix, words)


def pca_of(samples: Shaped[np.ndarray, "samples n_states"], n_axes: int) -> Projection:
    """Return the projection onto the principal components of the samples that are finite."""
    if len(samples) > MOST_SAMPLES:
        samples = samples[np.linspace(0, len(samples) - 1, MOST_SAMPLES).astype(int)]
    samples = samples.astype(np.float64)
    samples = samples[np.isfinite(samples).all(axis=1)]
    n_components = min(n_axes, samples.shape[1])
    if len(samples) == 0:
        samples = np.zeros((1, samples.shape[1]))
    mean, components, variance = fit_pca(samples, n_components)
    names = tuple(f"PC {k + 1}" for k in range(n_components))
    return Projection(lambda states: (states - mean) @ components.T, names, variance)


def view_of(
    caller: str,
    points: FixedPoints,
    states: Float[np.ndarray, "shown time n_states"],
    first_step: int,
    n_axes: int,
    projection: Projection,
) -> View:
    """Return the coordinates of a figure of `n_axes` axes.

    One state makes a return map. If a projection has fewer axes than the figure, the last axis of
    the figure is time.
    """
    n_shown, n_time, n_states = states.shape
    is_return_map = n_states == 1 and len(projection.names) < n_axes
    if is_return_map:
        image = points.xstar if points.F_xstar is None else points.F_xstar
        check_finite(caller, "fixed_points.F_xstar", image)
        trajectories = np.concatenate([states[:, :-1], states[:, 1:]], axis=2)
        coordinates = np.concatenate([points.xstar, image], axis=1)
        projection = Projection(projection.of, ("state $x_t$", "next state $x_{t+1}$"))
    else:
        trajectories, coordinates = projection.of(states), projection.of(points.xstar)
    time_span = None
    if len(projection.names) < n_axes:
        time_span = (float(first_step), float(first_step + max(n_time - 1, 0)))
        steps = first_step + np.arange(trajectories.shape[1], dtype=np.float64)
        times = np.broadcast_to(steps[:, None], (n_shown, steps.size, 1))
        trajectories = np.concatenate([trajectories, times], axis=2)
        coordinates = np.concatenate([coordinates, np.full((points.n, 1), time_span[1])], axis=1)
    return View(trajectories, coordinates, projection, is_return_map, time_span)


def fit_pca(
    samples: Float[np.ndarray, "samples n_states"], n_components: int
) -> tuple[Float[np.ndarray, " n_states"], Float[np.ndarray, "k n_states"], tuple[float, ...]]:
    """Return the mean, the directions `[k, n_states]` and their shares of the variance."""
    from sklearn.decomposition import PCA

    mean = samples.mean(axis=0)
    rounding = 4 * np.finfo(np.float64).eps * np.abs(samples).max()
    if np.ptp(samples, axis=0).max() <= rounding:
        # No direction stands out, and PCA would divide by the variance.
        return samples[0], np.eye(n_components, samples.shape[1]), (0.0,) * n_components
    centred = samples - mean
    # PCA finds no more directions than there are samples. Samples at the mean change none of those
    # there are, and let it complete the basis.
    missing = max(0, n_components - len(samples))
    centred = np.concatenate([centred, np.zeros((missing, centred.shape[1]))])
    pca = PCA(n_components=n_components, random_state=0).fit(centred)
    return mean, np.asarray(pca.components_), tuple(float(r) for r in pca.explained_variance_ratio_)
