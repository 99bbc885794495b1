"""Points on curves, on the host, for any number of rows; and trails of such points."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from slowpoints._arclength.curve import Curve, of_rows, values
from slowpoints._arclength.steps import corrected


class OnCurve(NamedTuple):
    """What `Corrected` holds, backed by NumPy, for `n` rows."""

    y: Float[np.ndarray, "*steps n d1"]
    tangent: Float[np.ndarray, "*steps n d1"]
    orientation: Float[np.ndarray, "*steps n"]
    n_steps: Int[np.ndarray, "*steps n"]
    is_on_curve: Bool[np.ndarray, "*steps n"]


class Trail(NamedTuple):
    """The points of a curve that were passed so far, in order, in lists that grow."""

    y: list[np.ndarray]
    tangent: list[np.ndarray]
    orientation: list[float]

    def extend(self, y: Any, tangent: Any, orientation: Any) -> None:
        """Add some points."""
        self.y.extend(y)
        self.tangent.extend(tangent)
        self.orientation.extend(orientation)


def on_curve(
    curve: Curve, guess: Float[np.ndarray, "n d1"], normal: Float[np.ndarray, "n d1"]
) -> OnCurve:
    """Return `corrected` for any number of rows."""
    if len(guess) == 0:
        nothing = np.zeros(0, guess.dtype)
        return OnCurve(guess, guess, nothing, np.zeros(0, int), np.zeros(0, bool))
    return OnCurve(*of_rows(corrected, curve, guess, normal))


def residuals(curve: Curve, y: Float[np.ndarray, "n d1"]) -> Float[np.ndarray, "n d"]:
    """Return `H(y)` of any number of rows."""
    return of_rows(values, curve, y) if len(y) else y[:, :-1]


def across(y: Float[np.ndarray, "n d1"]) -> Float[np.ndarray, "n d1"]:
    """Return the normals of the planes of constant `s` through some points."""
    normal = np.zeros_like(y)
    normal[:, -1] = 1
    return normal
