"""`differs_from_its_steps`: whether a module is more than the step from the state it is given.

What a module keeps beside its state, and what looks at several steps at a time, is seen only if it
is called with several steps at once.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from slowpoints._core.without_torch import without_torch
from slowpoints._network.torch_graphs.step import Step

_NUDGE = 100
"""A difference of so many times what comes of rounding the first state and the inputs is none."""


def differs_from_its_steps(
    step: Step, state: list[torch.Tensor], inputs: torch.Tensor, tolerance: float
) -> bool:
    """Return whether a module comes to other states with several steps at once than one by one.

    One that takes no longer sequences does not, nor does one that looks at a single step of them.

    Args:
        step: a step of it, by the signature `"batched_sequence"`.
        state: arrays to start from.
        inputs: `[time, n_inputs]`, which the module is given by trials first and by time first.
        tolerance: relative to the largest entry of the states.
    """

    def one_by_one(*point: torch.Tensor) -> list[np.ndarray]:
        *arrays, inputs = point
        for u in inputs:
            arrays = step(*arrays, u)
        return arrays_of(arrays)

    point = [*state, inputs]
    end, tolerance = end_of(one_by_one, point, tolerance)
    alone = [arrays_of(step(*state, u)) for u in inputs]
    differs = False
    for axis in (1, 0):
        try:
            at_once = arrays_of(step.of_times(len(inputs), axis)(*point))
        except Exception:  # the user's code may raise any error if the axes are not its own
            continue
        # With time on the axis of trials, an input is one step of a trial, the last of them.
        if gap(at_once, end, point) > tolerance:
            differs |= all(gap(at_once, one, point) > tolerance for one in alone)
    return differs


def end_of(
    run: Callable[..., list[np.ndarray]], point: list[torch.Tensor], tolerance: float
) -> tuple[list[np.ndarray], float]:
    """Return where a run ends, and how far from there is as good, relative to the largest entry.

    Chaos makes of rounding what may be more than the tolerance.
    """
    end = run(*point)
    nudged = [tensor * (1 + 2 * torch.finfo(tensor.dtype).eps) for tensor in point]
    return end, max(tolerance, _NUDGE * gap(run(*nudged), end, point))


def gap(found: Any, expected: list[np.ndarray], point: list[torch.Tensor]) -> float:
    """Return the largest difference, relative to the largest number; infinite for a NaN in one.

    Where the next state is all but 0, rounding is that of the numbers that it is computed from.
    """
    gap, largest = 0.0, 0.0
    for a, b in zip(found, expected, strict=True):
        differ = ~((a == b) | (np.isnan(a) & np.isnan(b)))
        gap = max(gap, np.nan_to_num(np.abs(a - b)[differ], nan=np.inf).max(initial=0))
        largest = max(largest, np.abs(b[np.isfinite(b)]).max(initial=0))
    rounding = 100 * torch.finfo(point[0].dtype).eps * max(t.abs().max() for t in point if len(t))
    return 0.0 if gap <= rounding else float(gap / largest) if largest else np.inf


def arrays_of(tensors: Any) -> list[np.ndarray]:
    """Return tensors as arrays of NumPy."""
    return [without_torch(tensor) for tensor in tensors]
