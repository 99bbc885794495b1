"""Points of curves where their steps are too long to show every change of stability.

What changes sign at an event are the distance of an eigenvalue from the unit circle and the
direction in `s`. Second differences tell how much these bend, and so whether they may change sign
twice between two points that show no change, or once more between two that do.
"""

import numpy as np
from jaxtyping import Bool, Float

from slowpoints._arclength.arcs import Chain
from slowpoints._arclength.curve import Curve
from slowpoints._arclength.middles import middles
from slowpoints._arclength.spectra import Spectra, growth, neutral, spectra

_SAFETY = 2.0
"""Bends may be so many times stronger between points than the differences between them tell."""

_SHORTEST = {8: 6e-5, 4: 6e-2}
"""Steps of this arclength are not divided further (in float64 and float32): an eigenvalue that
moves away from the circle in proportion to the square of the distance, as on the arms of a
pitchfork, is told from one that stays there down to about half of this."""

_MOST_ROUNDS = 24
"""Each halves the steps in question, so that `_SHORTEST` is reached before."""


def refined_curves(
    curve: Curve, chains: list[Chain], found: list[Spectra], n_leading: int
) -> tuple[list[Chain], list[Spectra]]:
    """Insert points into curves until none of their steps is likely to hide events.

    Args:
        curve: the equations.
        chains: the curves.
        found: the eigenvalues at their points.
        n_leading: how many eigenvalues to compute at new points.

    Returns:
        The curves and their eigenvalues, with the points inserted.
    """
    settled = [np.zeros(len(chain.y) - 1, bool) for chain in chains]
    chains, found = list(chains), list(found)
    for _ in range(_MOST_ROUNDS):
        steps = [
            (number, int(k))
            for number, chain in enumerate(chains)
            for k in np.flatnonzero(
                _may_hide_events(curve, chain, found[number]) & ~settled[number]
            )
        ]
        if not steps:
            break
        middle, is_good = middles(curve, chains, steps)
        values = spectra(curve, middle.y, n_leading)
        rows_of: dict[int, list[int]] = {}
        for row, (number, _) in enumerate(steps):
            rows_of.setdefault(number, []).append(row)
        for number, rows in rows_of.items():
            at = np.array([steps[row][1] for row in rows])
            failed = ~is_good[rows]
            settled[number][at[failed]] = True
            use, at = np.array(rows)[~failed], at[~failed] + 1
            chain, old = chains[number], found[number]
            chains[number] = chain._replace(
                y=np.insert(chain.y, at, middle.y[use], axis=0),
                tangent=np.insert(chain.tangent, at, middle.tangent[use], axis=0),
            )
            found[number] = Spectra(
                *(np.insert(a, at, b[use], axis=0) for a, b in zip(old, values, strict=True))
            )
            settled[number] = np.insert(settled[number], at, False)
    return chains, found


def _may_hide_events(curve: Curve, chain: Chain, found: Spectra) -> Bool[np.ndarray, " k"]:
    """Return for each step of a curve whether an event may hide in it."""
    length = np.linalg.norm(np.diff(chain.y, axis=0), axis=1).astype(np.float64)
    if len(length) < 2:
        return np.zeros(len(length), bool)
    outside = growth(found.eigvals, curve.is_flow) - neutral(found.eigvals)
    tests = np.concatenate([chain.tangent[:, -1:], outside], axis=1).astype(np.float64)
    is_long = length > _SHORTEST[chain.y.dtype.itemsize]
    with np.errstate(invalid="ignore"):  # eigenvalues that did not converge are NaN
        return is_long & _may_change_sign_unseen(tests, length).any(axis=1)


def _may_change_sign_unseen(
    tests: Float[np.ndarray, "n m"], length: Float[np.ndarray, " k"]
) -> Bool[np.ndarray, "k m"]:
    """Return in which steps functions may change sign more often than their values there show.

    With `|f''| <= M`, `f` is monotone in a step of length `h` if it changes by more than `M h^2/2`.
    Otherwise it is at least `mean - M h^2 / 8 - change^2 / (2 M h^2)` if it is positive at both
    ends.
    """
    h = length[:, None]
    slopes = np.diff(tests, axis=0) / h
    second = np.abs(np.diff(slopes, axis=0)) * 2 / (h[1:] + h[:-1])
    bend = np.maximum(np.concatenate([second[:1], second]), np.concatenate([second, second[-1:]]))
    most = _SAFETY * bend * h**2
    change = np.abs(np.diff(tests, axis=0))
    is_monotone = change >= most / 2
    left, right = tests[:-1], tests[1:]
    most = np.maximum(most, np.finfo(np.float64).tiny)
    with np.errstate(over="ignore"):
        dip = most / 8 + change**2 / (2 * most)
    same_side = left * right > 0
    stays = same_side & (np.abs(left + right) / 2 > dip)
    return ~is_monotone & ~stays & np.isfinite(dip)
