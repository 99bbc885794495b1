"""`certify`: a proof for each point that there is exactly one fixed point near it."""

from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from slowpoints._core import arguments
from slowpoints._intervals.certificates import Certificates, certificates_of
from slowpoints._network.as_transition import as_transition
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.traced import traced_for


def certify(F: Any, fps: FixedPoints) -> Certificates:
    """Prove for each point that there is one fixed point near it, and no other.

    Newton's method is run in float64 from each `xstar`, and Krawczyk's test (Krawczyk 1969) then
    decides in ball arithmetic whether there is exactly one fixed point in a box around where it
    ends. All rounding is accounted for, that of `exp` and `tanh` included, so what is certified is
    certain, up to defects of the machine, of NumPy's sums, products and quotients, and of this
    code. Stability is decided likewise, by Gershgorin's discs or norms of powers.

    The proof is about the network in real arithmetic with the weights as they are stored. A search
    in float32 rounds each step, and may call a point stable or not for another reason.

    The proof covers networks made of sums, products, `tanh`, `sigmoid`, `exp`, `log`, `relu`,
    `softplus`, square roots, sines, maxima, and operations that only move numbers; layers, gates,
    normalisations and loops of fixed length consist of these. If a network contains anything else,
    no point is certified, and `reason` says what it is.

    Runs on the host, not inside `jit`, and compiles nothing.

    Args:
        F: the transition, or anything that [`as_transition`][slowpoints.as_transition] takes.
        fps: points with `xstar` and `inputs`. Invalid rows are not certified.

    Returns:
        What is proven, row by row.

    Raises:
        TypeError: if `F` is not of a known kind, `fps` is not a `FixedPoints`, or `fps` is traced.
        ValueError: if `fps` has no `xstar` or no `inputs`, or `F` does not map such states to
            states.
    """
    F = as_transition(F)
    arguments.fields("certify", fps, FixedPoints, "xstar", "inputs")
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((F, fps))):
        arguments.refuse("certify", "fps", "is traced", "to be called outside of `jit`", TypeError)
    F = traced_for("certify", F, fps)
    if fps.n_states == 0:
        was = f"has shape {tuple(fps.xstar.shape)}"
        arguments.refuse("certify", "fps.xstar", was, "at least one state", ValueError)
    x = np.asarray(fps.xstar)
    inputs = np.asarray(fps.inputs).astype(x.dtype)
    valid = None if fps.valid is None else np.array(fps.valid, bool)
    return certificates_of(F, x, inputs, fps.tol_unique, valid)
