"""The check that points can be used in a computation."""

import jax

from slowpoints._core import arguments
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._transition.base import Transition
from slowpoints._transition.check import check_transition


def check_points(caller: str, F: Transition, fps: FixedPoints) -> None:
    """Check that `fps` can be used in a computation, and that `F` maps such states to states."""
    arguments.array(caller, "fps.xstar", fps.xstar, ("n", "n_states"), floating=True)
    arguments.array(caller, "fps.inputs", fps.inputs, ("n", "n_inputs"), finite=True)
    arguments.check_precision(caller, "fps.xstar", fps.xstar.dtype)
    dtype = jax.dtypes.canonicalize_dtype(fps.xstar.dtype)
    sizes = fps.n_states, fps.n_inputs
    check_transition(caller, F, *sizes, dtype, states="fps.xstar", inputs="fps.inputs")
