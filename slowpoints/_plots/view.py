"""What a figure shows of points and trajectories: the coordinates of its axes."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from slowpoints._points.fixed_points import FixedPoints


def check_finite(name: str, values: Float[np.ndarray, "..."]) -> None:
    """Raise a `ValueError` if values that are to be drawn are not finite."""
    if not np.isfinite(values).all():
        raise ValueError(
            f"`{name}`, of shape {values.shape} where it is drawn, has "
            f"{np.sum(~np.isfinite(values))} value(s) that are not finite; expected none."
        )


@dataclass(frozen=True)
class View:
    """The coordinates to draw, one column per axis of the figure.

    `variance` has one ratio per principal component: none for a return map, and none for the time
    axis, which comes last and reaches over `time_span` where there is one.
    """

    trajectories: Float[np.ndarray, "shown steps axes"]
    points: Float[np.ndarray, "n axes"]
    names: tuple[str, ...]
    variance: tuple[float, ...]
    is_return_map: bool
    time_span: tuple[float, float] | None


def view_of(
    points: FixedPoints,
    states: Float[np.ndarray, "shown time n_states"],
    first_step: int,
    n_axes: int,
) -> View:
    """Return the coordinates of a figure of `n_axes` axes.

    One state makes a return map; several are projected onto the principal components of the
    trajectories. If there are fewer of these than axes, the last axis is time.
    """
    n_shown, n_time, n_states = states.shape
    if n_states == 1:
        image = points.xstar if points.F_xstar is None else points.F_xstar
        check_finite("fixed_points.F_xstar", image)
        trajectories = np.concatenate([states[:, :-1], states[:, 1:]], axis=2)
        coordinates = np.concatenate([points.xstar, image], axis=1)
        names, variance = ("state $x_t$", "next state $x_{t+1}$"), ()
    else:
        mean, components, variance = fit_pca(states.reshape(-1, n_states), min(n_axes, n_states))
        trajectories = (states - mean) @ components.T
        coordinates = (points.xstar - mean) @ components.T
        names = tuple(f"PC {k + 1}" for k in range(len(components)))
    time_span = None
    if len(names) < n_axes:
        time_span = (float(first_step), float(first_step + n_time - 1))
        steps = first_step + np.arange(trajectories.shape[1], dtype=np.float64)
        times = np.broadcast_to(steps[:, None], (n_shown, steps.size, 1))
        trajectories = np.concatenate([trajectories, times], axis=2)
        coordinates = np.concatenate([coordinates, np.full((points.n, 1), time_span[1])], axis=1)
        names = (*names, "time step $t$")
    return View(trajectories, coordinates, names, variance, n_states == 1, time_span)


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
