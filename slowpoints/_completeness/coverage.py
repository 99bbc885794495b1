"""`coverage`: how much a search has probably missed, from how often it found each point."""

import dataclasses
import math

import numpy as np

from slowpoints._completeness.degree import counted_rows
from slowpoints._core import arguments
from slowpoints._points.fixed_points import FixedPoints

_SIDE = 0.025
"""What either side of an interval leaves out, so that it holds 95 times in 100."""

_Z = 1.96  # of the normal distribution, for the same share

_Z_OF_UNSEEN = 2.3
"""Chao's interval is narrow for points that are found equally often: with 1.96, its lower end holds
in 94 of 100 searches, with this in 97.5."""


@dataclasses.dataclass(frozen=True)
class Coverage:
    """What a search has probably missed: see [`coverage`][slowpoints.coverage].

    Attributes:
        n_rows: how many rows ended at fixed points.
        n_found: at how many points they ended.
        n_once: how many of these were found by a single row.
        n_twice: how many were found by two rows.
        p_new: the probability that a further start finds a new point.
        p_new_interval: in 95 of 100 searches, this holds that probability.
        n_unseen: how many points there are at least that were not found, as an estimate.
        n_unseen_interval: in 97.5 of 100 searches, at least as many points as its lower end were
            not found; and in as many, not more than its upper end of those points that at least one
            in `n_rows` starts leads to. Of rarer points there may be any number.
    """

    n_rows: int
    n_found: int
    n_once: int
    n_twice: int
    p_new: float
    p_new_interval: tuple[float, float]
    n_unseen: float
    n_unseen_interval: tuple[int, int]

    def __str__(self) -> str:
        low, high = self.p_new_interval
        fewest, most = self.n_unseen_interval
        return (
            f"{self.n_rows} starts led to {self.n_found} fixed points, {self.n_once} of which were "
            f"found once and {self.n_twice} twice.\n"
            f"A further start finds a new point with a probability of {self.p_new:.2g} (95 %: "
            f"{low:.2g} to {high:.2g}).\n"
            f"About {self.n_unseen:.1f} points or more are unseen: at least {fewest}, and of "
            f"points that one start in {self.n_rows} leads to at most {most}."
        )


def coverage(fps: FixedPoints) -> Coverage:
    """Estimate from the rows at each fixed point how much a search has missed.

    If many points were found only once, there are more to find. Good & Turing's estimate of the
    probability that a further start finds a new point is the share of rows at such points (Good
    1953), here with the correction of Chao & Jost (2012, "Coverage-based rarefaction and
    extrapolation"). The number of unseen points is Chao's estimate of how many there are at least
    (Chao 1984, 1987, as "Chao1").

    Both assume that starts are drawn independently of each other, and say what further starts drawn
    in the same way would find with the same solver. They say nothing about fixed points to which no
    such start leads: where most rows end at slow points, as in chaotic networks, there may be many
    more, which [`BoundedNewton`][slowpoints.BoundedNewton] finds from the same starts.

    Args:
        fps: the distinct points of a search with `hits`, as [`unique`][slowpoints.unique] and
            [`find_fixed_points`][slowpoints.find_fixed_points] return them. Invalid rows, and rows
            whose `status` is not that of a fixed point, do not count.

    Returns:
        The estimates, with intervals.

    Raises:
        TypeError: if `fps` is not a `FixedPoints`.
        ValueError: if it has no `hits`, one of them is no number of rows, or no row ended at a
            fixed point.
    """
    arguments.fields("coverage", fps, FixedPoints, "hits")
    hits = np.asarray(fps.hits)[counted_rows(fps)]
    wrong = ~((hits >= 0) & (hits == np.round(hits)))
    if wrong.any():
        was, expected = f"holds {hits[wrong][0]}", "numbers of rows, whole and not negative"
        arguments.refuse("coverage", "fps.hits", was, expected, ValueError)
    hits = hits[hits > 0]
    n = int(hits.sum())
    if n == 0:
        arguments.refuse(
            "coverage", "fps", "has no rows at fixed points", "at least one such row", ValueError
        )
    once, twice = int(np.sum(hits == 1)), int(np.sum(hits == 2))
    low, high = _probability_interval(n, once, twice)
    unseen, fewest = _unseen(n, once, twice)
    return Coverage(
        n_rows=n,
        n_found=len(hits),
        n_once=once,
        n_twice=twice,
        p_new=_probability(n, once, twice),
        p_new_interval=(low, high),
        n_unseen=unseen,
        n_unseen_interval=(fewest, math.floor(n * high)),
    )


def _probability(n: int, once: int, twice: int) -> float:
    """Return Chao & Jost's estimate (2012, eq. 4a), which has a variant without twos."""
    if once == 0:
        return 0.0
    a, b = (once, 2 * twice) if twice else (once - 1, 2)
    return once / n * (n - 1) * a / ((n - 1) * a + b)


def _probability_interval(n: int, once: int, twice: int) -> tuple[float, float]:
    """Return an interval for the probability of a new point.

    `n` times the probability differs from `once` by a variance of about `once + 2 twice` (Esty
    1983). The lower end is that of the normal distribution. The upper end is that of a Poisson
    distribution (Garwood 1936) which is as much wider than usual as this variance asks for, since
    small counts are not normal: it is above zero even if no point was found only once.
    """
    from scipy.special import gammaincinv  # only here, so that others load no SciPy

    variance = once + 2 * twice
    wider = variance / once if once else 1.0 + min(2 * twice, 3)
    high = wider * float(gammaincinv(once / wider + 1, 1 - _SIDE)) / n
    return max(0.0, once - _Z * math.sqrt(variance)) / n, min(1.0, high)


def _unseen(n: int, once: int, twice: int) -> tuple[float, int]:
    """Return Chao's estimate of the number unseen, and the lower end of its interval (1987)."""
    k = (n - 1) / n
    if twice:
        ratio = once / twice
        estimate = k * once**2 / (2 * twice)
        variance = twice * (k * ratio**2 / 2 + k**2 * ratio**3 + k**2 * ratio**4 / 4)
    else:  # the form without bias, which needs no point that was found twice
        estimate = k * once * (once - 1) / 2
        variance = k * once * (once - 1) / 2 + k**2 * once * (2 * once - 1) ** 2 / 4
    if estimate == 0:
        return 0.0, 0
    spread = math.exp(_Z_OF_UNSEEN * math.sqrt(math.log(1 + variance / estimate**2)))
    return estimate, math.floor(estimate / spread)
