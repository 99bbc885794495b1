"""`iterate` and `Loop`: several steps of a network as one map, in two forms."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from slowpoints._core import arguments
from slowpoints._core.mesh_axes import alike
from slowpoints._network.as_transition import as_transition
from slowpoints._network.base import Transition
from slowpoints._network.continuous_time import ContinuousTime


class Iterated(Transition):
    """`n_steps` steps of a transition under one constant input.

    Attributes:
        F: the transition of one step.
        n_steps: how many steps.
    """

    F: Transition
    n_steps: int = eqx.field(static=True)

    @property
    def n_states(self) -> int | None:
        """The length of a state, or `None` if it is not known."""
        return self.F.n_states

    @property
    def n_inputs(self) -> int | None:
        """The length of an input, or `None` if it is not known."""
        return self.F.n_inputs

    def flatten(self, state: Any) -> Any:
        """Return states, given in the model's own form, as vectors `[..., n_states]`."""
        return self.F.flatten(state)

    def unflatten(self, x: Any) -> Any:
        """Return `x`, `[..., n_states]`, as states in the model's own form."""
        return self.F.unflatten(x)

    def __call__(
        self, x: Float[Array, " n_states"], u: Float[Array, " n_inputs"]
    ) -> Float[Array, " n_states"]:
        """Return the state `n_steps` steps after `x` under the constant input `u`."""
        (x, u), n_steps = alike([x, u]), self.n_steps
        if not returns_alike(self.F, x, u):
            x, n_steps = self.F(x, u), n_steps - 1
        return jax.lax.scan(lambda x, _: (self.F(x, u), None), x, None, length=n_steps)[0]


def returns_alike(F: Callable[[Array, Array], Any], x: Array, u: Array) -> bool:
    """Return whether the next state is of the type of a state: not in another precision."""
    out = jax.eval_shape(F, x, u)
    return getattr(out, "shape", None) == x.shape and out.dtype == x.dtype


def iterate(F: Any, k: int) -> Transition:
    """Return `F` applied `k` times, whose fixed points are the `k`-cycles of `F`.

    A point of a cycle of period `k`, or of a period that divides `k`, is a fixed point of the
    result, and the eigenvalues of its Jacobian are the multipliers of the cycle over `k` steps. So
    its time constants are in units of `k` steps. [`cycles`][slowpoints.cycles] tells the periods
    apart.

    Args:
        F: the transition, or anything that [`as_transition`][slowpoints.as_transition] takes.
        k: how many steps, at least 1.

    Returns:
        The transition of `k` steps under a constant input. Its leaves are those of `F`.

    Raises:
        ValueError: if `k` is below 1.
        TypeError: if `k` is not a whole number, or `F` is in continuous time, where a cycle has no
            number of steps.
    """
    F = as_transition(F)
    if isinstance(F, ContinuousTime):
        raise TypeError(
            "iterate: `F` is in continuous time, which has no steps to count; expected a map, such "
            "as `flow(F, duration)`."
        )
    return Iterated(F, check_n_steps("iterate", k))


class Loop(Transition):
    """A map of `k` states in one vector: each is replaced by the image of the one before it.

    Its fixed points are the cycles of `k` steps. Newton's method on it is multiple shooting: no
    error is carried through `k` steps, as it is in `iterate`, and the `k` states that it starts
    from may be anywhere.
    """

    F: Transition
    k: int = eqx.field(static=True)

    def __call__(self, x: Float[Array, " d"], u: Float[Array, " n_inputs"]) -> Float[Array, " d"]:
        """Return the images of the `k` states, with that of the last state first."""
        images = jax.vmap(self.F, in_axes=(0, None))(x.reshape(self.k, -1), u)
        return jnp.roll(images, 1, axis=0).reshape(-1)


def check_n_steps(caller: str, k: Any) -> int:
    """Return `k` as an `int`.

    Raises:
        ValueError: if it is below 1.
        TypeError: if it is not a whole number.
    """
    return arguments.whole(caller, "k", k, least=1)
