"""Digests and texts that tell whether two models, arrays or settings are the same."""

import dataclasses
import hashlib
import re
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal  # pyright: ignore[reportPrivateImportUsage]

from slowpoints._transition.base import Transition


def digest_of_arrays(*arrays: Any) -> str:
    """Return the SHA-256 of the values, shapes and types of arrays, which may also be `None`."""
    digest = hashlib.sha256()
    for array in arrays:
        if isinstance(array, jax.Array) and jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
            array = jax.random.key_data(array)
        value = np.asarray(array) if array is not None else None
        digest.update(b"none" if value is None else f"{value.dtype} {value.shape};".encode())
        digest.update(b"" if value is None else np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


def digest_of_model(F: Transition, n_states: int, n_inputs: int, dtype: Any) -> str:
    """Return the SHA-256 of what a transition computes, and of its parameters.

    The digest is the same in another process and on another kind of device. It covers the leaves,
    the arrays that the code closes over, and the operations as JAX traces them, so another version
    of JAX may give another digest. It does not cover what a callback to the host does.
    """
    parameters, structure = eqx.partition(F, eqx.is_array)

    def step(parameters: Any, x: jax.Array, u: jax.Array) -> jax.Array:
        return eqx.combine(parameters, structure)(x, u)

    x, u = (jax.ShapeDtypeStruct((n,), dtype) for n in (n_states, n_inputs))
    traced = jax.make_jaxpr(step)(parameters, x, u)
    constants = digest_of_arrays(*jax.tree.leaves(parameters), *constants_of(traced))
    return hashlib.sha256(f"{operations_of(traced)}\n{constants}".encode()).hexdigest()


def setting_as_text(value: Any) -> str:
    """Return a text that is equal for equal settings; for a solver, it lists all settings."""
    if dataclasses.is_dataclass(value):
        fields = (field.name for field in dataclasses.fields(value))
        settings = (f"{name}={setting_as_text(getattr(value, name))}" for name in fields)
        return f"{type(value).__name__}({', '.join(settings)})"
    # 1 and 1.0 are one number, however they are written.
    is_number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    return repr(float(value)) if is_number else repr(value)


def operations_of(traced: ClosedJaxpr) -> str:
    """Return the text of a traced function, the same for each trace of the same function."""
    return re.sub(r" at 0x\w+", "", str(traced))  # the functions' addresses in memory


def equations_of(jaxpr: Any) -> Iterator[Any]:
    """Yield the operations of a traced function, and of those that it calls."""
    for equation in jaxpr.eqns:
        yield equation
        for value in _parameters_of(equation):
            if _is_jaxpr(value):
                yield from equations_of(value)


def constants_of(jaxpr: Any) -> Iterator[Any]:
    """Yield the arrays in a traced function, and in those that it calls."""
    if isinstance(jaxpr, ClosedJaxpr):
        yield from jaxpr.consts
        jaxpr = jaxpr.jaxpr
    for equation in jaxpr.eqns:
        yield from (atom.val for atom in equation.invars if isinstance(atom, Literal))
        for value in _parameters_of(equation):
            if _is_jaxpr(value):
                yield from constants_of(value)
            elif eqx.is_array_like(value) and np.ndim(value):
                yield value


def _parameters_of(equation: Any) -> list[Any]:
    return jax.tree.leaves(list(equation.params.values()), is_leaf=_is_jaxpr)


def _is_jaxpr(value: Any) -> bool:
    return isinstance(value, (ClosedJaxpr, Jaxpr))
