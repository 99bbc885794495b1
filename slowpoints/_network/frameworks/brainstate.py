"""BrainState modules as transitions: their `HiddenState`s, and nothing else, are the state."""

from typing import Any

import brainstate
import equinox as eqx
from jaxtyping import Array, Float

from slowpoints._network.frameworks.calling import (
    CallableTransition,
    HeldModel,
    needs_an_input,
    positional_parameters,
)
from slowpoints._network.frameworks.held_objects import HeldObjects
from slowpoints._network.frameworks.layout import StateLayout


def from_module(module: brainstate.nn.Module) -> CallableTransition:
    """Copy the parameters of a module that takes an input at most, its state in `HiddenState`s.

    The state is a dictionary from each `HiddenState`'s place in the module to its value, with the
    shapes that `init_all_states` gives it without a batch. The module may be initialised with a
    batch, or not at all.

    Raises:
        TypeError: if there is no `HiddenState`.
    """
    name = type(module).__name__
    as_it_is = HeldObjects(module, is_state=_holds_state)
    with as_it_is.holding(as_it_is.read()):
        example = {path: box._value for path, box in _initialised(module).items()}
        structure = HeldObjects(module, is_state=_holds_state)
        parameters = structure.read()
    if not example:
        raise TypeError(f"as_transition: {name} has no brainstate.HiddenState.")
    taken = positional_parameters(module, brainstate.nn.Module)
    held = HeldModule(parameters, structure, needs_an_input(taken))
    size: Any = module.in_size if isinstance(module, brainstate.nn.RNNCell) else None
    n_inputs = size[-1] if size else None if taken else 0
    layout = StateLayout.like(example)
    return CallableTransition(held, "input_state", layout, name, n_inputs)


class HeldModule(HeldModel):
    """A module's parameters, and how to call it with them."""

    parameters: tuple[Any, ...]
    structure: HeldObjects = eqx.field(static=True)
    needs_input: bool = eqx.field(static=True)

    def __call__(self, u: Float[Array, " n_inputs"], state: dict[str, Any]) -> dict[str, Any]:
        """Return the state that follows."""
        inputs = () if u.size == 0 and not self.needs_input else (u,)
        return self.structure.step(
            self.parameters, state, *inputs, n_calls=self.n_calls, find_states=_initialised
        )


def _holds_state(box: Any) -> bool:
    return isinstance(box, brainstate.HiddenState)


def _initialised(module: Any) -> dict[str, Any]:
    """Give the module new states without a batch axis, and return them by their place in it."""
    random = brainstate.random.DEFAULT
    key = random._value
    brainstate.nn.init_all_states(module)
    object.__setattr__(random, "_value", key)
    states = module.states(brainstate.HiddenState)
    return {".".join(map(str, path)): box for path, box in states.items()}
