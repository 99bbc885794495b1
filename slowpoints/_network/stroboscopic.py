"""`stroboscopic`: one period of a network under a periodic input, as one step."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from slowpoints._core import arguments
from slowpoints._core.mesh_axes import alike
from slowpoints._core.types import RealArray
from slowpoints._network.as_transition import as_transition
from slowpoints._network.base import ModelError, Transition
from slowpoints._network.continuous_time import ContinuousTime
from slowpoints._network.iterate import returns_alike


class Stroboscopic(Transition):
    """The steps of one period under inputs that are repeated in each.

    Attributes:
        F: the transition of one step.
        inputs: `[n_steps, n_inputs]` the inputs of one period, or a function that returns them.
    """

    F: Transition
    inputs: Float[RealArray, "n_steps n_inputs"] | Callable[..., Any]

    @property
    def n_states(self) -> int | None:
        """The length of a state, or `None` if it is not known."""
        return self.F.n_states

    @property
    def n_inputs(self) -> int | None:
        """The length of an input: 1 for inputs that depend on a number, `None` otherwise."""
        return 1 if callable(self.inputs) else None

    def flatten(self, state: Any) -> Any:
        """Return states, given in the model's own form, as vectors `[..., n_states]`."""
        return self.F.flatten(state)

    def unflatten(self, x: Any) -> Any:
        """Return `x`, `[..., n_states]`, as states in the model's own form."""
        return self.F.unflatten(x)

    def __call__(
        self, x: Float[Array, " n_states"], u: Float[Array, " n_inputs"]
    ) -> Float[Array, " n_states"]:
        """Return the state one period after `x`.

        Raises:
            ModelError: if `u` cannot be added to the inputs of a step, or the function of inputs
                does not return any.
        """
        x, inputs = alike([x, self._inputs(u).astype(x.dtype)])
        if not returns_alike(self.F, x, inputs[0]):
            x, inputs = self.F(x, inputs[0]), inputs[1:]
        return jax.lax.scan(lambda x, u: (self.F(x, u), None), x, inputs)[0]

    def _inputs(self, u: Float[Array, " k"]) -> Float[Array, "n_steps n_inputs"]:
        if not callable(self.inputs):
            n = self.inputs.shape[1]
            if u.shape not in ((0,), (n,)):
                raise ModelError(
                    f"stroboscopic: the constant input has shape {u.shape}; expected ({n},), which "
                    "is added to the input of each step, or (0,)."
                )
            inputs = jnp.asarray(self.inputs, u.dtype)
            return inputs + u if u.shape == (n,) else inputs
        inputs = jnp.asarray(self.inputs(u[0]))
        if inputs.ndim != 2 or inputs.shape[0] == 0:
            raise ModelError(
                f"stroboscopic: `inputs_of_one_period` returns an array of shape {inputs.shape}; "
                "expected the inputs [n_steps, n_inputs] of one period."
            )
        return inputs


def stroboscopic(F: Any, inputs_of_one_period: Any) -> Transition:
    """Return one period of a network under a periodic input as a transition of one step.

    It maps the state at the beginning of a period to that at the beginning of the next one. Its
    fixed points are the oscillations that follow the input, its cycles of `k` steps those that take
    `k` periods, and its closed orbits those that never fall into step. Eigenvalues of its Jacobians
    are the Floquet multipliers over one period, and time constants are in periods.

    For the states of the same oscillations at a later phase, begin the period there:
    `stroboscopic(F, jnp.roll(inputs_of_one_period, -steps, axis=0))`.

    Args:
        F: the transition of one step, or anything that
            [`as_transition`][slowpoints.as_transition] takes.
        inputs_of_one_period: `[n_steps, n_inputs]` the input at each step of a period. Or a
            function of a number `s` that returns them and that JAX can differentiate, such as
            `lambda s: s * inputs` for an amplitude. If it has parameters of its own, make it an
            `equinox.Module`, so that other values of them do not recompile.

    Returns:
        The transition of one period. Its own input, `[n_inputs]`, is constant and added to that of
        each step; `[0]` is none. For a function of a number, it is this number, `[s]`, in which
        [`continuation`][slowpoints.continuation] can follow the oscillations.

    Raises:
        TypeError: if `F` is not of a known kind, or in continuous time, which has no steps, or
            `inputs_of_one_period` is neither an array nor a function.
        ValueError: if it is an array of another shape, or not finite.
    """
    F = as_transition(F)
    caller, name = "stroboscopic", "inputs_of_one_period"
    if isinstance(F, ContinuousTime):
        expected = "a map, such as `flow(F, interval)` for the time that an input lasts"
        arguments.refuse(caller, "F", "is in continuous time", expected, TypeError)
    if callable(inputs_of_one_period):
        return Stroboscopic(F, inputs_of_one_period)
    expected = "inputs [n_steps, n_inputs] or a function of a number that returns them"
    if inputs_of_one_period is None or isinstance(inputs_of_one_period, (str, bytes, dict)):
        was = arguments.found(inputs_of_one_period)
        arguments.refuse(caller, name, was, expected, TypeError)
    axes = ("n_steps", "n_inputs")
    inputs = arguments.array(caller, name, inputs_of_one_period, axes, finite=True)
    if inputs.shape[0] == 0:
        was = f"has shape {tuple(inputs.shape)}"
        arguments.refuse(caller, name, was, "at least one step", ValueError)
    return Stroboscopic(F, inputs)
