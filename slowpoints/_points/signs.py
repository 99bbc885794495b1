"""Signs of `det(I - J)`, the indices that fixed points have in degree theory."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

UNCERTAIN = 4.0
"""Rounding changes entries of a Jacobian by one or two units in the last place. If that could make
`I - J` singular, or nearly so, the computed sign means nothing."""


def signs_of(J: Float[Any, "n n_states n_states"], continuous_time: bool) -> Int[np.ndarray, " n"]:
    """Return the sign of `det(I - J)`, or 0 where rounding may have turned it.

    In continuous time it is the sign of `det(-J)`, since `x - F(x)` is `-f(x)` there.

    Returns:
        `[n]` 1 or -1, or 0 if `I - J` is not finite, or singular up to `UNCERTAIN` times the
        rounding in the type of `J`.
    """
    J = np.asarray(J)
    A = -J.astype(np.float64) if continuous_time else np.eye(J.shape[-1]) - J.astype(np.float64)
    signs = np.zeros(len(A), int)
    finite = np.flatnonzero(np.isfinite(A).all(axis=(1, 2)))
    if finite.size == 0:
        return signs
    A = A[finite]
    rounding = np.finfo(J.dtype).eps * (1 + np.linalg.norm(A, axis=(1, 2)))
    with np.errstate(all="ignore"):
        # The smallest singular value is at least this.
        smallest = 1 / np.linalg.norm(inverses(A), axis=(1, 2))
        known = smallest > UNCERTAIN * rounding
    signs[finite] = np.where(known, np.sign(np.linalg.slogdet(A)[0]), 0)
    return signs


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
