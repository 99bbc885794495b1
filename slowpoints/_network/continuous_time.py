"""`ContinuousTime`: a network in continuous time, whose equilibria are found as fixed points."""

from typing import Any

from jaxtyping import Array, Float

from slowpoints._network.as_transition import as_transition
from slowpoints._network.base import ModelError, Transition


class ContinuousTime(Transition):
    """A network in continuous time, `dx/dt = f(x, u)`, for all functions that take a transition.

    It returns `x + f(x, u)`, so its fixed points are the equilibria `f(x, u) = 0`, and the
    speed is `q(x, u) = 0.5 * ||f(x, u)||^2` (Sussillo & Barak 2013). This is not a
    step of a simulation and says nothing about stability, so `f` itself is linearised:
    [`jacobians`][slowpoints.jacobians] gives `df/dx` and `df/du`, and
    [`decompose`][slowpoints.decompose] sorts by real parts and calls a point stable if all are
    negative. `FixedPoints.continuous_time` is set, and time constants and frequencies are in the
    unit of time of `f`.

    Thresholds for `q`, such as `final_q_threshold`, are in the states' unit per unit of time,
    squared: choose a unit of time in which the network's own time constants are about 1.

    Args:
        f: `f(x: [n_states], u: [n_inputs]) -> dx/dt: [n_states]`: a function, a callable
            `equinox.Module`, whose leaves are the parameters, or anything else that
            [`as_transition`][slowpoints.as_transition] takes, if it returns `dx/dt` instead of the
            next state.

    Raises:
        TypeError: if `f` is none of these.
    """

    f: Transition

    def __init__(self, f: Any):
        if isinstance(f, ContinuousTime):
            raise TypeError("ContinuousTime: `f` is a ContinuousTime already.")
        self.f = as_transition(f)

    @property
    def n_states(self) -> int | None:
        """The length of a state, or `None` if it is not known."""
        return self.f.n_states

    @property
    def n_inputs(self) -> int | None:
        """The length of an input, or `None` if it is not known."""
        return self.f.n_inputs

    def flatten(self, state: Any) -> Any:
        """Return states, given in the model's own form, as vectors `[..., n_states]`."""
        return self.f.flatten(state)

    def unflatten(self, x: Any) -> Any:
        """Return `x`, `[..., n_states]`, as states in the model's own form."""
        return self.f.unflatten(x)

    def __call__(
        self, x: Float[Array, " n_states"], u: Float[Array, " n_inputs"]
    ) -> Float[Array, " n_states"]:
        """Return `x + f(x, u)`.

        Raises:
            ModelError: if `f` does not return an array of the shape of `x`.
        """
        rate = self.f(x, u)
        shape = getattr(rate, "shape", None)
        if shape != x.shape:  # else () or (1,) would be broadcast
            found = f"shape {shape}" if shape is not None else f"a {type(rate).__name__}"
            raise ModelError(
                f"ContinuousTime: `f` maps a state of shape {x.shape} and an input of shape "
                f"{u.shape} to {found}; expected dx/dt, of shape {x.shape}."
            )
        return x + rate


def linearised_part(F: Transition) -> Transition:
    """Return the function whose Jacobians are computed: the map itself, or the `f` of a flow."""
    return F.f if isinstance(F, ContinuousTime) else F
