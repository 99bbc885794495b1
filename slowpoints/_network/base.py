"""`Transition`: a network as one pure function from a state and an input to the next state."""

import abc
import sys
from typing import Any, Literal, cast

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float

Signature = Literal["state_input", "input_state", "scan", "batched", "batched_sequence"]
"""How a model is called: see [`as_transition`][slowpoints.as_transition]."""


class ModelError(ValueError):
    """The model does not map a state and an input to the next state; the message says why."""


class Transition(eqx.Module):
    """A network's step `x_{t+1} = F(x_t, u)`, for one state.

    A pytree whose leaves are the network's parameters: it passes through `jit`, `vmap` and `grad`,
    and a second network of the same structure does not recompile.

    Attributes:
        n_states: the length of a state, or `None` if it is not known before the network is called.
        n_inputs: the length of an input, or `None` likewise.
    """

    # These carry no annotation, so they are not fields, and a subclass may define fields of these
    # names anywhere.
    n_states = cast("int | None", None)
    n_inputs = cast("int | None", None)

    @abc.abstractmethod
    def __call__(
        self, x: Float[Array, " n_states"], u: Float[Array, " n_inputs"]
    ) -> Float[Array, " n_states"]:
        """Return the state that follows `x` under the input `u`."""

    def __str__(self) -> str:
        """Return what this is in a few words; `repr` shows its leaves too.

        JAX calls this whenever it traces the network, and a list of leaves takes it longer than all
        the rest of tracing.
        """
        lengths = {"states": self.n_states, "inputs": self.n_inputs}
        known = ", ".join(f"{n} {name}" for name, n in lengths.items() if n is not None)
        return type(self).__name__ + (f"({known})" if known else "")

    def flatten(self, state: Any) -> Any:
        """Turn states from the model's own form into vectors.

        Args:
            state: states as the model has them, such as a pair `(h, c)` of arrays `[..., n_units]`.

        Returns:
            `[..., n_states]`. By default a state is a vector, and `state` is returned as it is.
        """
        return state

    def unflatten(self, x: Any) -> Any:
        """Turn vectors into states in the model's own form: the inverse of `flatten`.

        Args:
            x: `[..., n_states]`, such as `fps.xstar`.

        Returns:
            States as the model has them, with the same leading axes.
        """
        return x


def is_instance(value: Any, module: str, name: str) -> bool:
    """Return whether `value` is an instance of a framework's class; do not import the framework.

    If the framework has not been imported, no such value can exist.
    """
    loaded = sys.modules.get(module)
    return isinstance(value, getattr(loaded, name, ()))


ARRAYS = (np.ndarray, np.generic, jax.Array)
"""The types of array that a leaf can be."""
