"""Where states go if no point that a search keeps is stable: a sentence of its report."""

import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from slowpoints._attractors.kinds import AttractorKind
from slowpoints._network.base import Transition
from slowpoints._network.continuous_time import ContinuousTime
from slowpoints._points.fixed_points import FixedPoints

if TYPE_CHECKING:
    from slowpoints._attractors.attractors import Attractors

_N_STARTS = 16
"""So few states tell what most of them do, in a second or so."""

_MOST_NUMBERS = 2**20
"""Each takes so many steps, divided by the number of states: 4,096 of 256 units."""

_MOST_STEPS = 4096

_WORDS = {
    AttractorKind.FIXED_POINT: "come to a fixed point",
    AttractorKind.CYCLE: "run on a cycle",
    AttractorKind.CLOSED_ORBIT: "run on a closed orbit",
    AttractorKind.TORUS: "run on a torus",
    AttractorKind.CHAOS: "move on a chaotic attractor",
    AttractorKind.ESCAPE: "leave for infinity or become NaN",
    AttractorKind.UNDECIDED: "are undecided",
}


def lines_on_states(F: Transition, fps: FixedPoints, all_fps: FixedPoints) -> Iterator[str]:
    """Say what initial states settle on, if no point under their input is known to be stable.

    Args:
        F: the network.
        fps: the points that are kept, with `is_stable`, or there is nothing to say.
        all_fps: all rows, with the states that they started from.
    """
    if fps.is_stable is None or all_fps.x_init is None:
        return
    continuous_time = isinstance(F, ContinuousTime)
    if continuous_time and importlib.util.find_spec("diffrax") is None:
        return
    known = {u.tobytes() for u in fps.inputs[fps.is_stable]}
    rows = [i for i, u in enumerate(all_fps.inputs) if u.tobytes() not in known]
    rows = [i for i in rows if np.isfinite(all_fps.x_init[i]).all()]
    if not rows:
        return
    from slowpoints._attractors.attractors import attractors  # only here: most have a stable point

    chosen = np.array(rows)[np.linspace(0, len(rows) - 1, min(len(rows), _N_STARTS)).astype(int)]
    x, u = all_fps.x_init[chosen], all_fps.inputs[chosen]
    n_steps = min(_MOST_STEPS, _MOST_NUMBERS // x.shape[1] + 1)
    found = attractors(F, x, u, max_steps=n_steps, n_exponents=2, n_sample=1)
    where = "" if not known else " under some of the inputs"
    told = "; ".join(_parts(found, "units of time" if continuous_time else "steps"))
    missed = ""
    if AttractorKind.FIXED_POINT in found.kind:
        missed = (
            " What these come to is not among the points that are kept: search from the states "
            "that `simulate` ends at under this input."
        )
    yield (
        f"\tNo stable point is kept{where}. Of {len(chosen)} initial states there, followed for up "
        f"to {n_steps} steps: {told}.{missed} (`attractors` tells more.)"
    )


def _parts(found: "Attractors", unit: str) -> Iterator[str]:
    """Say how many states settled on what, in the order of the kinds."""
    kinds = np.array(found.kind)
    periods = [("" if np.isnan(p) or p == 1 else f" of {p:.4g} {unit}") for p in found.period]
    for kind, words in _WORDS.items():
        rows = np.flatnonzero(kinds == kind)
        if not rows.size:
            continue
        n = int(found.n_starts[rows].sum())
        told: dict[str, Any] = dict.fromkeys(f"{words}{periods[row]}" for row in rows)
        yield f"{n} " + " or ".join(told)
