"""Check a model before a search begins, and say what is wrong if it cannot be searched."""

import re
import sys
import traceback
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from slowpoints._transition.base import (
    ModelError,
    Structure,
    Transition,
    abstract_step,
    is_instance,
    shape_of_step,
    transition_of,
)
from slowpoints._transition.digests import constants_of, digest_of_arrays, operations_of


def check_transition(
    caller: str,
    F: Transition,
    n_states: int,
    n_inputs: int,
    dtype: Any,
    *,
    states: str = "x_init",
    inputs: str = "inputs",
    forward_mode: bool = True,
) -> None:
    """Check, without computing anything, that `F` is a map that can be searched.

    The model is traced: it must accept a state and an input, give the next state, do the same each
    time, and have forward-mode derivatives. A second check of a network of the same structure costs
    next to nothing.

    Args:
        caller: the function that the error messages name.
        F: the network.
        n_states: the length of a state.
        n_inputs: the length of an input.
        dtype: the type of states and inputs.
        states: the argument that the states came from.
        inputs: the argument that the inputs came from.
        forward_mode: whether derivatives are needed.

    Raises:
        ModelError: if it is not such a map.
    """
    name = getattr(F, "name", type(F).__name__)
    for argument, n, expected, what in (
        (states, n_states, F.n_states, "has {} state"),
        (inputs, n_inputs, F.n_inputs, "takes {} input"),
    ):
        if expected is not None and n != expected:
            plural = "s" if expected != 1 else ""
            hint = f" {getattr(F, 'hint', '')}".rstrip() if argument == states else ""
            raise ModelError(
                f"{caller}: `{argument}` has {n} column{'s' * (n != 1)}; expected {expected}, "
                f"since {name} {what.format(expected)}{plural}.{hint}"
            )
    with_shapes = f"a state of shape ({n_states},) and an input of shape ({n_inputs},)"
    try:
        out = shape_of_step(F, n_states, n_inputs, dtype)
        _check_that_calls_agree(F, n_states, n_inputs, dtype)
    except ModelError as error:
        raise ModelError(f"{caller}: {error}") from error
    except Exception as error:  # the user's code may raise errors of any type
        raise ModelError(
            f"{caller}: the model could not be evaluated for {with_shapes}: {_summary(error)} "
            f"{_advice(error, F, n_inputs, states, inputs)}"
        ) from error
    shape = getattr(out, "shape", None)
    if shape != (n_states,):
        found = f"shape {shape}" if shape is not None else f"a {type(out).__name__}"
        raise ModelError(
            f"{caller}: the model maps {with_shapes} to {found}; expected the next state, of shape "
            f"({n_states},)."
        )
    if not jnp.issubdtype(out.dtype, jnp.floating):
        raise ModelError(
            f"{caller}: the model's next state has dtype {out.dtype}; expected a real one."
        )
    if jnp.finfo(out.dtype).bits < 32:
        raise ModelError(
            f"{caller}: for a state of dtype {dtype}, the model's next state has dtype "
            f"{out.dtype}; expected float32 or float64. Rounding in half precision is coarser than "
            "any tolerance: let the model compute in the precision of its state."
        )
    if forward_mode:
        try:
            _differentiate.eval_shape(*abstract_step(F, n_states, n_inputs, dtype))
        except Exception as error:
            raise ModelError(
                f"{caller}: the model has no forward-mode derivative: {_summary(error)} The search "
                "and the Jacobians need it (`jax.jvp`). Where the model uses `jax.custom_vjp`, "
                "define the rule with `jax.custom_jvp`, which serves both modes, or drop it."
            ) from error


def _check_that_calls_agree(F: Transition, n_states: int, n_inputs: int, dtype: Any) -> None:
    try:
        _examine.eval_shape(*abstract_step(F, n_states, n_inputs, dtype))
    except _TracesDifferError:
        if _values_differ(F, n_states, n_inputs, dtype):
            raise ModelError(
                "the model is random, or keeps something from one call for the next: two "
                "evaluations for the same state and the same input differ; expected one next state "
                "for each. Switch its noise off, or make what changes a part of the state or of "
                "the input."
            ) from None


@partial(jax.jit, static_argnums=0)
def _examine(structure: Structure, arrays: list[Any], x: Array, u: Array) -> None:
    """Trace the model twice, and compare. Happens once for each structure."""
    F = transition_of(structure, arrays)
    # Two functions, because JAX would reuse the trace of a single one.
    first, second = (jax.make_jaxpr(lambda x, u: F(x, u))(x, u) for _ in range(2))
    constants = list(constants_of(first)), list(constants_of(second))
    same = operations_of(first) == operations_of(second) and len(constants[0]) == len(constants[1])
    if not (same and all(map(_are_equal, *constants))):
        raise _TracesDifferError


