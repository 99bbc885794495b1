"""`Snapshot`: a copy of a PyTorch module, which `torch.export` turns into programs.

What runs is the copy, so nothing of the module itself changes, and PyTorch's, NumPy's and Python's
random numbers go on afterwards as if nothing had happened.
"""

import concurrent.futures
import contextlib
import copy
import dataclasses
import functools
import operator
import random
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import torch
from torch import nn

from slowpoints._core.arguments import without_torch
from slowpoints._network.base import ModelError, Signature
from slowpoints._network.torch_graphs.aten import counterpart
from slowpoints._network.torch_graphs.program import Dtype, Program, Ref

# Exporting patches parts of PyTorch, and is for one thread at a time.
_lock = threading.RLock()

# How far a program may be from its module, relative to the largest number: rounding in a step of
# many operations, but no other formula. Casts to half precision are left out of a program.
_AGREE = {torch.float32: 1e-4, torch.float64: 1e-10}
_AGREE_HALF = 0.03

_ALL: tuple[Signature, ...] = (
    "state_input",
    "input_state",
    "scan",
    "batched",
    "batched_sequence",
)


@functools.partial(jax.jit, static_argnums=0)
def _computed(program: Program, weights: dict[str, Any], *point: jax.Array) -> list[jax.Array]:
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
        self.name = type(module).__name__
        self.is_default = signature is None
        self.signature: Signature = signature or "batched_sequence"
        if isinstance(module, torch.jit.ScriptModule):
            self.name = getattr(module, "original_name", self.name)
        module = getattr(module, "_orig_mod", module)  # of `torch.compile`
        self._module = _copy_of(module).eval()
        if any(nn.parameter.is_lazy(t) or t.is_meta for t in _tensors_of(self._module).values()):
            raise TypeError(
                f"as_transition: {self.name} has weights without values; expected a module that "
                "has been called once, which gives lazy layers theirs, and is not on `meta`."
            )
        self._module = self._module.cpu()
        tensors = _tensors_of(self._module)
        real = [t.dtype for t in tensors.values() if t.is_floating_point()]
        if {torch.float16, torch.bfloat16} & set(real):
            self._module = self._module.float()
            tensors = _tensors_of(self._module)
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

    def program(self, treedef: Any, shapes: tuple[tuple[int, ...], ...], n_inputs: int) -> Program:
        """Return the module's step, for states of a structure with arrays of these shapes.

        Raises:
            ModelError: if the module cannot be called with these, has no program, or computes
                something else on each call.
        """
        with _lock, _undisturbed():
            points = [self._point(shapes, n_inputs, scale) for scale in (0.5, 2.0)]
            works, told = self._try(self.signature, treedef, points)
            if not works:
                raise ModelError(self._words_on_calls(told, treedef, points))
            step, *others = works
            program, random_operations = self._export(step, points[0])
            first, second, again = (_values(step, p) for p in (*points, points[0]))
            if not all(map(np.array_equal, first, again, [True] * len(first))):
                raise ModelError(self._words_on_change(random_operations))
            self._check_others(step, others, points, [first, second])
            self._check_program(program, points, [first, second])
            return program

    def _point(self, shapes: Any, n_inputs: int, scale: float) -> list[torch.Tensor]:
        """Return a state and an input, to call the module with."""
        rng = np.random.default_rng(0)
        arrays = [scale * rng.uniform(-1, 1, shape) for shape in (*shapes, (n_inputs,))]
        return [torch.tensor(a, dtype=self._dtype) for a in arrays]

    def _try(self, signature: Signature, treedef: Any, points: Any) -> tuple[list["_Step"], list]:
        """Return the forms of call that work, and what was said where one did not."""
        works, told = [], []
        shapes = [tuple(t.shape) for t in points[0]]
        for form in _forms(signature, shapes[:-1], shapes[-1][0]):
            step = _Step(self._module, form, treedef, shapes[:-1], not self.is_default)
            try:
                step(*_clones(points[0]))
            except Exception as error:  # the user's code may raise errors of any type
                told.append(f"{form}: {_line(error)}")
            else:
                works.append(step)
        return works, told

    def _words_on_calls(self, told: list[str], treedef: Any, points: Any) -> str:
        default = ", the default for modules of one's own" if self.is_default else ""
        others = [s for s in _ALL if s != self.signature and self._try(s, treedef, points)[0]]
        if others:
            ways = " or ".join(f'`as_transition(model, signature="{s}")`' for s in others)
            advice = f"It can be called in another way: pass {ways}."
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

    def _export(self, step: "_Step", point: Any) -> tuple[Program, list[str]]:
        """Return the program of a step, and the random operations in it, which give zeros there."""
        try:
            if isinstance(self._module, torch.jit.ScriptModule):
                from torch._export.converter import TS2EPConverter

                scripted = TS2EPConverter(self._module, step.arguments(*point)).convert()
                step = step.with_module(scripted.module())
            exported = torch.export.export(step, tuple(_clones(point)), strict=False)
            decompositions = torch.export.default_decompositions()
            for operation in list(decompositions):
                if counterpart(str(operation)):
                    decompositions.pop(operation)
            exported = exported.run_decompositions(decompositions)
        except Exception as error:  # there are many reasons, and types, for no export
            raise ModelError(
                f"{self.name} cannot be exported by PyTorch: {_line(error)} Its step must consist "
                "of PyTorch's operations on tensors: none of NumPy's, and no decisions (`if`, "
                "`while`, `.item()`) by the values of tensors, for which there is `torch.where`."
            ) from error
        signature = exported.graph_signature
        if signature.buffers_to_mutate:
            changed = ", ".join(
                n.removeprefix("module.") for n in signature.buffers_to_mutate.values()
            )
            raise ModelError(
                f"{self.name} changes its buffer {changed} in a step, and so keeps something from "
                "one call for the next; expected the same next state on each call. Make what is "
                "kept a part of the state, or leave it as it is in `eval()` mode."
            )
        return self._read(exported)

    def _read(self, exported: Any) -> tuple[Program, list[str]]:
        stored = exported.state_dict | exported.constants
        weights, arguments, known = {}, [], {}
        nodes = [n for n in exported.graph.nodes if not _name_of(n.target).startswith(_CHECKS)]
        for node, spec in zip(nodes, exported.graph_signature.input_specs, strict=False):
            name = self._names.get((spec.target or "").removeprefix("module."))
            if spec.kind.name == "USER_INPUT":
                arguments.append(node)
            elif name in self.weights:
                weights[node] = name
            elif spec.target is not None:
                known[node] = stored[spec.target]
        # What depends on none of these, such as masks, PyTorch computes now.
        for node in nodes:
            is_fixed = node.op == "call_function" and not _is_random(node)
            if is_fixed and known.keys() >= set(node.all_input_nodes):
                args, keywords = torch.fx.map_arg((node.args, node.kwargs), known.__getitem__)
                known[node] = node.target(*args, **keywords)
        rest = [n for n in nodes if n not in known and n.op != "placeholder"]
        used = dict.fromkeys(n for node in rest for n in node.all_input_nodes if n in known)
        constants = [n for n in used if isinstance(known[n], torch.Tensor)]
        numbered = [*weights, *constants, *arguments, *(n for n in rest if n.op != "output")]
        refs = {n: known[n] for n in used} | {n: Ref(i) for i, n in enumerate(numbered)}
        lines, random_operations, outputs = [], [], ()
        for node in rest:
            args = _frozen(node.args, refs)
            if node.op == "output":
                outputs = args[0][-len(exported.graph_signature.user_outputs) :]
                continue
            name, keywords = _name_of(node.target), _frozen_keywords(node.kwargs, refs)
            if _is_random(node):
                random_operations.append(name)
                if isinstance(value := node.meta["val"], torch.Tensor):
                    # If it makes a difference, two calls of the module differ.
                    name, args, keywords = "aten.full", (tuple(value.shape), 0.0), ()
            lines.append((name, args, keywords))
        missing = dict.fromkeys(name for name, _, _ in lines if counterpart(name) is None)
        if missing:
            raise ModelError(
                f"{self.name} uses operations of PyTorch that have no counterpart here: "
                f"{', '.join(missing)}. Write that part of the step with others, or the step in "
                "JAX, as docs/howto/own_model.md does."
            )
        arrays = tuple(without_torch(known[n]).copy() for n in constants)
        return Program(tuple(weights.values()), arrays, tuple(lines), outputs), random_operations

    def _check_others(self, step: "_Step", others: Any, points: Any, expected: Any) -> None:
        """Check that all forms of call that work mean the same, or else which is meant?

        Raises:
            ModelError: if they do not.
        """
        for other in others:
            for point, values in zip(points, expected, strict=True):
                if _gap(_values(other, point), values, point) > _AGREE[self._dtype]:
                    raise ModelError(
                        f"{self.name} can be called with {step.form}, and also with {other.form}, "
                        "and then gives another next state; expected a step that takes only one of "
                        "the two. Let it refuse the other, or name axes from the end, as in "
                        "`dim=-1`, so that both mean the same."
                    )

    def _evaluate(self, program: Program, point: list[torch.Tensor]) -> list[np.ndarray]:
        with jax.enable_x64(self._dtype == torch.float64):
            found = _computed(program, self.weights, *map(without_torch, point))
            return list(map(np.asarray, found))

    def _check_program(self, program: Program, points: Any, expected: Any) -> None:
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
            gap = _gap(found, values, point)
            if gap > tolerance:
                raise ModelError(
                    f"{self.name} and the program that PyTorch exports of it differ by {gap:.1e} "
                    "relative to the largest number of the next state; expected a step that "
                    "depends only on its state, its input and its tensors. What NumPy or Python "
                    "draws, or what changes from one call to the next, is a constant in the "
                    "program: pass the noise-free step."
                )


