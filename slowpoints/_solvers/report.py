"""What a search tells the host while it runs."""

import inspect
from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
from jaxtyping import Array, Float, Int


class Report(eqx.Module):
    """Tells the host how far a loop is, by calling `callback(iteration, q, dq, lr)` now and then.

    `iteration` counts the steps that the loop has taken with all rows in work. A solver with
    several phases has a loop, and so a count, for each. If the callback has an argument `phase`, it
    is given the name of the solver at work, by keyword. `q` and `dq` are those of the rows in work,
    and NaN for lanes that have no row left. `lr` is the learning rate, or `None`.

    Attributes:
        callback: what is called.
        every: how many iterations lie between two calls.
    """

    callback: Callable[..., None] = eqx.field(static=True)
    every: int = eqx.field(static=True, default=100)

    def __call__(
        self,
        iteration: Int[Array, ""],
        q: Float[Array, " lanes"],
        dq: Float[Array, " lanes"],
        lr: Float[Array, ""] | None = None,
        *,
        phase: str = "",
    ) -> None:
        """Call back if it is time."""
        callback = partial(self.callback, phase=phase) if self._takes_phase() else self.callback

        def call() -> None:
            jax.debug.callback(callback, iteration, q, dq, lr)

        jax.lax.cond(iteration % self.every == 0, call, lambda: None)

    def _takes_phase(self) -> bool:
        try:
            parameters = inspect.signature(self.callback).parameters.values()
        except (TypeError, ValueError):  # for some functions that are not written in Python
            return False
        return any(p.name == "phase" or p.kind is p.VAR_KEYWORD for p in parameters)
