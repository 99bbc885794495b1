"""`Snapshot`: a copy of a PyTorch module, which `torch.export` turns into programs.

What runs is the copy, so nothing of the module itself changes, and PyTorch's, NumPy's and Python's
random numbers go on afterwards as if nothing had happened.
"""

import concurrent.futures
import contextlib
import functools
import random
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import torch
from torch import nn

from slowpoints._core.contents import put_back
from slowpoints._core.without_torch import without_torch
from slowpoints._network.base import ModelError, Signature
from slowpoints._network.torch_graphs.along_sequences import arrays_of, differs_from_its_steps, gap
from slowpoints._network.torch_graphs.called_otherwise import (
    Method,
    StatesOfLayers,
    layers_without_state,
    takes_one,
)
from slowpoints._network.torch_graphs.copy_of import copy_of, tensors_of
from slowpoints._network.torch_graphs.export import export
from slowpoints._network.torch_graphs.program import TorchProgram
from slowpoints._network.torch_graphs.read_graph import read_graph
from slowpoints._network.torch_graphs.step import Step, forms

# Exporting patches parts of PyTorch, and is for one thread at a time.
_lock = threading.RLock()

# How far a program may be from its module, relative to the largest number: rounding in a step of
# many operations, but no other formula. Casts to half precision are left out of a program.
_AGREE = {torch.float32: 1e-4, torch.float64: 1e-10}
_AGREE_HALF = 0.03

_STEPS = 12
"""A module that takes a sequence is run on so many steps, to see that one is enough. The inputs go
in as many directions, for most of which a ReLU unit may be off."""

_WORDS_ON_TOLD = (
    'If it is a step all the same, say so: `as_transition(model, signature="batched_sequence")`.'
)

_ALL: tuple[Signature, ...] = (
    "state_input",
    "input_state",
    "scan",
    "batched",
    "batched_sequence",
)


@functools.partial(jax.jit, static_argnums=0)
def _computed(program: TorchProgram, weights: dict[str, Any], *point: jax.Array) -> list[jax.Array]:
    # Compiled once for all equal programs.
    return program(weights, *point)


