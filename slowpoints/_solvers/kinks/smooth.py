"""`may_have_kinks`: whether all operations of a network are known to be smooth."""

import jax.numpy as jnp
import numpy as np

from slowpoints._network.base import Transition
from slowpoints._network.network import programs_of
from slowpoints._network.program import CALLS, Line


def may_have_kinks(F: Transition) -> bool:
    """Return whether slopes of a traced transition may jump: `False` only if none can.

    An operation that is not known to be smooth counts as one with kinks, such as a choice between
    two numbers, which may be alike where the choice changes.
    """
    programs = programs_of(F)
    return not programs or any(map(_may_be_kinked, (x for p in programs for x in p.all_lines())))


def _may_be_kinked(line: Line) -> bool:
    from_real, to_real = (
        any(dtype is not None and jnp.issubdtype(dtype, np.inexact) for dtype in dtypes)
        for dtypes in (line.dtypes, line.out_dtypes)
    )
    if not to_real:  # a place in an array, such as that of the largest number
        return from_real and any(jnp.issubdtype(dtype, np.integer) for dtype in line.out_dtypes)
    made_real = line.primitive.name == "convert_element_type" and not from_real
    return line.primitive.name not in SMOOTH or made_real


SMOOTH = frozenset(
    (
        *CALLS,
        *("scan", "custom_jvp_call", "custom_linear_solve", "stop_gradient", "copy", "copy_p"),
        *("add", "sub", "mul", "div", "neg", "add_any", "dot_general", "conv_general_dilated"),
        *("exp", "exp2", "expm1", "log", "log1p", "sqrt", "rsqrt", "cbrt", "square", "integer_pow"),
        *("pow", "tanh", "logistic", "erf", "erfc", "erf_inv", "lgamma", "digamma"),
        *("sin", "cos", "tan", "asin", "acos", "atan", "atan2"),
        *("sinh", "cosh", "asinh", "acosh", "atanh"),
        *("reduce_sum", "cumsum", "reduce_prod", "cumprod"),
        *(
            "one_minus_square",
            "stack",
            "unstack",
            "broadcast_in_dim",
            "reshape",
            "transpose",
            "squeeze",
            "expand_dims",
            "concatenate",
        ),
        *("slice", "dynamic_slice", "dynamic_update_slice", "gather", "scatter", "scatter-add"),
        *("pad", "rev", "split", "convert_element_type", "real", "imag", "complex", "conj"),
        *("iota", "triangular_solve", "cholesky", "lu"),
    )
)
"""Operations on numbers whose results have no kinks where they are finite."""
