"""`ClosedOrbits`: what is known of closed orbits."""

from collections.abc import Iterator

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Complex, Float, Int


class ClosedOrbits(eqx.Module):
    """Closed orbits: see [`closed_orbits`][slowpoints.closed_orbits].

    One row for each approximate orbit, also where none was found.

    Attributes:
        is_resolved: `[n]` whether there is one.
        period: `[n]` the mean number of steps of a return; in continuous time, the period.
        period_error: `[n]` by how much it changes if the series has half as many harmonics.
        rotation_number: `[n]` turns per step; NaN in continuous time.
        states: `[n, n_sample, n_states]` states at equal distances in phase.
        error: `[n]` by how much these change with half as many harmonics, at most.
        exponents: `[n, k]` the leading Lyapunov exponents, per step or unit of time, falling, of
            which one is zero, that along the orbit.
        multipliers: `[n, k]` the Floquet multipliers over one period, by falling magnitude, of
            which one is 1; NaN for maps, where no step of a state on the orbit closes it.
        index: `[n]` the number of directions that grow; -1 where there is no orbit, or where all
            directions grow that were looked at, 16 or more in a map.
        is_stable: `[n]` whether none grows and only the one along the orbit stays.
        inputs: `[n, n_inputs]` the constant inputs.
        reasons: `[n]` why there is none; empty if there is.
    """

    is_resolved: Bool[np.ndarray, " n"]
    period: Float[np.ndarray, " n"]
    period_error: Float[np.ndarray, " n"]
    rotation_number: Float[np.ndarray, " n"]
    states: Float[np.ndarray, "n n_sample n_states"]
    error: Float[np.ndarray, " n"]
    exponents: Float[np.ndarray, "n k"]
    multipliers: Complex[np.ndarray, "n k"]
    index: Int[np.ndarray, " n"]
    is_stable: Bool[np.ndarray, " n"]
    inputs: Float[np.ndarray, "n n_inputs"]
    reasons: tuple[str, ...] = eqx.field(static=True)

    def __len__(self) -> int:
        return len(self.period)

    def __repr__(self) -> str:
        return f"ClosedOrbits(n={len(self)}, n_resolved={self.is_resolved.sum()})"

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.is_resolved.sum()} of {len(self)} closed orbits are resolved."
        for row in np.flatnonzero(self.is_resolved):
            leading = ", ".join(f"{value:.4g}" for value in self.exponents[row, :4])
            kind = "stable" if self.is_stable[row] else f"index {self.index[row]}"
            period, error = self.period[row], self.period_error[row]
            yield f"{row}: period {period:.10g} ± {error:.1g}, {kind}, exponents {leading}"
        for row in np.flatnonzero(~self.is_resolved):
            yield f"{row}: {self.reasons[row]}"
