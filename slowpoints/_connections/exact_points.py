"""The points of `connections`, refined and decomposed."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Complex, Float, Int

from slowpoints._connections.outcome import REACH, Places
from slowpoints._connections.refined_points import (
    GIVEN,
    enabled,
    refined_points,
    size_of,
    spacing,
    speeds,
    working_dtype,
)
from slowpoints._linear_algebra.stability import neutral_margin
from slowpoints._network.base import Transition
from slowpoints._points.decompose import decompose
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.jacobians import jacobians


@dataclasses.dataclass(frozen=True)
class ExactPoints:
    """The rows that are fixed points, in the precision of the computation and in units."""

    rows: Int[np.ndarray, " k"]
    """Their numbers among the points that were given."""
    unit: Float[np.ndarray, " n_states"]
    """What their states and eigenvectors are given in units of."""
    x: Float[np.ndarray, "k n_states"]
    u: Float[np.ndarray, "k n_inputs"]
    eigval: Complex[np.ndarray, "k n_states"]
    """Of the Jacobians: in continuous time those of `df/dx`."""
    eigvec: Complex[np.ndarray, "k n_states n_states"]
    grows: Bool[np.ndarray, "k n_states"]
    is_stable: Bool[np.ndarray, " k"]
    group: Int[np.ndarray, " k"]
    """Equal for those under the same input and of the same condition."""
    spacing: Float[np.ndarray, " k"]
    """The distance to the next point of the group."""
    continuous_time: bool

    @property
    def index(self) -> Int[np.ndarray, " k"]:
        """The number of unstable directions of each point."""
        return self.grows.sum(axis=1)

    def places(self) -> Places:
        """Return the points as places where trajectories may end."""
        return Places(self.x, self.group, self.is_stable, REACH * self.spacing)

    def spectra(self, fps: FixedPoints) -> dict[str, Any]:
        """Return the fields with eigenvalues for all rows, NaN for those that are not points."""
        n, d = fps.n, fps.n_states
        kind = np.result_type(fps.xstar.dtype, np.complex64)
        values, vectors = np.full((n, d), np.nan, kind), np.full((n, d, d), np.nan, kind)
        stable = np.zeros(n, bool)
        own = self.unit[:, None] * self.eigvec
        own = own / np.linalg.norm(own, axis=1, keepdims=True)
        values[self.rows], vectors[self.rows] = self.eigval, own
        stable[self.rows] = self.is_stable
        return {
            "eigval_J_xstar": values,
            "eigvec_J_xstar": vectors,
            "is_stable": stable,
            "continuous_time": self.continuous_time,
        }

    @classmethod
    def of(
        cls,
        F: Transition,
        fps: FixedPoints,
        rows: Int[np.ndarray, " k"],
        unit: Float[np.ndarray, " n_states"],
    ) -> "ExactPoints":
        """Refine some of the points, and decompose their Jacobians.

        Args:
            F: the network of states in these units.
            fps: the points, not in units. Only those that Newton's method confirms are kept.
            rows: the numbers of those that are fixed points.
            unit: what states are given in units of.
        """
        dtype = working_dtype(F, fps.xstar, fps.inputs)
        u = fps.inputs[rows].astype(dtype)
        given = (fps.xstar[rows] / unit).astype(dtype)
        x = refined_points(F, given, u)
        with enabled(dtype):
            # Weights of a lower precision count for what they are.
            exact = decompose(jacobians(F, FixedPoints(xstar=jnp.asarray(x), inputs=u))).to_numpy()
        speed = speeds(F, x, u)
        if (
            exact.continuous_time
        ):  # in the shortest of its time constants, whatever the unit of time
            speed = speed / np.abs(exact.eigval_J_xstar).max(axis=1)
        known = np.isfinite(exact.eigval_J_xstar).all(axis=1)
        known &= np.linalg.norm(x - given, axis=1) <= GIVEN * size_of(x)
        known &= speed <= np.sqrt(np.finfo(dtype).eps) * size_of(x)
        rows, x, u, exact, speed = rows[known], x[known], u[known], exact[known], speed[known]
        # As for `is_stable`: what may be 1 does not grow.
        margin = neutral_margin(np, rows.size, dtype, speed)[:, None]
        if exact.continuous_time:
            margin = margin * np.abs(exact.eigval_J_xstar).max(axis=1, keepdims=True)
            grows = exact.eigval_J_xstar.real > margin
        else:
            grows = np.abs(exact.eigval_J_xstar) > 1 + margin
        condition = 0 * rows if fps.cond_id is None else fps.cond_id[rows]
        group = np.unique(np.c_[u, condition], axis=0, return_inverse=True)[1].reshape(-1)
        return cls(
            rows=rows,
            unit=unit,
            x=x,
            u=u,
            eigval=exact.eigval_J_xstar,
            eigvec=exact.eigvec_J_xstar,
            grows=grows,
            is_stable=exact.is_stable,
            group=group,
            spacing=spacing(x, group),
            continuous_time=exact.continuous_time,
        )
