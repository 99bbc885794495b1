"""`traced_for`: the network that points belong to."""

import jax

from slowpoints._core import arguments
from slowpoints._network.base import Transition
from slowpoints._network.trace import traced
from slowpoints._points.fixed_points import FixedPoints


def traced_for(caller: str, F: Transition, fps: FixedPoints) -> Transition:
    """Return `F`, traced for states and inputs like those of `fps`.

    Raises:
        ValueError: if `fps` cannot be used in a computation, or `F` does not map such states to
            states.
        TypeError: if the states are not real numbers, or in half precision.
    """
    arguments.array(caller, "fps.xstar", fps.xstar, ("n", "n_states"), floating=True)
    arguments.array(caller, "fps.inputs", fps.inputs, ("n", "n_inputs"), finite=True)
    arguments.check_precision(caller, "fps.xstar", fps.xstar.dtype)
    dtype = jax.dtypes.canonicalize_dtype(fps.xstar.dtype)
    sizes = fps.n_states, fps.n_inputs
    return traced(caller, F, *sizes, dtype, states="fps.xstar", inputs="fps.inputs")
