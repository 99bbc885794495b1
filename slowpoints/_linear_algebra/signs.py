"""Signs of `det(I - J)`, the indices that fixed points have in degree theory.

The functions take `FixedPoints` backed by NumPy or JAX, on the host.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from slowpoints._core.units import heard_entries, units_of

UNCERTAIN = 4.0
"""Rounding changes entries of a Jacobian by one or two units in the last place. If that could make
`I - J` singular, or nearly so, the computed sign means nothing."""

PLACE = 1e-3
"""How exactly a point's place has to be known for the `J` there to be that of the point, as a
fraction of the state's size (its norm, or `sqrt(n_states)` times the largest entry of all points
and starts if that is larger). Slopes change by about their own size over a distance of the state's
size. In float32, where rounding leaves a speed of some 6e-8 of the size, this calls singular values
below 6e-5 uncertain: on a line or ring of fixed points they are about 1e-6, and in a network of
steps `dt / tau` = 0.01 rarely below 1e-3."""


def signs_of(fps: Any, unit: Float[np.ndarray, " n_states"] | None = None) -> Int[np.ndarray, " n"]:
    """Return the sign of `det(I - J)`, or 0 where it is not known.

    In continuous time it is the sign of `det(-J)`, since `x - F(x)` is `-f(x)` there.

    Args:
        fps: points with `J_xstar` and, if known, `xstar`, `F_xstar`, `x_init`, `qstar`,
            `at_kink`.
        unit: `[n_states]` the unit of each entry of the states; by default, from these points and
            their starts. A single point at the origin does not tell how large states are.

    Returns:
        `[n]` 1 or -1; or 0 if `I - J` is not finite, nearly singular as `_singular_below` says, or
        jumps at a kink.
    """
    unit = units_of_points(fps) if unit is None else unit
    A = _matrices(fps, unit)
    signs = np.zeros(len(A), int)
    finite = np.flatnonzero(np.isfinite(A).all(axis=(1, 2)))
    if finite.size == 0:
        return signs
    A = A[finite]
    with np.errstate(all="ignore"):
        # The smallest singular value is at least this.
        smallest = 1 / np.linalg.norm(inverses(A), axis=(1, 2))
        known = smallest > _singular_below(fps, A, finite, unit)
    if fps.at_kink is not None:  # elsewhere around the point, it is another
        known &= ~np.asarray(fps.at_kink)[finite]
    signs[finite] = np.where(known, np.sign(np.linalg.slogdet(A)[0]), 0)
    return signs


def neutral_directions(fps: Any, row: int) -> Float[np.ndarray, "n_states k"]:
    """Return the directions along which `I - J` of a row vanishes, as far as can be told.

    On a line or ring of fixed points there is one, along the line; on a surface there are two.
    """
    unit = units_of_points(fps)
    A = _matrices(fps[row], unit)
    if not np.isfinite(A).all():
        return np.zeros((A.shape[-1], 0))
    _, sizes, directions = np.linalg.svd(A[0])
    below = _singular_below(fps[row], A, np.array([0]), unit)[0]
    found = unit[:, None] * directions[sizes <= below].T
    return found / np.linalg.norm(found, axis=0)


def units_of_points(fps: Any) -> Float[np.ndarray, " n_states"]:
    """Return the unit of each entry of the states, from all points and where searches started."""
    states = [x for x in (fps.xstar, fps.F_xstar, fps.x_init) if x is not None]
    if not states:
        return np.ones(fps.J_xstar.shape[-1])
    return units_of(*states, heard=heard_in_points(fps))


def heard_in_points(fps: Any) -> Bool[np.ndarray, " n_states"] | None:
    """Return which entries are small and yet no rounding, or `None` if that is not known."""
    if fps.xstar is None or fps.F_xstar is None or fps.J_xstar is None:
        return None
    return heard_entries(fps.xstar, fps.J_xstar, fps.F_xstar, fps.continuous_time)


def _matrices(
    fps: Any, unit: Float[np.ndarray, " n_states"]
) -> Float[np.ndarray, "n n_states n_states"]:
    """Return `I - J`, or in continuous time `-J`, of states in these units."""
    J = np.asarray(fps.J_xstar).astype(np.float64) * (unit / unit[:, None])
    return -J if fps.continuous_time else np.eye(J.shape[-1]) - J


def _singular_below(
    fps: Any, A: Any, rows: Int[np.ndarray, " k"], unit: Float[np.ndarray, " n_states"]
) -> Float[np.ndarray, " k"]:
    """Return the singular values below which those of `I - J`, of states in units, may be 0.

    That is `UNCERTAIN` times the rounding in the type of `J`; or the speed `|F(x) - x|`, or what
    rounding hides of it if that is more, divided by `PLACE` times the state's size: the point that
    is meant may then be farther away than that, where `J` is another. `tol_unique`, by which points
    are told apart, has no part in it.
    """
    eps = np.finfo(fps.J_xstar.dtype).eps
    size = np.linalg.norm(A, axis=(1, 2))
    # Both terms of `I - J` are rounded, and so are those of `F(x) - x`; a flow has one only.
    below = UNCERTAIN * eps * (size if fps.continuous_time else 1 + size)
    if fps.qstar is not None:
        rate = size / np.sqrt(A.shape[-1]) if fps.continuous_time else 1.0
        speed, length = _speeds(fps, rows, unit), np.full(rows.size, np.sqrt(A.shape[-1]))
        if fps.xstar is not None:
            x = np.asarray(fps.xstar)[rows].astype(np.float64) / unit
            length = np.maximum(length, np.linalg.norm(x, axis=1))
        below = np.maximum(below, np.maximum(speed / length, rate * eps / 2) / PLACE)
    return below


def _speeds(
    fps: Any, rows: Int[np.ndarray, " k"], unit: Float[np.ndarray, " n_states"]
) -> Float[np.ndarray, " k"]:
    """Return how far the states move in these units, or the most that it can be."""
    if (unit == unit[:1]).all() or fps.xstar is None or fps.F_xstar is None:
        return np.sqrt(2 * np.asarray(fps.qstar, np.float64)[rows]) / unit.min(initial=np.inf)
    x, F_x = (np.asarray(a)[rows].astype(np.float64) for a in (fps.xstar, fps.F_xstar))
    return np.linalg.norm((F_x - x) / unit, axis=1)


def inverses(matrices: Shaped[np.ndarray, "n d d"]) -> Shaped[np.ndarray, "n d d"]:
    """Return the inverse of each matrix; NaN for a singular one."""
    try:
        return np.linalg.inv(matrices)
    except np.linalg.LinAlgError:
        found = np.full_like(matrices, np.nan)
        for i, matrix in enumerate(matrices):
            try:
                found[i] = np.linalg.inv(matrix)
            except np.linalg.LinAlgError:
                continue
        return found


def sums_by_input(
    signs: Int[np.ndarray, " n"], inputs: Shaped[Any, "n n_inputs"] | None
) -> Int[np.ndarray, " k"]:
    """Return the sums of signs under each of the `k` different inputs."""
    if inputs is None or not len(signs):
        return np.array([signs.sum()], int)
    _, which = np.unique(np.asarray(inputs), axis=0, return_inverse=True)
    return np.bincount(which.reshape(-1), weights=signs).astype(int)
