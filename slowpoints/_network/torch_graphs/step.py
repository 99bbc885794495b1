"""`Step`: one call of a module, in a form that its signature allows, and what it has to return."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import jax
import torch
from torch import nn

from slowpoints._network.base import Signature
from slowpoints._network.structure import leaves_in_order_of


@dataclasses.dataclass(frozen=True)
class Form:
    """One way to call a module: the shapes of the input and of the arrays of the state."""

    signature: Signature
    input: tuple[int, ...]
    state: tuple[tuple[int, ...], ...]
    in_one: bool = False  # as a single vector, whatever arrays the state consists of

    def __str__(self) -> str:
        state = ", ".join(map(_in_words, self.state))
        state = f"a state {state}" if len(self.state) == 1 else f"a state of arrays {state}"
        both = [state, f"an input {_in_words(self.input)}"]
        return " and ".join(both if self.signature in ("state_input", "scan") else both[::-1])


def _in_words(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def forms(signature: Signature, shapes: Any, n_inputs: int) -> Iterator[Form]:
    """Yield the ways to call a module by a signature; the first that works is taken."""
    batched = tuple((1, *shape) for shape in shapes)
    if signature != "batched_sequence":
        yield Form(signature, (1, n_inputs), batched)
        if signature != "batched":
            yield Form(signature, (n_inputs,), tuple(shapes))
        return
    # The axis of layers comes before that of the batch; a vector may be the state of one layer.
    layered = tuple((s[0], 1, *s[1:]) if len(s) > 1 else (1, 1, *s) for s in shapes)
    both = [batched, layered] if all(len(s) == 1 for s in shapes) else [layered, batched]
    for state in both:
        yield Form(signature, (1, 1, n_inputs), state)
    if len(shapes) > 1 or (len(shapes[0]) > 1 and shapes[0][0] > 1):
        n_states = sum(math.prod(shape) for shape in shapes)
        yield Form(signature, (1, 1, n_inputs), ((1, n_states),), in_one=True)


class Step(nn.Module):
    """A module's step from the arrays of a state and an input to the arrays of the next state."""

    def __init__(
        self,
        module: Any,
        form: Form,
        treedef: Any,
        shapes: Any,
        told: bool,
        derivatives: bool,
    ):
        super().__init__()
        self.module, self.form, self.treedef, self.shapes = module, form, treedef, shapes
        # Unless it was told, it is not known which of two arguments a lone result continues.
        self.told, self.derivatives = told, derivatives

    def with_module(self, module: Any) -> "Step":
        """Return the same step of another module."""
        return self._like(module, self.form)

    def _like(self, module: Any, form: Form) -> "Step":
        return Step(module, form, self.treedef, self.shapes, self.told, self.derivatives)

    def of_times(self, n_times: int, axis: int) -> "Step":
        """Return the same for the inputs of several steps, with time on axis 0 or 1."""
        shape = list(self.form.input)
        shape[axis] = n_times
        return self._like(self.module, dataclasses.replace(self.form, input=tuple(shape)))

    def arguments(self, *arrays: torch.Tensor) -> tuple[Any, Any]:
        """Return what the module is called with."""
        *leaves, u = (t.clone() for t in arrays)  # a step may write to what it is given
        if self.form.in_one:
            state: Any = torch.cat([t.reshape(-1) for t in leaves]).reshape(self.form.state[0])
        else:
            leaves = [t.reshape(s) for t, s in zip(leaves, self.form.state, strict=True)]
            state = jax.tree.unflatten(self.treedef, leaves)
        u = u.reshape(self.form.input)
        return (state, u) if self.form.signature in ("state_input", "scan") else (u, state)

    def forward(self, *arrays: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Call the module, and check what it returns.

        Raises:
            TypeError: if that is not what the signature says.
        """
        with torch.set_grad_enabled(self.derivatives):
            out = self.module(*self.arguments(*arrays))
        sequence = self.form.signature == "batched_sequence"
        if self.form.signature not in ("state_input", "input_state"):
            only_states = isinstance(out, torch.Tensor) and out.ndim > 2 and sequence and self.told
            if not only_states:
                if not (isinstance(out, (tuple, list)) and len(out) == 2):
                    raise TypeError(f"it returned {_kind(out)}; expected a pair")
                out = out[0 if self.form.signature == "scan" else 1]
        structure = jax.tree.structure(0) if self.form.in_one else self.treedef
        leaves = leaves_in_order_of(structure, out)
        if leaves is None or not all(isinstance(t, torch.Tensor) for t in leaves):
            raise TypeError(f"its next state is {_kind(out)}; expected the structure of the state")
        if sequence:
            n_times = max(self.form.input[:2])
            pairs = zip(leaves, self.form.state, strict=True)
            leaves = [_last_of(leaf, given, n_times) for leaf, given in pairs]
        for leaf, given in zip(leaves, self.form.state, strict=True):
            if tuple(leaf.shape) != given:
                raise TypeError(
                    f"its next state has the shape {_in_words(tuple(leaf.shape))}; expected "
                    f"{_in_words(given)}"
                )
        if self.form.in_one:
            leaves = torch.split(leaves[0].reshape(-1), [math.prod(s) for s in self.shapes])
        return tuple(t.reshape(s) for t, s in zip(leaves, self.shapes, strict=True))


def _last_of(states: torch.Tensor, shape: tuple[int, ...], n_times: int) -> torch.Tensor:
    """Return the last state if these are the states of all times, by time or by trials first."""
    if states.shape == (n_times, *shape):
        return states[-1]
    if len(shape) == 2 and states.shape == (1, n_times, *shape[1:]):
        return states[:, -1]
    return states


def _kind(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor {_in_words(tuple(value.shape))}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"
