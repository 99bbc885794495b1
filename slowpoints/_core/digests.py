"""Digests and texts that tell whether two arrays or settings are the same, in any process."""

import dataclasses
import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


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


def setting_as_text(value: Any) -> str:
    """Return a text that is equal for equal settings; for a solver, it lists all settings."""
    if dataclasses.is_dataclass(value):
        fields = (field.name for field in dataclasses.fields(value))
        settings = (f"{name}={setting_as_text(getattr(value, name))}" for name in fields)
        return f"{type(value).__name__}({', '.join(settings)})"
    # 1 and 1.0 are one number, however they are written.
    is_number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    return repr(float(value)) if is_number else repr(value)