class _TracesDifferError(Exception):
    """Two traces of a model are not the same."""


def _values_differ(F: Transition, n_states: int, n_inputs: int, dtype: Any) -> bool:
    """Return whether `F` gives several values for one state and one input.

    Traces may differ in ways that do not matter, such as in the running number of an operation.
    """

    def value(leaf: Any) -> Any:
        # If the weights have no values yet, any values will do.
        return jnp.full(leaf.shape, 0.5, leaf.dtype) if isinstance(leaf, Tracer) else leaf

    try:
        with jax.ensure_compile_time_eval():
            F = jax.tree.map(value, F)
            for scale in (0.0, 0.5, 2.0):
                x, u = (jnp.cos(jnp.arange(n, dtype=dtype)) * scale for n in (n_states, n_inputs))
                first, second = (np.asarray(F(x, u)) for _ in range(2))
                if not np.array_equal(first, second, equal_nan=True):
                    return True
    except Exception:  # a model may keep the tracers of an earlier call
        return True
    return False


@partial(jax.jit, static_argnums=0)
def _differentiate(structure: Structure, arrays: list[Any], x: Array, u: Array) -> Any:
    return jax.jacfwd(transition_of(structure, arrays), argnums=(0, 1))(x, u)


def _are_equal(a: Any, b: Any) -> bool:
    # Traced values that the model was given are the same objects in both traces.
    is_traced = isinstance(a, Tracer) or isinstance(b, Tracer)
    return a is b or (not is_traced and digest_of_arrays(a) == digest_of_arrays(b))


# ---- errors of the user's code -------------------------------------------------------------------


def _summary(error: Exception) -> str:
    """Return the type of an error and the first line of what it says, as a sentence."""
    first_line = next(iter(str(error).strip().splitlines()), "").rstrip(".")
    return f"{type(error).__name__}: {first_line}."


def _advice(error: Exception, F: Transition, n_inputs: int, states: str, inputs: str) -> str:
    if _is_about_torch(error):
        return (
            "PyTorch cannot be traced by JAX: pass the recurrent layer itself, such as `net.rnn`, "
            "or write the step with JAX."
        )
    if isinstance(error, jax.errors.TracerArrayConversionError):
        return (
            "The model uses NumPy on JAX arrays: write `jnp.tanh` for `np.tanh`, and so on, with "
            "`import jax.numpy as jnp`."
        )
    if isinstance(error, _NEED_NUMBERS):
        return (
            "The model needs the value of an array while it is traced, as for `if`, `while`, "
            "`float()` or an index: write `jnp.where` or `jax.lax.cond` for `if`, and functions of "
            "`jnp` for those of `math`."
        )
    is_of_brainpy = type(getattr(F, "model", None)).__module__.endswith("models.brainpy")
    if "NoneType" in str(error) and is_of_brainpy:
        return (
            "If the model reads what a simulation of BrainPy sets, such as `bp.share['t']`, set it "
            "before the model is made a transition: `bp.share.save(t=0.0)`."
        )
    advice = f"`{inputs}` must have as many columns as the model has inputs"
    advice += f", and `{states}` as many as it has states." if F.n_states is None else "."
    if getattr(F, "signature", None) == "batched_sequence":
        advice += (
            " The model is given inputs with a time axis of one step: [n, time, n_inputs], of "
            f"shape (1, 1, {n_inputs}). If it takes them without, as [n, n_inputs], pass "
            '`as_transition(model, signature="batched")`.'
        )
    return advice


_NEED_NUMBERS = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)


def _is_about_torch(error: Exception) -> bool:
    """Return whether PyTorch raised an error, or the code that it comes from uses PyTorch."""
    if "torch" not in sys.modules:
        return False
    if re.search(r"torch|\bTensor\b|__dlpack", str(error)):
        return True
    for frame, _ in traceback.walk_tb(error.__traceback__):
        package = str(frame.f_globals.get("__name__")).split(".")[0]
        if package == "torch":
            return True
        if package not in ("slowpoints", "jax", "equinox"):
            code, scope = frame.f_code, {**frame.f_globals, **frame.f_locals}
            named = (scope.get(name) for name in code.co_names + code.co_freevars)
            if any(_is_of_torch(value) for value in named):
                return True
    return False


def _is_of_torch(value: Any) -> bool:
    return (
        value is sys.modules["torch"]
        or is_instance(value, "torch", "Tensor")
        or is_instance(value, "torch.nn", "Module")
    )
