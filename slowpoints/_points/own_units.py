"""Points and vectors of states that are given in other units, entry by entry."""

import numpy as np
from jaxtyping import Float

from slowpoints._points.fixed_points import FixedPoints


def in_units(fps: FixedPoints, unit: Float[np.ndarray, " n_states"]) -> FixedPoints:
    """Return points in other units: `y` stands for the state `x = unit * y`.

    Eigenvectors are left out, as their norm in other units is another. Points of units that are
    all 1 come back as they are.

    Args:
        fps: points, on the host.
        unit: `[n_states]` powers of two, by which numbers are divided without rounding.
    """
    if (unit == 1).all():
        return fps
    factors = {name: 1 / unit for name in ("xstar", "F_xstar", "x_init")}
    factors |= {"J_xstar": unit / unit[:, None], "dFdu": 1 / unit[:, None]}
    known = {name: value for name in factors if (value := getattr(fps, name)) is not None}
    scaled = {name: value * factors[name].astype(value.dtype) for name, value in known.items()}
    fps = fps.replace(**scaled, eigvec_J_xstar=None)
    if fps.qstar is not None and fps.F_xstar is not None:
        q = np.sum(np.square(fps.F_xstar - fps.xstar), axis=1) / 2
        fps = fps.replace(qstar=q.astype(fps.qstar.dtype))
    return fps


def directions_of_states(
    vectors: Float[np.ndarray, "n n_states"], unit: Float[np.ndarray, " n_states"]
) -> tuple[Float[np.ndarray, "n n_states"], Float[np.ndarray, "n 1"]]:
    """Return vectors in units, of norm 1, as directions of states, and by what they are longer.

    These are of Euclidean norm 1, as all eigenvectors in this package.
    """
    if (unit == 1).all():
        return vectors, np.ones((len(vectors), 1))
    vectors = unit * vectors
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / length, 1 / length