@dataclasses.dataclass(frozen=True)
class _Form:
    """One way to call a module: the shapes of the input and of the arrays of the state."""

    signature: Signature
    input: tuple[int, ...]
    state: tuple[tuple[int, ...], ...]

    def __str__(self) -> str:
        state = ", ".join(map(_in_words, self.state))
        state = f"a state {state}" if len(self.state) == 1 else f"a state of arrays {state}"
        both = [state, f"an input {_in_words(self.input)}"]
        return " and ".join(both if self.signature in ("state_input", "scan") else both[::-1])


def _in_words(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _forms(signature: Signature, shapes: Any, n_inputs: int) -> Iterator[_Form]:
    """Yield the ways to call a module by a signature; the first that works is taken."""
    batched = tuple((1, *shape) for shape in shapes)
    if signature != "batched_sequence":
        yield _Form(signature, (1, n_inputs), batched)
        if signature != "batched":
            yield _Form(signature, (n_inputs,), tuple(shapes))
        return
    # The axis of layers comes before that of the batch; a vector may be the state of one layer.
    layered = tuple((s[0], 1, *s[1:]) if len(s) > 1 else (1, 1, *s) for s in shapes)
    both = [batched, layered] if all(len(s) == 1 for s in shapes) else [layered, batched]
    for state in both:
        yield _Form(signature, (1, 1, n_inputs), state)


class _Step(nn.Module):
    """A module's step from the arrays of a state and an input to the arrays of the next state."""

    def __init__(self, module: Any, form: _Form, treedef: Any, shapes: Any, told: bool):
        super().__init__()
        self.module, self.form, self.treedef, self.shapes = module, form, treedef, shapes
        # Unless it was told, it is not known which of two arguments a lone result continues.
        self.told = told

    def with_module(self, module: Any) -> "_Step":
        """Return the same step of another module."""
        return _Step(module, self.form, self.treedef, self.shapes, self.told)

    def arguments(self, *arrays: torch.Tensor) -> tuple[Any, Any]:
        """Return what the module is called with."""
        *leaves, u = (t.clone() for t in arrays)  # a step may write to what it is given
        leaves = [t.reshape(s) for t, s in zip(leaves, self.form.state, strict=True)]
        state, u = jax.tree.unflatten(self.treedef, leaves), u.reshape(self.form.input)
        return (state, u) if self.form.signature in ("state_input", "scan") else (u, state)

    def forward(self, *arrays: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Call the module, and check what it returns.

        Raises:
            TypeError: if that is not what the signature says.
        """
        out = self.module(*self.arguments(*arrays))
        sequence = self.form.signature == "batched_sequence"
        if self.form.signature not in ("state_input", "input_state"):
            only_states = isinstance(out, torch.Tensor) and out.ndim > 2 and sequence and self.told
            if not only_states:
                if not (isinstance(out, (tuple, list)) and len(out) == 2):
                    raise TypeError(f"it returned {_kind(out)}; expected a pair")
                out = out[0 if self.form.signature == "scan" else 1]
        leaves, treedef = jax.tree.flatten(out)
        if treedef != self.treedef or not all(isinstance(t, torch.Tensor) for t in leaves):
            raise TypeError(f"its next state is {_kind(out)}; expected the structure of the state")
        for leaf, given in zip(leaves, self.form.state, strict=True):
            if tuple(leaf.shape) not in ([given, (1, *given)] if sequence else [given]):
                raise TypeError(
                    f"its next state has the shape {_in_words(tuple(leaf.shape))}; expected "
                    f"{_in_words(given)}"
                )
        return tuple(t.reshape(s) for t, s in zip(leaves, self.shapes, strict=True))


def _kind(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor {_in_words(tuple(value.shape))}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"


# ---- reading a graph -----------------------------------------------------------------------------

_CHECKS = ("aten._assert_scalar", "aten._assert_tensor_metadata", "aten._assert_async")
_PLACES = {"device", "layout", "pin_memory", "memory_format", "non_blocking"}


def _name_of(target: Any) -> str:
    is_of_python = getattr(operator, getattr(target, "__name__", ""), None) is target
    return f"operator.{target.__name__}" if is_of_python else str(target)


def _is_random(node: Any) -> bool:
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def _frozen(arg: Any, refs: dict[Any, Any]) -> Any:
    """Return arguments of an operation as something hashable that does not need PyTorch."""
    if isinstance(arg, torch.fx.Node):
        return refs[arg]
    if isinstance(arg, (list, tuple)):
        return tuple(_frozen(part, refs) for part in arg)
    if isinstance(arg, torch.dtype):
        return Dtype(str(arg).removeprefix("torch."))
    return arg


def _frozen_keywords(keywords: Any, refs: dict[Any, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple((k, _frozen(v, refs)) for k, v in keywords.items() if k not in _PLACES)


# ---- copies and comparisons ----------------------------------------------------------------------


def _copy_of(module: nn.Module) -> nn.Module:
    """Return a copy; what cannot be copied, such as an open file, is shared with the module."""
    memo: dict[int, Any] = {}
    parts = list(module.modules())
    held = [value for part in parts for value in vars(part).values()]
    for value in held:
        if isinstance(value, torch.Tensor) and not value.is_leaf:  # a result that is kept
            memo[id(value)] = value.detach().clone()
    try:
        return copy.deepcopy(module, dict(memo))
    except Exception:  # an object may refuse to be copied with any error
        for value in held:
            if isinstance(value, (dict, nn.Module)):  # of which all modules have some
                continue
            try:
                copy.deepcopy(value, dict(memo))
            except Exception:
                memo[id(value)] = value
        return copy.deepcopy(module, memo)


def _tensors_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return parameters, buffers, and tensors that are mere attributes, with all their names."""
    tensors = dict(module.named_parameters(remove_duplicate=False))
    tensors |= dict(module.named_buffers(remove_duplicate=False))
    for path, part in module.named_modules(remove_duplicate=False):
        for name, value in vars(part).items():
            if isinstance(value, torch.Tensor):
                tensors[f"{path}.{name}".lstrip(".")] = value
    return tensors


def _clones(point: list[torch.Tensor]) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in point]


def _values(step: _Step, point: list[torch.Tensor]) -> list[np.ndarray]:
    return [without_torch(tensor) for tensor in step(*_clones(point))]


def _gap(found: Any, expected: list[np.ndarray], point: list[torch.Tensor]) -> float:
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
