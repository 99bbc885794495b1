"""`traced`: a model becomes a `Network`, or it is said why it cannot be searched."""

import dataclasses
import functools
import re
import sys
import threading
import traceback
import weakref
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from slowpoints._core.arguments.refusals import name_of
from slowpoints._core.contents import put_back
from slowpoints._core.digests import digest_of_arrays
from slowpoints._network.base import ModelError, Transition, is_instance
from slowpoints._network.continuous_time import ContinuousTime
from slowpoints._network.flow import Flow, flows_in
from slowpoints._network.frameworks.calling import HeldModel
from slowpoints._network.network import Network
from slowpoints._network.program import Program
from slowpoints._network.read_program import read_program


def traced(
    caller: str,
    F: Transition,
    n_states: int,
    n_inputs: int,
    dtype: Any,
    *,
    states: str = "x_init",
    inputs: str = "inputs",
    forward_mode: bool = True,
) -> Transition:
    """Return what a model computes, as the program that all of the pipeline means.

    The model is called once, or twice if it has not been seen before, here and under the settings
    that hold here. What it writes to its objects meanwhile is put back. A network comes back as it
    is.

    Args:
        caller: the function that the error messages name.
        F: the network.
        n_states: the length of a state.
        n_inputs: the length of an input.
        dtype: the type of states and inputs.
        states: the argument that the states came from.
        inputs: the argument that the inputs came from.
        forward_mode: whether derivatives are needed.

    Returns:
        A `Network`, or a `ContinuousTime` of one; or what is made of flows as it is, but for their
        networks, since an integrator is no part of a program.

    Raises:
        ModelError: if the model does not accept a state and an input, or does not give the next
            state, the same each time, with forward-mode derivatives.
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
    if isinstance(F, Network):
        return F
    step, result = F, "the next state"
    if isinstance(F, ContinuousTime | Flow):
        step, result = F.f, "dx/dt"
    with_shapes = f"a state of shape ({n_states},) and an input of shape ({n_inputs},)"
    try:
        if step is F and flows_in(F):
            return _around_flows(caller, F, n_states, n_inputs, dtype, forward_mode)
        network = step if isinstance(step, Network) else _network(step, n_states, n_inputs, dtype)
    except _NoStateError as error:
        raise ModelError(
            f"{caller}: the model maps {with_shapes} to {error}; expected {result}, of shape "
            f"({n_states},)."
        ) from None
    except ModelError as error:
        raise ModelError(f"{caller}: {error}") from error
    except Exception as error:  # the user's code may raise errors of any type
        raise ModelError(
            f"{caller}: the model could not be evaluated for {with_shapes}: {_summary(error)} "
            f"{_advice(error, F, n_inputs, states, inputs)}".rstrip()
        ) from error
    if forward_mode:
        try:
            _differentiate.eval_shape(network.program, *_shapes(network, dtype))
        except Exception as error:
            raise ModelError(
                f"{caller}: the model has no forward-mode derivative: {_summary(error)} The search "
                "and the Jacobians need it (`jax.jvp`). Give what calls code outside of JAX a rule "
                "with `jax.custom_jvp`."
            ) from error
    if isinstance(F, Flow):
        return eqx.tree_at(lambda F: F.f, F, network)
    return network if step is F else ContinuousTime(network)


def _is_flow(part: Any) -> bool:
    return isinstance(part, Flow)


def _around_flows(
    caller: str, F: Transition, n_states: int, n_inputs: int, dtype: Any, forward_mode: bool
) -> Transition:
    """Return what is made of flows, such as one period of inputs, with their networks traced."""
    inputs_of_flows: list[int] = []

    def see(x: Array, u: Array) -> Array:
        inputs_of_flows.append(u.shape[0])
        return x

    def with_flows(change: Any) -> Transition:
        return jax.tree.map(
            lambda part: change(part) if _is_flow(part) else part, F, is_leaf=_is_flow
        )

    x, u = (jax.ShapeDtypeStruct((n,), dtype) for n in (n_states, n_inputs))
    out = jax.eval_shape(with_flows(lambda _: see), x, u)
    if getattr(out, "shape", None) != x.shape:
        raise _NoStateError(f"shape {out.shape}" if hasattr(out, "shape") else name_of(type(out)))
    sizes = n_states, inputs_of_flows[0], dtype
    return with_flows(lambda part: traced(caller, part, *sizes, forward_mode=forward_mode))


class _NoStateError(Exception):
    """The model returns something else than a state; the message says what."""


def _network(F: Transition, n_states: int, n_inputs: int, dtype: Any) -> Network:
    """Trace a model that is not a network yet.

    A second trace shows whether the model is random, or keeps something from one call for the next.
    It need not be repeated for the same model with the same program and the same arrays.
    """
    sizes = n_states, n_inputs, dtype
    with _lock, put_back(F):
        network = _traced_once(F, *sizes)
        seen = _programs_seen_of(F)
        arrays = [a for a in network.arrays if not isinstance(a, Tracer)]
        if not _are_those(arrays, seen.get(network.program)):
            again = _traced_once(_called_twice(F), *sizes)
            if not _are_equal(network, again) and _values_differ(network, again, dtype):
                raise ModelError(
                    "the model is random, or keeps something from one call for the next: two "
                    "evaluations for the same state and the same input differ; expected one next "
                    "state for each. Switch its noise off, or make what changes a part of the "
                    "state or of the input. If it only keeps what its first call has computed, as "
                    "`functools.lru_cache` does, call it once before."
                )
            seen[network.program] = list(map(weakref.ref, arrays)), digest_of_arrays(*arrays)
    return Network(tuple(map(_with_type, network.arrays)), network.program)


def _called_twice(F: Transition) -> Transition:
    """Return a model that is as it was left by a first call.

    Where frameworks' objects hold what a step writes, they are put back after each.
    """

    def is_held(part: Any) -> bool:
        return isinstance(part, HeldModel)

    def twice(part: Any) -> Any:
        return dataclasses.replace(part, n_calls=2) if is_held(part) else part

    return jax.tree.map(twice, F, is_leaf=is_held)


_lock = threading.RLock()
"""Held while a model is traced, since its objects hold what one trace writes to them."""

_Arrays = tuple[list["weakref.ref[Any]"], str]
"""The arrays of a program that was seen: the objects, and the digest of their values."""

_Seen = weakref.WeakKeyDictionary[Program, _Arrays]

_seen: "weakref.WeakKeyDictionary[Any, _Seen]" = weakref.WeakKeyDictionary()
"""Functions and objects that were traced twice, and which programs they gave twice, for which
arrays: some may be random numbers."""


def _are_those(arrays: list[Any], seen: _Arrays | None) -> bool:
    if seen is None:
        return False
    objects, digest = seen
    # Values take their time, and are compared for arrays that are made anew, as those of NumPy.
    same = len(arrays) == len(objects) and all(
        a is b() for a, b in zip(arrays, objects, strict=True)
    )
    return same or digest_of_arrays(*arrays) == digest


def _programs_seen_of(F: Transition) -> _Seen:
    model = getattr(F, "model", F)
    try:
        return _seen.setdefault(getattr(model, "fn", model), _Seen())
    except TypeError:  # it cannot be told again, as where it holds arrays
        return _Seen()


def _traced_once(F: Transition, n_states: int, n_inputs: int, dtype: Any) -> Network:
    x, u = (jax.ShapeDtypeStruct((n,), dtype) for n in (n_states, n_inputs))

    def step(x: Array, u: Array) -> Any:  # a new function: JAX remembers what it has traced
        out = F(x, u)
        for leaf in jax.tree.leaves(out):
            if not eqx.is_array_like(leaf):
                raise TypeError(f"the model returned a {name_of(type(leaf))}")
        return out

    jaxpr, out = jax.make_jaxpr(step, return_shape=True)(x, u)
    if getattr(out, "shape", None) != (n_states,):
        found = f"shape {out.shape}" if hasattr(out, "shape") else f"a {type(out).__name__}"
        raise _NoStateError(found)
    if not jnp.issubdtype(out.dtype, jnp.floating):
        raise ModelError(f"the model's next state has dtype {out.dtype}; expected a real one.")
    program, arrays = read_program(jaxpr)
    return Network(tuple(arrays), program)


def _with_type(array: Any) -> Any:
    """Return an array that keeps its type if x64 is enabled; traced numbers of Python do not."""
    if not jax.typeof(array).weak_type:
        return array
    return jax.lax.convert_element_type(array, array.dtype)


def _are_equal(first: Network, second: Network) -> bool:
    def same(a: Any, b: Any) -> bool:
        # Traced values that the model was given are the same objects in both traces.
        is_traced = isinstance(a, Tracer) or isinstance(b, Tracer)
        return a is b or (not is_traced and digest_of_arrays(a) == digest_of_arrays(b))

    return first.program is second.program and all(map(same, first.arrays, second.arrays))


def _values_differ(first: Network, second: Network, dtype: Any) -> bool:
    """Return whether two programs give different values for one state and one input.

    Programs may differ in ways that do not matter, such as in functions that are made anew.
    """
    tracers = [{id(a) for a in F.arrays if isinstance(a, Tracer)} for F in (first, second)]
    if tracers[0] != tracers[1]:  # one is left from the first trace
        return True

    def known(a: Any) -> Any:
        # If the weights have no values yet, any values will do.
        return jnp.full(a.shape, 0.5, a.dtype) if isinstance(a, Tracer) else a

    try:
        with jax.ensure_compile_time_eval():
            pair = jax.tree.map(known, (first, second))
            for scale in (0.0, 0.5, 2.0):
                sizes = first.n_states, first.n_inputs
                x, u = (jnp.cos(jnp.arange(n, dtype=dtype)) * scale for n in sizes)
                a, b = (np.asarray(network(x, u)) for network in pair)
                if not np.array_equal(a, b, equal_nan=True):
                    return True
    except Exception:  # a model may keep the tracers of an earlier call
        return True
    return False


def _shapes(network: Network, dtype: Any) -> Any:
    arrays = tuple(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in network.arrays)
    sizes = network.n_states, network.n_inputs
    return arrays, *(jax.ShapeDtypeStruct((n,), dtype) for n in sizes)


@functools.partial(jax.jit, static_argnums=0)
def _differentiate(program: Program, arrays: tuple[Any, ...], x: Array, u: Array) -> Any:
    return jax.jacfwd(Network(arrays, program), argnums=(0, 1))(x, u)


# ---- errors of the user's code -------------------------------------------------------------------


def _summary(error: Exception) -> str:
    """Return the type of an error and the first line of what it says, as a sentence."""
    first_line = next(iter(str(error).strip().splitlines()), "").rstrip(".")
    return f"{type(error).__name__}: {first_line}."


def _advice(error: Exception, F: Transition, n_inputs: int, states: str, inputs: str) -> str:
    if _is_about_torch(error):
        return (
            "PyTorch cannot be traced by JAX: pass the torch.nn.Module itself, such as `net` or "
            "`net.rnn`, a method of it that is called with an input and a state, or, in place of a "
            "function, a module that is the step: `as_transition(Step(net), "
            'signature="input_state")` with `forward(self, input, state)`. Or write the step with '
            "JAX."
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
    is_of_brainpy = type(getattr(F, "model", None)).__module__.endswith("frameworks.brainpy")
    if "NoneType" in str(error) and is_of_brainpy:
        return (
            "If the model reads what a simulation of BrainPy sets, such as `bp.share['t']`, set it "
            "before the model is made a transition: `bp.share.save(t=0.0)`."
        )
    if not _is_about_shapes(error):
        return ""
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


def _is_about_shapes(error: Exception) -> bool:
    """Return whether an error may be one of too many or too few inputs or states."""
    words = r"shape|size|dimension|\baxis|\baxes|broadcast|concatenat|index|column|unpack|length"
    return isinstance(error, IndexError) or bool(re.search(words, str(error), re.IGNORECASE))


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
