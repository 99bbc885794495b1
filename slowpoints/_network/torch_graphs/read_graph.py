"""`read_graph`: the graph that PyTorch exports of a step becomes a `TorchProgram`."""

import operator
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import torch

from slowpoints._core.without_torch import without_torch
from slowpoints._network.base import ModelError
from slowpoints._network.torch_graphs.aten import counterpart
from slowpoints._network.torch_graphs.program import Dtype, Ref, TorchProgram

_CHECKS = (
    "aten._assert_scalar",
    "aten._assert_tensor_metadata",
    "aten._assert_async",
    "aten._linalg_check_errors",
)
_PLACES = {"device", "layout", "pin_memory", "memory_format", "non_blocking"}


def read_graph(
    exported: Any, model: str, names: Mapping[str, str], weights: Collection[str]
) -> tuple[TorchProgram, list[str]]:
    """Return the program of a graph, and the random operations in it, which give zeros there.

    Args:
        exported: what `torch.export` returned.
        model: what error messages call the module.
        names: the first name of each of the module's tensors, by all of its names.
        weights: the names of those that are arguments of the program.

    Raises:
        ModelError: if there are operations without a counterpart.
    """
    nodes = _without_checks(exported.graph.nodes)
    inputs = _inputs_of(exported, nodes, names, weights)
    known = inputs.known | _computed_now(nodes, inputs.known)
    rest = [n for n in nodes if n not in known and n.op != "placeholder"]
    used = dict.fromkeys(n for node in rest for n in node.all_input_nodes if n in known)
    constants = [n for n in used if isinstance(known[n], torch.Tensor)]
    results = [n for n in rest if n.op != "output"]
    numbered = [*inputs.weights, *constants, *inputs.arguments, *results]
    refs = {n: known[n] for n in used} | {n: Ref(i) for i, n in enumerate(numbered)}
    lines = tuple(_line_of(node, refs) for node in results)
    _check_operations(model, lines)
    outputs = ()
    for node in rest:
        if node.op == "output":
            last = node.args[0][-len(exported.graph_signature.user_outputs) :]
            outputs = _frozen(last, refs)
    arrays = tuple(without_torch(known[n]).copy() for n in constants)
    random_operations = [_name_of(node.target) for node in results if _is_random(node)]
    return TorchProgram(tuple(inputs.weights.values()), arrays, lines, outputs), random_operations


def _without_checks(nodes: Any) -> list[Any]:
    """Leave out what checks values, and what follows from that but for the outputs."""
    left_out, kept = set(), []
    for node in nodes:
        follows = node.op != "output" and not left_out.isdisjoint(node.all_input_nodes)
        operation = node.target
        if _name_of(operation) == "with_effects":  # by which PyTorch keeps checks in their order
            operation = node.args[1]
        if follows or _name_of(operation).startswith(_CHECKS):
            left_out.add(node)
        else:
            kept.append(node)
    return kept


class _Inputs(NamedTuple):
    """What a graph is computed from.

    Attributes:
        weights: the names of the weights, by their nodes.
        arguments: the nodes of the state and the input.
        known: the values of all others, by their nodes.
    """

    weights: dict[Any, str]
    arguments: list[Any]
    known: dict[Any, Any]


def _inputs_of(
    exported: Any, nodes: list[Any], names: Mapping[str, str], of_weights: Collection[str]
) -> _Inputs:
    """Return which of the first nodes are weights, which are arguments, and the others' values."""
    stored = exported.state_dict | exported.constants
    weights, arguments, known = {}, [], {}
    for node, spec in zip(nodes, exported.graph_signature.input_specs, strict=False):
        name = names.get((spec.target or "").removeprefix("module."))
        if spec.kind.name == "USER_INPUT":
            arguments.append(node)
        elif name in of_weights:
            weights[node] = name
        elif spec.kind.name == "TOKEN":  # of the first of the operations in order
            known[node] = None
        elif spec.target is not None:
            known[node] = stored[spec.target]
    return _Inputs(weights, arguments, known)


def _computed_now(nodes: list[Any], values: dict[Any, Any]) -> dict[Any, Any]:
    """Return known values, and those that follow from them alone, such as masks, by PyTorch."""
    known = dict(values)
    for node in nodes:
        is_fixed = node.op == "call_function" and not _is_random(node)
        if is_fixed and known.keys() >= set(node.all_input_nodes):
            args, keywords = torch.fx.map_arg((node.args, node.kwargs), known.__getitem__)
            known[node] = node.target(*args, **keywords)
    return known


_Line = tuple[str, tuple[Any, ...], tuple[tuple[str, Any], ...]]
"""An operation, its arguments and its keyword arguments: see `TorchProgram.lines`."""


def _line_of(node: Any, refs: dict[Any, Any]) -> _Line:
    """Return a node as a line of the program; what is random gives zeros."""
    if _is_random(node) and isinstance(value := node.meta["val"], torch.Tensor):
        # If it makes a difference, two calls of the module differ.
        return "aten.full", (tuple(value.shape), 0.0), ()
    return _name_of(node.target), _frozen(node.args, refs), _frozen_keywords(node.kwargs, refs)


def _check_operations(model: str, lines: tuple[_Line, ...]) -> None:
    """Check that all operations have a counterpart.

    Raises:
        ModelError: if some have none.
    """
    missing = dict.fromkeys(name for name, _, _ in lines if counterpart(name) is None)
    if "cond" in missing:
        raise ModelError(
            f"{model} decides by the values of tensors (`if`, or `torch.cond`); expected "
            "`torch.where`, which computes both sides and selects one."
        )
    if missing:
        raise ModelError(
            f"{model} uses operations of PyTorch that have no counterpart here: "
            f"{', '.join(missing)}. Write that part of the step with others, or the step in "
            "JAX, as docs/howto/own_model.md does."
        )


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
