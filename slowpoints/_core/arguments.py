"""Checks of arguments: one rule for each kind of argument, shared by all public functions.

Every refusal says which function and which argument it is about, what the argument was, and what
was expected. Nothing is computed or compiled before, and traced values are checked only for what is
known of them, their shapes and types.

The rules are all in this file, long as it is, so that callers find them under one name:
`arguments.number`, `arguments.array` and so on.
"""

import math
import os
import reprlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh

_MOST_ITERATIONS = 2**31 - 1
"""Counts of iterations and rows are in int32."""


def refuse(caller: str, name: str, was: str, expected: str, kind: type[Exception]) -> NoReturn:
    """Raise the error that all refusals are."""
    raise kind(f"{caller}: `{name}` {was}; expected {expected}.")


def found(value: Any) -> str:
    """Return what a value was, for a message: `is 'a'`, or `is an array of shape (2,) ...`."""
    if _is_array(value) and np.ndim(value):
        return f"is an array of shape {value.shape} and dtype {value.dtype}"
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, np.generic)):
        return f"is {reprlib.repr(value)}"
    if isinstance(value, (list, tuple, dict, set)):
        return f"is the {type(value).__name__} {reprlib.repr(value)}"
    return f"is a {type(value).__module__}.{type(value).__qualname__}"


# ---- settings ------------------------------------------------------------------------------------


def number(
    caller: str,
    name: str,
    value: Any,
    *,
    least: float = 0,
    finite: bool = False,
    or_none: bool = False,
) -> Any:
    """Return a real number that is at least `least`, as Python has it; a traced one as it is.

    Raises:
        TypeError: if `value` is not a real number.
        ValueError: if it is NaN or out of range.
    """
    expected = f"a {'finite ' if finite else ''}number, at least {least}"
    expected += ", or None" if or_none else ""
    if (value is None and or_none) or _is_traced_scalar(value, np.floating, np.integer):
        return value
    scalar = _scalar(value)
    if scalar is None:
        refuse(caller, name, found(value), expected, TypeError)
    too_large = scalar > sys.float_info.max and (finite or scalar != np.inf)
    if not scalar >= least or too_large:
        refuse(caller, name, f"is {reprlib.repr(scalar)}", expected, ValueError)
    return scalar


def positive(caller: str, name: str, value: Any) -> Any:
    """Return a finite real number above 0, as Python has it; a traced one as it is.

    Raises:
        TypeError: if `value` is not a real number.
        ValueError: if it is NaN, infinite, 0 or negative.
    """
    result = number(caller, name, value, finite=True)
    if not isinstance(result, Tracer) and result == 0:
        refuse(caller, name, found(value), "a finite number above 0", ValueError)
    return result


def whole(
    caller: str,
    name: str,
    value: Any,
    *,
    least: int = 0,
    most: int = _MOST_ITERATIONS,
    or_none: bool = False,
    or_infinite: bool = False,
) -> Any:
    """Return a whole number from `least` to `most` as an `int`; a traced one as it is.

    `1024.0` is a whole number, and `True` is not.

    Raises:
        TypeError: if `value` is not a whole number.
        ValueError: if it is out of range.
    """
    # The largest integers of 32 and 64 bits are told only to those who exceed them.
    is_told = most < _MOST_ITERATIONS or (isinstance(value, int) and value > most)
    expected = f"a whole number, at least {least}" + (f", at most {most}" if is_told else "")
    expected += (", or infinity" if or_infinite else "") + (", or None" if or_none else "")
    if (value is None and or_none) or _is_traced_scalar(value, np.integer, np.floating):
        return value
    scalar = _scalar(value)
    if or_infinite and scalar == np.inf:
        return scalar
    if scalar is None:
        refuse(caller, name, found(value), expected, TypeError)
    if isinstance(scalar, float) and math.isfinite(scalar) and scalar != int(scalar):
        refuse(caller, name, f"is {scalar!r}", expected, TypeError)
    if not least <= scalar <= most:
        refuse(caller, name, f"is {reprlib.repr(scalar)}", expected, ValueError)
    return int(scalar)


def flag(caller: str, name: str, value: Any) -> bool:
    """Return a yes or no; 0 and 1 are taken for what they mean.

    Raises:
        TypeError: if `value` is neither.
    """
    if isinstance(value, (np.ndarray, jax.Array)) and not isinstance(value, Tracer):
        value = value.item() if value.ndim == 0 else value
    if isinstance(value, (bool, np.bool_)) or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    refuse(caller, name, found(value), "True or False", TypeError)


def choice(caller: str, name: str, value: Any, choices: tuple[str, ...]) -> str:
    """Return one of some words.

    Raises:
        ValueError: if `value` is none of them.
    """
    if not isinstance(value, str) or value not in choices:
        refuse(caller, name, found(value), f"one of {choices}", ValueError)
    return value


def instance(
    caller: str, name: str, value: Any, kind: type | tuple[type, ...], expected: str
) -> Any:
    """Return an object of some class.

    Raises:
        TypeError: if `value` is of another one.
    """
    if not isinstance(value, kind):
        refuse(caller, name, found(value), expected, TypeError)
    return value


