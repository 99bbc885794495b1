"""Checks of arrays: their shapes, their types, and whether their numbers are finite."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from slowpoints._core.arguments.refusals import found, is_array, refuse
from slowpoints._core.without_torch import without_torch

Axes = tuple[str | int, ...]
"""A shape that is expected: names for axes of any length, numbers for those of one."""

TO_VECTORS = (
    "; `slowpoints.as_transition(model).flatten` makes such vectors of states in the model's own "
    "form, which it knows of most models, or from the argument `example_state`"
)
"""A hint for trajectories, which may be given as the pair `(h, c)` of an LSTM, or by layers."""


def array(
    caller: str,
    name: str,
    value: Any,
    *shapes: Axes,
    floating: bool = False,
    finite: bool = False,
    nonempty: bool = False,
    hint: str = "",
) -> Any:
    """Return an array of real numbers, of NumPy or JAX, of one of the `shapes`.

    Lists and tensors of PyTorch become arrays of NumPy, and bytes are put into the machine's order.

    Args:
        caller: the function that is called.
        name: its argument.
        value: what it was given.
        *shapes: those that are expected.
        floating: whether whole numbers are refused.
        finite: whether NaN and infinity are refused.
        nonempty: whether axes of length 0 are refused.
        hint: how the sentence about a wrong shape goes on.

    Raises:
        TypeError: if `value` does not hold real numbers.
        ValueError: if it has another shape, is masked or is not finite.
    """
    expected = " or ".join(_shape_as_text(shape) for shape in shapes)
    numbers = f"real numbers {expected}{hint}"
    result = as_array(caller, name, value, floating=floating, expected=numbers)
    shape = tuple(result.shape)
    if not any(_fits(shape, axes) for axes in shapes):
        refuse(caller, name, f"has shape {shape}", f"{expected}{hint}", ValueError)
    if nonempty and 0 in shape:
        refuse(caller, name, f"is empty: its shape is {shape}", "no axis of length 0", ValueError)
    if finite:
        check_finite(caller, name, result)
    return result


def trajectories(caller: str, name: str, value: Any, *, if_two_axes: str = "", **rules: Any) -> Any:
    """Return states `[trials, time, n_states]`; see `array`, also for the `rules`.

    A message about an array of two axes goes on with `if_two_axes`.

    Raises:
        TypeError: if `value` does not hold real numbers.
        ValueError: if it has another shape, or breaks a rule. The message says how to get vectors.
    """
    hint = TO_VECTORS
    if getattr(value, "ndim", 0) == 2:
        hint = f"; one trial is `{name}[None]`{if_two_axes}"
    return array(caller, name, value, ("trials", "time", "n_states"), hint=hint, **rules)


def if_transposed(shape: tuple[int, ...], n_states: int) -> str:
    """Return a hint if trajectories have the number of states in another axis than the last."""
    if shape[-1] == n_states or n_states not in shape[:-1]:
        return ""
    return (
        f" Another of its axes has {n_states}: expected is [trials, time, n_states], and these "
        "axes may be transposed."
    )


def direction(
    caller: str, toward: Any, n_states: int, n_inputs: int | None, n_outputs: int | None = None
) -> Any:
    """Return `toward`, a direction of states; of another one, the error says what it could be."""
    expected = f"real numbers ({n_states},)"
    shape = tuple(as_array(caller, "toward", toward, floating=False, expected=expected).shape)
    hint = ", such as a column of the readout"
    if len(shape) == 2 and n_states in shape:
        one = "toward[:, 0]" if shape[0] == n_states else "toward[0]"
        hint = f"; the weights of the first output are `{one}`"
    elif shape == (n_outputs,):
        hint = "; a direction of the outputs is one of states as `readout @ toward`"
    elif shape == (n_inputs,):
        hint = "; a direction of the inputs moves the states along `fps.dFdu[0] @ toward`"
    return array(caller, "toward", toward, (n_states,), finite=True, hint=hint)


def box_of_states(caller: str, value: Any, n_states: int | None) -> tuple[Any, Any]:
    """Return the ends of a box of states, `(low, high)`, `[n_states]` each, as they are given.

    Args:
        caller: the public function.
        value: a pair of states or of numbers.
        n_states: how many states there are, or `None` if the box has to say it.
    """
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        refuse(caller, "box", found(value), "a pair (low, high) of states", TypeError)
    ends = [np.asarray(end) for end in value]
    size = max((end.shape[0] for end in ends if end.ndim), default=n_states)
    if size == 0:
        refuse(caller, "box", "has no states", "at least one state", ValueError)
    if size is None:
        expected = "states [n_states], since the network does not say how many states it has"
        refuse(caller, "box", "holds two numbers", expected, ValueError)
    ends = [np.broadcast_to(end, (size,)) if end.ndim == 0 else end for end in ends]
    shape = size if n_states is None else n_states
    low, high = (array(caller, f"box[{i}]", end, (shape,)) for i, end in enumerate(ends))
    if not (np.isfinite(low).all() and np.isfinite(high).all() and np.all(low <= high)):
        expected = "finite states, low <= high"
        refuse(caller, "box", f"is from {low} to {high}", expected, ValueError)
    return low, high


def as_array(caller: str, name: str, value: Any, *, floating: bool, expected: str) -> Any:
    """Return the real numbers that `value` holds, whatever their shape: see `array`."""
    given = value
    if isinstance(value, np.ma.MaskedArray):
        if np.ma.is_masked(value):
            was = f"has {np.ma.count_masked(value)} masked entries"
            refuse(caller, name, was, f"{expected}, none of them masked", ValueError)
        value = np.asarray(value)
    if not is_array(value):
        value = _from_lists(caller, name, value, expected)
    dtype = value.dtype
    real = jnp.issubdtype(dtype, np.floating) and dtype.itemsize <= 8
    whole_numbers = jnp.issubdtype(dtype, np.integer) or jnp.issubdtype(dtype, np.bool_)
    if not real and (floating or not whole_numbers):
        kind = "floating-point numbers, of float32 or float64" if floating else expected
        was = f"has dtype {dtype}" if is_array(given) else found(given)
        refuse(caller, name, was, kind, TypeError)
    if isinstance(value, np.generic):
        value = np.asarray(value)
    if isinstance(value, np.ndarray) and not dtype.isnative:
        value = value.astype(dtype.newbyteorder("="))
    return value


def check_precision(caller: str, name: str, dtype: Any) -> None:
    """Check that numbers to compute with are not in half precision.

    Weights may be: they are cast to the precision of the states.

    Raises:
        TypeError: if they are.
    """
    if jnp.issubdtype(dtype, np.floating) and jnp.finfo(dtype).bits < 32:
        expected = (
            "float32 or float64, since rounding in half precision is coarser than any tolerance: "
            f"pass `{name}.astype('float32')`"
        )
        refuse(caller, name, f"has dtype {dtype}", expected, TypeError)


def _from_lists(caller: str, name: str, value: Any, expected: str) -> Any:
    try:
        # Lists may hold traced values, which NumPy does not take, and tensors.
        value = jax.tree.map(without_torch, value)
        traced = any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(value))
        return jnp.asarray(value) if traced else np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # the last of tensors without values
        was = f"{found(value)}, which is not an array ({str(error).splitlines()[0]})"
        raise TypeError(f"{caller}: `{name}` {was}; expected {expected}.") from error


def check_finite(caller: str, name: str, value: Any, where: Any = None, *, hint: str = "") -> None:
    """Check that an array, or the part of it that a mask selects, holds neither NaN nor infinity.

    Raises:
        ValueError: if it does. What is traced, or held by other processes, is not seen.
    """
    seen = not isinstance(value, Tracer) and not isinstance(where, Tracer)
    if not seen or not getattr(value, "is_fully_addressable", True):
        return
    good = np.isfinite(np.asarray(value))
    good = good if where is None else good[np.asarray(where, bool)]
    if not good.all():
        was = f"holds {good.size - int(good.sum())} values that are NaN or infinite"
        refuse(caller, name, was, f"finite numbers{hint}", ValueError)


def mask(caller: str, name: str, value: Any, shape: Axes) -> Any:
    """Return an array of yes and no of a shape; numbers may stand for them if all are 0 or 1.

    Raises:
        TypeError: if `value` holds neither booleans nor numbers.
        ValueError: if it has another shape, or holds other numbers.
    """
    result = array(caller, name, value, shape)
    if result.dtype == bool:
        return result
    if isinstance(result, Tracer):
        return result != 0
    numbers = np.asarray(result)
    bad = numbers[(numbers != 0) & (numbers != 1)]
    if bad.size:
        refuse(caller, name, f"holds {bad[0]}", "True and False, or 1 and 0", ValueError)
    return numbers.astype(bool)


def labels(caller: str, name: str, value: Any, n: int, row: str) -> Any:
    """Return one label of any type for each of `n` rows, or `None`.

    Raises:
        ValueError: if `value` has another shape.
    """
    if value is None:
        return None
    expected = f"({n},), one for each {row}"
    result = value if is_array(value) else _from_lists(caller, name, value, expected)
    if isinstance(result, np.ma.MaskedArray):
        refuse(caller, name, "is a masked array", expected, TypeError)
    if tuple(result.shape) != (n,):
        refuse(caller, name, f"has shape {tuple(result.shape)}", expected, ValueError)
    return result


def inputs_of_rows(caller: str, value: Any, n: int, row: str, dtype: Any) -> Any:
    """Return the constant inputs of `n` rows, `[1, n_inputs]` or `[n, n_inputs]`, as `dtype`.

    Args:
        caller: the function that is called.
        value: `[n_inputs]`, `[1, n_inputs]` or `[n, n_inputs]`.
        n: how many rows there are.
        row: what a row is, for the message, such as "row of `x_init`".
        dtype: the type of the states.

    Raises:
        TypeError: if `value` does not hold real numbers.
        ValueError: if it has another shape, or is not finite as `dtype`.
    """
    shapes = [("n_inputs",), (1, "n_inputs"), (n, "n_inputs")]
    hint = f", one row for each {row}"
    if getattr(value, "ndim", 0) == 2:
        hint += (
            "; to search under each of several inputs, see slowpoints.input_grid, or pass a finder "
            "a dict of labels and inputs"
        )
    result = array(caller, "inputs", value, *shapes, hint=hint)
    if not isinstance(result, jax.Array):
        with np.errstate(over="ignore"):  # what float32 cannot hold is refused below
            result = result.astype(dtype)
    check_finite(caller, "inputs", result)
    return (result if result.ndim == 2 else result[None]).astype(dtype)


def _fits(shape: tuple[int, ...], axes: Axes) -> bool:
    return len(shape) == len(axes) and all(
        isinstance(axis, str) or axis == size for axis, size in zip(axes, shape, strict=True)
    )


def _shape_as_text(axes: Axes) -> str:
    return f"({', '.join(map(str, axes))}{',' if len(axes) == 1 else ''})"
