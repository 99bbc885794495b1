"""The kinds of start of a search in rounds: from what is known, where to start next."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

_MOST_REACH = 1.0
"""Starts are drawn from a box that reaches beyond the visited states by at most this many times
their range, even if points lie farther out."""


class Known(NamedTuple):
    """What starts are made of."""

    visited: Float[np.ndarray, "k n_states"]
    """States of the trajectories."""
    points: Float[np.ndarray, "p n_states"]
    """The distinct points."""
    origins: Float[np.ndarray, "w n_states"]
    """Saddles, one row for each of their unstable directions."""
    directions: Float[np.ndarray, "w n_states"]
    """These directions, of length 1."""

    def box(self) -> tuple[Any, Any]:
        """Return the lowest and the highest values of the states that are known."""
        low, high = self.visited.min(axis=0), self.visited.max(axis=0)
        if len(self.points):
            # Not ever farther out, as it would go on a line of fixed points without an end.
            reach = _MOST_REACH * (high - low)
            least, most = low - reach, high + reach
            low = np.minimum(low, np.maximum(self.points.min(axis=0), least))
            high = np.maximum(high, np.minimum(self.points.max(axis=0), most))
        return low, high


# ---- the kinds -----------------------------------------------------------------------------------
# Each takes a generator, what is known, and how many starts to draw.


def _from_trajectories(rng: Any, known: Known, n: int) -> Any:
    spread = known.visited.std(axis=0)
    noise = rng.uniform(0, 2, (n, 1)) * rng.standard_normal((n, spread.size)) * spread
    return known.visited[rng.integers(len(known.visited), size=n)] + noise


def _between_points(rng: Any, known: Known, n: int) -> Any:
    a, b = (known.points[rng.integers(len(known.points), size=n)] for _ in range(2))
    return _jittered(rng, known, a + rng.uniform(-0.25, 1.25, (n, 1)) * (b - a))


def _parallelograms(rng: Any, known: Known, n: int) -> Any:
    a, b, c = (known.points[rng.integers(len(known.points), size=n)] for _ in range(3))
    return _jittered(rng, known, a + b - c)


def _out_of_saddles(rng: Any, known: Known, n: int) -> Any:
    chosen = rng.integers(len(known.origins), size=n)
    low, high = known.box()
    length = np.linalg.norm(high - low) * 10 ** rng.uniform(-2, 0, (n, 1))
    sides = rng.choice([-1.0, 1.0], (n, 1))
    return known.origins[chosen] + sides * length * known.directions[chosen]


def _anywhere(rng: Any, known: Known, n: int) -> Any:
    low, high = known.box()
    margin = 0.1 * (high - low)
    return rng.uniform(low - margin, high + margin, (n, low.size))


def _jittered(rng: Any, known: Known, x: Any) -> Any:
    low, high = known.box()
    return x + 0.02 * (high - low) * rng.standard_normal(x.shape)


KINDS: dict[str, Callable[[Any, Known, int], Any]] = {
    "trajectories": _from_trajectories,
    "between points": _between_points,
    "parallelograms": _parallelograms,
    "out of saddles": _out_of_saddles,
    "anywhere": _anywhere,
}
