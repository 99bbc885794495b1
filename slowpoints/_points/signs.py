"""Signs of `det(I - J)`, the indices that fixed points have in degree theory.

The functions take `FixedPoints` backed by NumPy or JAX, on the host.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

UNCERTAIN = 4.0
"""Rounding changes entries of a Jacobian by one or two units in the last place. If that could make
`I - J` singular, or nearly so, the computed sign means nothing."""


def signs_of(fps: Any) -> Int[np.ndarray, " n"]:
    """Return the sign of `det(I - J)`, or 0 where it is not known.

    In continuous time it is the sign of `det(-J)`, since `x - F(x)` is `-f(x)` there.

    Args:
        fps: points with `J_xstar` and, if known, `qstar`.

    Returns:
        `[n]` 1 or -1; or 0 if `I - J` is not finite, or nearly singular as `_singular_below` says.
    """
    A = _matrices(fps)
    signs = np.zeros(len(A), int)
    finite = np.flatnonzero(np.isfinite(A).all(axis=(1, 2)))
    if finite.size == 0:
        return signs
    A = A[finite]
    with np.errstate(all="ignore"):
        # The smallest singular value is at least this.
        smallest = 1 / np.linalg.norm(inverses(A), axis=(1, 2))
        known = smallest > _singular_below(fps, A, finite)
    signs[finite] = np.where(known, np.sign(np.linalg.slogdet(A)[0]), 0)
    return signs


def neutral_directions(fps: Any, row: int) -> Float[np.ndarray, "n_states k"]:
    """Return the directions along which `I - J` of a row vanishes, as far as can be told.

    On a line or ring of fixed points there is one, along the line; on a surface there are two.
    """
    A = _matrices(fps[row])
    if not np.isfinite(A).all():
        return np.zeros((A.shape[-1], 0))
    _, sizes, directions = np.linalg.svd(A[0])
    return directions[sizes <= _singular_below(fps[row], A, np.array([0]))[0]].T


def _matrices(fps: Any) -> Float[np.ndarray, "n n_states n_states"]:
    J = np.asarray(fps.J_xstar).astype(np.float64)
    return -J if fps.continuous_time else np.eye(J.shape[-1]) - J


def _singular_below(fps: Any, A: Any, rows: Int[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """Return the singular values below which those of `I - J` may be 0.

    That is `UNCERTAIN` times the rounding in the type of `J`; or the speed `|F(x) - x|` divided by
    `tol_unique`, since the point that is meant may then be that far away, where `J` is another.
    """
    eps = np.finfo(fps.J_xstar.dtype).eps
    below = UNCERTAIN * eps * (1 + np.linalg.norm(A, axis=(1, 2)))
    if fps.qstar is not None and fps.tol_unique > 0:
        speed = np.sqrt(2 * np.asarray(fps.qstar, np.float64)[rows])
        below = np.maximum(below, speed / fps.tol_unique)
    return below


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