def path(caller: str, name: str, value: Any) -> Path:
    """Return the path of a file or folder.

    Raises:
        TypeError: if `value` is neither a string nor a path.
    """
    kinds = (str, os.PathLike)
    return Path(instance(caller, name, value, kinds, "a path, as a str or a pathlib.Path"))


def function(caller: str, name: str, value: Any) -> Callable[..., Any] | None:
    """Return a function to call back, or `None`.

    Raises:
        TypeError: if `value` cannot be called.
    """
    if value is not None and not callable(value):
        refuse(caller, name, found(value), "a function or None", TypeError)
    return value


def devices(caller: str, value: Any, *, or_local: bool = True) -> Any:
    """Return a `mesh`: `None`, a mesh or, where that is allowed, the word `"local"`.

    Raises:
        TypeError: if `value` is none of these.
    """
    local = or_local and isinstance(value, str) and value == "local"
    if value is not None and not local and not isinstance(value, Mesh):
        expected = 'a jax.sharding.Mesh, "local" or None' if or_local else "a Mesh or None"
        refuse(caller, "mesh", found(value), expected, TypeError)
    return value


def seed(caller: str, name: str, value: Any) -> int:
    """Return the seed of a random key.

    Raises:
        TypeError: if `value` is not a whole number.
        ValueError: if it does not fit into 64 bits.
    """
    return whole(caller, name, value, least=-(2**63), most=2**63 - 1)


def random_key(caller: str, value: Any) -> Any:
    """Return one JAX random key, new style or old.

    Raises:
        TypeError: if `value` is not one.
    """
    if isinstance(value, (jax.Array, np.ndarray)):
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key) and value.ndim == 0:
            return value
        if value.dtype == np.uint32 and value.ndim == 1:
            return jnp.asarray(value)
    refuse(caller, "key", found(value), "one random key, such as jax.random.key(0)", TypeError)


def fields(caller: str, fps: Any, kind: type, *names: str) -> None:
    """Check that `fps` are fixed points, of class `kind`, that have some fields.

    Raises:
        TypeError: if `fps` is of another class.
        ValueError: if a field is missing.
    """
    instance(caller, "fps", fps, kind, "a slowpoints.FixedPoints")
    for name in names:
        if getattr(fps, name) is None:
            refuse(caller, f"fps.{name}", "is None", f"the points' {name}", ValueError)


# ---- arrays --------------------------------------------------------------------------------------

Axes = tuple[str | int, ...]
"""A shape that is expected: names for axes of any length, numbers for those of one."""

TO_VECTORS = (
    "; `slowpoints.as_transition(model).flatten` makes such vectors of states in the model's own "
    "form"
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


def as_array(caller: str, name: str, value: Any, *, floating: bool, expected: str) -> Any:
    """Return the real numbers that `value` holds, whatever their shape: see `array`."""
    given = value
    if isinstance(value, np.ma.MaskedArray):
        if np.ma.is_masked(value):
            was = f"has {np.ma.count_masked(value)} masked entries"
            refuse(caller, name, was, f"{expected}, none of them masked", ValueError)
        value = np.asarray(value)
    if not _is_array(value):
        value = _from_lists(caller, name, value, expected)
    dtype = value.dtype
    real = jnp.issubdtype(dtype, np.floating) and dtype.itemsize <= 8
    whole_numbers = jnp.issubdtype(dtype, np.integer) or jnp.issubdtype(dtype, np.bool_)
    if not real and (floating or not whole_numbers):
        kind = "floating-point numbers, of float32 or float64" if floating else expected
        was = f"has dtype {dtype}" if _is_array(given) else found(given)
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
    result = value if _is_array(value) else _from_lists(caller, name, value, expected)
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
            "; to search from each state under each of several inputs, see slowpoints.input_grid"
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


def _is_array(value: Any) -> bool:
    return isinstance(value, (np.ndarray, np.generic, jax.Array))


def _is_traced_scalar(value: Any, *kinds: type) -> bool:
    if not isinstance(value, Tracer) or np.ndim(value):
        return False
    return any(jnp.issubdtype(value.dtype, kind) for kind in kinds)


def _scalar(value: Any) -> Any:
    """Return a real number as Python has it; `None` for anything else, such as a boolean."""
    value = without_torch(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    if not _is_array(value) or isinstance(value, Tracer) or np.ndim(value):
        return None
    value = np.asarray(value)
    real = jnp.issubdtype(value.dtype, np.floating) or jnp.issubdtype(value.dtype, np.integer)
    return value.item() if real else None


def without_torch(value: Any) -> Any:
    """Return a tensor of PyTorch as a NumPy array of the same type, and anything else as it is.

    The tensor may be part of a graph, which is left behind, and on any device.
    """
    loaded = sys.modules.get("torch")  # without which there can be no tensor
    if not isinstance(value, getattr(loaded, "Tensor", ())):
        return value
    tensor = value.detach().cpu().resolve_conj().resolve_neg()
    if str(tensor.dtype) == "torch.bfloat16":  # which NumPy itself does not have
        return tensor.float().numpy().astype(jnp.bfloat16)
    return tensor.numpy()
