"""`along`: a network whose input moves along a path, as a network of one input."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from slowpoints._core import arguments
from slowpoints._core.types import RealArray
from slowpoints._network.as_transition import as_transition
from slowpoints._network.base import Transition
from slowpoints._network.continuous_time import ContinuousTime, linearised_part


class Polyline(eqx.Module):
    """A path through given inputs, in straight lines: the input `inputs[i]` is reached at `s = i`.

    Before the first and after the last input, the first and the last line go on.
    """

    inputs: Float[RealArray, "k n_inputs"]

    def __call__(self, s: Float[Array, ""]) -> Float[Array, " n_inputs"]:
        """Return the input at `s`."""
        inputs = jnp.asarray(self.inputs, s.dtype)
        line = jnp.clip(jnp.floor(s), 0, inputs.shape[0] - 2).astype(jnp.int32)
        return inputs[line] + (s - line) * (inputs[line + 1] - inputs[line])


class Along(Transition):
    """A transition whose only input `s` stands for the input `path(s)`."""

    F: Transition
    path: Callable[..., Any]

    @property
    def n_states(self) -> int | None:
        """The length of a state, or `None` if it is not known."""
        return self.F.n_states

    @property
    def n_inputs(self) -> int:
        """The length of an input, which is 1."""
        return 1

    def flatten(self, state: Any) -> Any:
        """Return states, given in the model's own form, as vectors `[..., n_states]`."""
        return self.F.flatten(state)

    def unflatten(self, x: Any) -> Any:
        """Return `x`, `[..., n_states]`, as states in the model's own form."""
        return self.F.unflatten(x)

    def __call__(
        self, x: Float[Array, " n_states"], s: Float[Array, " 1"]
    ) -> Float[Array, " n_states"]:
        """Return the state that follows `x` under the input `path(s)`."""
        return self.F(x, self.path(s[0]))


def along(F: Any, path: Any) -> Transition:
    """Return a network of one input `s`, which stands for the input `path(s)` of `F`.

    The points of the family are then ordinary [`FixedPoints`][slowpoints.FixedPoints] with `inputs
    = [[s]]`, and [`continuation`][slowpoints.continuation] can follow them.

    Args:
        F: the transition, or anything that [`as_transition`][slowpoints.as_transition] takes.
        path: `[k, n_inputs]` at least two inputs, which are joined by straight lines: the first is
            at `s = 0`, the second at `s = 1` and so on. Or a function of the number `s` that
            returns an input `[n_inputs]` and that JAX can differentiate; if it has parameters of
            its own, make it an `equinox.Module`, so that other values of them do not recompile.

    Returns:
        The transition `x, [s] -> F(x, path(s))`, in continuous time if `F` is.

    Raises:
        TypeError: if `F` is not of a known kind, or `path` is neither an array nor a function.
        ValueError: if `path` is an array of another shape, or not finite.
    """
    F = as_transition(F)
    if not callable(path):
        expected = "inputs [k, n_inputs] or a function of s"
        if path is None or isinstance(path, (str, bytes, dict)):
            arguments.refuse("along", "path", arguments.found(path), expected, TypeError)
        inputs = arguments.array("along", "path", path, ("k", "n_inputs"), finite=True)
        if inputs.shape[0] < 2:
            was = f"has shape {tuple(inputs.shape)}"
            arguments.refuse("along", "path", was, "at least two inputs, as rows", ValueError)
        path = Polyline(inputs)
    if isinstance(F, ContinuousTime):
        return ContinuousTime(Along(linearised_part(F), path))
    return Along(F, path)
