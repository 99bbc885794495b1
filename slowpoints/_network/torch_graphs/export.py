"""`export`: a step as PyTorch's graph of core ATen operations, those of derivatives in it too."""

import contextlib
import io
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch._C._functorch import maybe_current_level
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode

from slowpoints._network.torch_graphs.aten import counterpart
from slowpoints._network.torch_graphs.copy_of import tensors_of
from slowpoints._network.torch_graphs.step import Step


def export(
    step: Step, point: list[torch.Tensor], names: dict[str, str]
) -> tuple[Any, dict[str, str]]:
    """Return an exported program, and what the tensors that it names are called.

    Derivatives within a step, such as by `torch.func.grad` and `torch.autograd.grad`, cannot be
    exported. They are written out as operations before, by `make_fx`, which gives the tensors of
    the module names of its own.

    Args:
        step: the step.
        point: what it is called with.
        names: the first name of each of the module's tensors, by all of its names.

    Raises:
        Exception: of any type, if there is no program.
    """
    with _quiet():
        if isinstance(step.module, torch.jit.ScriptModule):
            from torch._export.converter import TS2EPConverter

            scripted = TS2EPConverter(step.module, step.arguments(*point)).convert()
            step = step.with_module(scripted.module())
        try:
            return _exported(step, point), names
        except Exception as error:
            if not _takes_derivatives(step, point):
                raise
            try:
                written_out = make_fx(step)(*point)
                exported = _exported(written_out, point)
            except Exception:  # what was said first is about the module as it is written
                raise error from None
    by_tensor = {id(tensor): names[name] for name, tensor in tensors_of(step.module).items()}
    new = {name: by_tensor.get(id(tensor)) for name, tensor in tensors_of(written_out).items()}
    return exported, {name: first for name, first in new.items() if first is not None}


def _exported(module: nn.Module, point: list[torch.Tensor]) -> Any:
    decompositions = torch.export.default_decompositions()
    for operation in list(decompositions):
        if counterpart(str(operation)):
            decompositions.pop(operation)
    exported = torch.export.export(module, tuple(point), strict=False)
    return exported.run_decompositions(decompositions)


def _takes_derivatives(step: Step, point: list[torch.Tensor]) -> bool:
    mode = _Watch()
    with mode:
        step(*point)
    return mode.has_seen_derivatives


class _Watch(TorchFunctionMode):
    """Sees each function of PyTorch that is called, and whether a transformation is under way."""

    has_seen_derivatives = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        level = maybe_current_level()  # of `torch.func.grad`, `jvp`, `vmap`
        if level is not None or func in (torch.autograd.grad, torch.Tensor.backward):
            self.has_seen_derivatives = True
        return func(*args, **(kwargs or {}))


_TALKATIVE = ("torch.fx.experimental.symbolic_shapes", "torch._export.non_strict_utils")


class _OfOthers(io.TextIOBase):
    """A stream that hands on what other threads write."""

    def __init__(self, stream: Any):
        super().__init__()
        self._stream, self._thread = stream, threading.get_ident()

    def write(self, text: str) -> int:
        """Write, unless it is the thread that made this."""
        if threading.get_ident() != self._thread:
            self._stream.write(text)
        return len(text)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what PyTorch prints of graphs that it refuses, and of shapes that are fixed."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    were = [logger.disabled for logger in loggers]
    try:
        for logger in loggers:
            logger.disabled = True
        with contextlib.redirect_stderr(_OfOthers(sys.stderr)):
            yield
    finally:
        for logger, was in zip(loggers, were, strict=True):
            logger.disabled = was