class Snapshot:
    """A module as it was when it was copied, and how it is called.

    Dropout and whatever else belongs to training is off in the copy, numbers in half precision are
    in float32, and it is on the CPU.

    Attributes:
        name: what error messages call the module.
        signature: how it is called.
        is_default: whether that is the default, since nothing was said.
        weights: its real tensors, by name, as NumPy arrays.
    """

    def __init__(self, module: nn.Module, signature: Signature | None):
        whole = module.module if isinstance(module, (StatesOfLayers, Method)) else module
        self.name = type(whole).__name__
        if isinstance(module, Method):
            self.name += f".{module.method}"
        self.is_default = signature is None
        self.signature: Signature = signature or "batched_sequence"
        if isinstance(module, torch.jit.ScriptModule):
            self.name = getattr(module, "original_name", self.name)
        module = getattr(module, "_orig_mod", module)  # of `torch.compile`
        sparse = [n for n, t in tensors_of(module).items() if t.layout != torch.strided]
        if sparse:
            raise TypeError(
                f"as_transition: {self.name} holds `{sparse[0]}`, a sparse tensor; expected dense "
                "ones. Put a dense copy in its place, `tensor.to_dense()`."
            )
        self._module = copy_of(module)
        for part in self._module.modules():  # `eval` calls `train`, which may be the user's own
            part.training = False
        if any(nn.parameter.is_lazy(t) or t.is_meta for t in tensors_of(self._module).values()):
            raise TypeError(
                f"as_transition: {self.name} has weights without values; expected a module that "
                "has been called once, which gives lazy layers theirs, and is not on `meta`."
            )
        self._module = self._module.cpu()
        tensors = tensors_of(self._module)
        real = [t.dtype for t in tensors.values() if t.is_floating_point()]
        if {torch.float16, torch.bfloat16} & set(real):
            self._module = self._module.float()
            tensors = tensors_of(self._module)
            real = [torch.float32]
        self._dtype = real[0] if real else torch.get_default_dtype()
        # A tensor with several names, such as tied weights, has the first.
        first = {id(t): name for name, t in reversed(tensors.items())}
        self._names = {name: first[id(t)] for name, t in tensors.items()}
        self.weights: dict[str, Any] = {
            name: without_torch(tensor).copy()
            for name, tensor in tensors.items()
            if first[id(tensor)] == name and (tensor.is_floating_point() or tensor.is_complex())
        }

    def program(
        self, treedef: Any, shapes: tuple[tuple[int, ...], ...], n_inputs: int
    ) -> TorchProgram:
        """Return the module's step, for states of a structure with arrays of these shapes.

        Raises:
            ModelError: if the module cannot be called with these, has no program, or computes
                something else on each call.
        """
        with _lock, _undisturbed(), put_back(self._module, all_of_it=True):
            points = [self._point(shapes, n_inputs, scale) for scale in (0.5, 2.0)]
            works, told = self._try(self.signature, treedef, points)
            default = works if self.is_default else []
            if default and (layers := self._without_state(default[0], points)):
                self._module = self._with_states_of(layers, default[0], points)
                works, told = self._try(self.signature, treedef, points)
            if not works:
                raise ModelError(self._words_on_calls(told, treedef, points))
            step, *others = works
            first, second, again = (_values(step, p) for p in (*points, points[0]))
            if any(map(np.iscomplexobj, first)):
                raise ModelError(
                    f"{self.name} returns a state of complex numbers; expected real ones. Write "
                    "its step for real and imaginary parts side by side: `torch.view_as_complex` "
                    "at its beginning, and `torch.view_as_real` at its end."
                )
            program, random_operations = self._export(step, points[0])
            if not all(map(np.array_equal, first, again, [True] * len(first))):
                raise ModelError(self._words_on_change(random_operations))
            self._check_others(step, others, points, [first, second])
            self._check_program(program, points, [first, second])
            self._check_sequence(step, program, points[1])
            return program

    def _check_sequence(self, step: Step, program: TorchProgram, point: Any) -> None:
        """Check that a module that takes a sequence is in one step what it is in several.

        Raises:
            ModelError: if it is not.
        """
        *state, u = point
        inputs = self._point(((_STEPS, len(u)),), 0, 2.0)[0]
        if not isinstance(self._module, StatesOfLayers):
            if self.is_default and not program.depends_on_state:
                raise ModelError(
                    f"The next state of {self.name} does not depend on its second argument, which "
                    "is no state of it, then, but a mask, say, or the lengths of sequences. Write "
                    "its step as a module that takes an input and a state: see "
                    f"docs/models.md#modules-that-take-a-sequence. {_WORDS_ON_TOLD}"
                )
            tolerance = _AGREE[self._dtype]
            if self.is_default and differs_from_its_steps(step, state, inputs, tolerance):
                raise ModelError(
                    f"{self.name}, called with {_STEPS} steps at once, comes to another state than "
                    "step by step. It keeps something else from one step for the next than the "
                    "state that it returns, such as an output that is fed back, or looks at "
                    "several steps at a time, as a convolution over time does. Make what is kept a "
                    "part of the state, or write its step as a module of its own: see "
                    f"docs/models.md#modules-that-take-a-sequence. {_WORDS_ON_TOLD}"
                )
        elif not self._module.is_a_step_of_sequences(inputs, _AGREE[self._dtype]):
            raise ModelError(
                f"{self.name}, run on {_STEPS} steps at once, brings its layers "
                f"{', '.join(f'`{name}`' for name in self._module.layers)} to other states than "
                "step by step. It keeps something else from one step for the next, or looks at "
                "several steps at a time, as a convolution over time does. Pass the layer, or "
                "write its step as a module that takes an input and a state: see "
                "docs/models.md#modules-that-take-a-sequence."
            )

    def _point(self, shapes: Any, n_inputs: int, scale: float) -> list[torch.Tensor]:
        """Return a state and an input, to call the module with."""
        rng = np.random.default_rng(0)
        arrays = [scale * rng.uniform(-1, 1, shape) for shape in (*shapes, (n_inputs,))]
        return [torch.tensor(a, dtype=self._dtype) for a in arrays]

    def _try(self, signature: Signature, treedef: Any, points: Any) -> tuple[list[Step], list]:
        """Return the forms of call that work, and what was said where one did not."""
        works, told = [], []
        shapes = [tuple(t.shape) for t in points[0]]
        for derivatives in (False, True):  # which a step may take, as the gradient of an energy
            for form in forms(signature, shapes[:-1], shapes[-1][0]):
                told_it = not self.is_default
                step = Step(self._module, form, treedef, shapes[:-1], told_it, derivatives)
                try:
                    step(*points[0])
                except Exception as error:  # the user's code may raise errors of any type
                    told.append(f"{form}: {_line(error)}")
                else:
                    works.append(step)
            if works:
                break
        return works, list(dict.fromkeys(told))

    def _without_state(self, step: Step, points: Any) -> list[str]:
        """Return the recurrent layers in a step, if none of them starts from the state."""
        if isinstance(self._module, StatesOfLayers):
            return []
        calls = [functools.partial(_values, step, point) for point in points]
        return layers_without_state(self._module, calls)

    def _with_states_of(self, layers: list[str], step: Step, points: Any) -> StatesOfLayers:
        """Return the module as one that is called with an input alone.

        Raises:
            ModelError: if it cannot be, or has several layers, or a state beside theirs.
        """
        module = self._module
        (*_, u), (*state, _) = points
        same = all(map(np.array_equal, _values(step, points[0]), _values(step, [*state, u])))
        one_way = not getattr(module.get_submodule(layers[0]), "bidirectional", False)
        if (
            same
            and len(layers) == 1
            and one_way
            and not isinstance(module, Method)
            and takes_one(module)
        ):
            self._names |= {f"module.{name}": first for name, first in self._names.items()}
            return StatesOfLayers(module, layers)
        raise ModelError(f"{_words_on_zero(self.name, layers)} {_WORDS_ON_TOLD}")

    def _words_on_calls(self, told: list[str], treedef: Any, points: Any) -> str:
        default = ", the default for modules of one's own" if self.is_default else ""
        others: list[Signature] = []
        layers: list[str] = []
        for signature in _ALL:
            works = self._try(signature, treedef, points)[0] if signature != self.signature else []
            if not works:
                continue
            if own := self._without_state(works[0], points):
                layers = layers or own
            else:
                others.append(signature)
        if isinstance(self._module, StatesOfLayers):
            advice = (
                "Pass one of its layers, or write its step as a module that takes an input and a "
                "state: see docs/models.md#modules-that-take-a-sequence."
            )
        elif others:
            ways = " or ".join(f'`as_transition(model, signature="{s}")`' for s in others)
            advice = f"It can be called in another way: pass {ways}."
        elif layers:
            advice = _words_on_zero(self.name, layers)
        else:
            advice = (
                "Pass the `signature` that says how it is called to `as_transition`, an "
                "`example_state` if its state is not one vector, and inputs of the right number."
            )
        tried = "\n".join(f"    {words}" for words in told)
        return (
            f'{self.name} could not be called with signature="{self.signature}"{default}. Tried:'
            f"\n{tried}\n{advice}"
        )

    def _words_on_change(self, random_operations: list[str]) -> str:
        draws = "".join(f", since it draws {name}" for name in random_operations[:1])
        return (
            f"{self.name} is random, or keeps something from one call for the next: two calls for "
            f"the same state and the same input differ{draws}. It was called in its `eval()` mode: "
            "draw noise only `if self.training`, or pass a module with the noise-free step; make "
            "what is kept a part of the state."
        )

    def _export(self, step: Step, point: Any) -> tuple[TorchProgram, list[str]]:
        """Return the program of a step, and the random operations in it, which give zeros there."""
        try:
            exported, names = export(step, point, self._names)
        except Exception as error:  # there are many reasons, and types, for no export
            raise ModelError(
                f"{self.name} cannot be exported by PyTorch: {_line(error)} Its step must consist "
                "of PyTorch's operations on tensors: none of NumPy's, and no decisions (`if`, "
                "`while`, `.item()`) by the values of tensors, for which there is `torch.where`."
            ) from error
        changed = exported.graph_signature.buffers_to_mutate.values()
        known = [names.get(name.removeprefix("module.")) for name in changed]
        if None in known:
            raise ModelError(
                f"{self.name} changes tensors that are none of its own in a step, such as the "
                "gradients to which `backward()` adds; expected a step that changes nothing. Take "
                "the derivatives with `torch.autograd.grad`, which returns them."
            )
        if known:
            raise ModelError(
                f"{self.name} changes its buffer {', '.join(map(str, known))} in a step, and so "
                "keeps something from one call for the next; expected the same next state on each "
                "call. Make what is kept a part of the state, or leave it as it is in `eval()` "
                "mode."
            )
        return read_graph(exported, self.name, names, self.weights)

    def _check_others(self, step: Step, others: Any, points: Any, expected: Any) -> None:
        """Check that all forms of call that work mean the same, or else which is meant?

        Raises:
            ModelError: if they do not.
        """
        for other in others:
            for point, values in zip(points, expected, strict=True):
                if gap(_values(other, point), values, point) > _AGREE[self._dtype]:
                    raise ModelError(
                        f"{self.name} can be called with {step.form}, and also with {other.form}, "
                        "and then gives another next state; expected a step that takes only one of "
                        "the two. Let it refuse the other, or name axes from the end, as in "
                        "`dim=-1`, so that both mean the same."
                    )

    def _evaluate(self, program: TorchProgram, point: list[torch.Tensor]) -> list[np.ndarray]:
        with jax.enable_x64(self._dtype == torch.float64):
            found = _computed(program, self.weights, *map(without_torch, point))
            return list(map(np.asarray, found))

    def _check_program(self, program: TorchProgram, points: Any, expected: Any) -> None:
        """Compare a program with what the module returned, in the module's precision.

        Raises:
            ModelError: if they differ.
        """
        casts_to_half = any(name in repr(program.lines) for name in ("'float16'", "'bfloat16'"))
        tolerance = _AGREE_HALF if casts_to_half else _AGREE[self._dtype]
        for point, values in zip(points, expected, strict=True):
            # In a thread of its own, for in this one JAX may be tracing.
            with concurrent.futures.ThreadPoolExecutor(1) as thread:
                found = thread.submit(self._evaluate, program, point).result()
            differ = gap(found, values, point)
            if differ > tolerance:
                raise ModelError(
                    f"{self.name} and the program that PyTorch exports of it differ by "
                    f"{differ:.1e} relative to the largest number of the next state; expected a "
                    "step that depends only on its state, its input and its tensors. What NumPy or "
                    "Python draws, or what changes from one call to the next, is a constant in the "
                    "program: pass the noise-free step."
                )


def _words_on_zero(name: str, layers: list[str]) -> str:
    which = f"layer `{layers[0]}` starts" if len(layers) == 1 else "recurrent layers start"
    return (
        f"The {which} from zero in each call of {name}, which does not pass its second argument on "
        "as a state. Pass the layer itself, or write the step as a module that gives it its state: "
        "see docs/models.md#modules-that-take-a-sequence."
    )


def _values(step: Step, point: list[torch.Tensor]) -> list[np.ndarray]:
    return arrays_of(step(*point))


def _line(error: Exception) -> str:
    first = next(iter(str(error).strip().splitlines()), "").rstrip(".")
    return f"{type(error).__name__}: {first}."


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Leave the state of all global random numbers, and say nothing about PyTorch's inner life."""
    own, numpys = random.getstate(), np.random.get_state()  # noqa: NPY002 - a module may use it
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    try:
        with (
            torch.random.fork_rng(devices),
            torch.no_grad(),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        random.setstate(own)
        np.random.set_state(numpys)  # noqa: NPY002
