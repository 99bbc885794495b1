"""`linear_modes`: what each mode of the linearised dynamics reads and does, and for how long."""

from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.core import Tracer
from jaxtyping import Bool, Complex, Float, Int

from slowpoints._core import arguments
from slowpoints._core.types import Number, RealArray
from slowpoints._linear_algebra import linear_dynamics
from slowpoints._linear_algebra.cores import one_thread_for_lapack
from slowpoints._linear_algebra.signs import units_of_points
from slowpoints._linear_algebra.spectra import square_jacobians
from slowpoints._modes.eigenvectors import modes_of
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.jacobians import jacobians

SLOW_STEPS = 10.0
"""A mode is slow, unless told otherwise, if it lasts ten steps (or units of time) or more: it then
outlives what a unit with a leak of the usual 0.1 to 0.5 in each step holds by itself."""


class LinearModes(eqx.Module):
    """The modes at each of `n` points: see [`linear_modes`][slowpoints.linear_modes].

    `N` states, `M` inputs, `K` readouts. Times are in units of `dt`. NaN at points whose Jacobian
    is not finite.

    Attributes:
        eigenvalues: `[n, N]` of the Jacobian, the slowest mode first: the one nearest the unit
            circle, or in continuous time of real part nearest 0, whether it grows or decays.
        time_constants: `[n, N]` the time in which a deviation decays by a factor of e; negative if
            it grows.
        frequencies: `[n, N]` how often it turns, in cycles per unit of time.
        right: `[n, N, N]` right eigenvectors of norm 1, in columns: the pattern of each mode.
        left: `[n, N, N]` left eigenvectors, in rows: what each mode reads from a deviation. Row
            `k` times column `k` of `right` is 1, and times any other column 0. Its norm is the
            condition number of the eigenvalue: 1 if the mode is orthogonal to all others, else
            larger. NaN for an eigenvalue that is defective.
        is_real: `[n]` whether the slowest mode has a real eigenvalue.
        direction: `[n, N]` the right eigenvector of the slowest mode, if it is real; else NaN.
        selection: `[n, N]` its left eigenvector, the selection vector; else NaN.
        plane: `[n, N, 2]` the plane of the slowest mode in columns, if it is one of a complex pair:
            the real and the imaginary part of its right eigenvector, which are the longer and the
            shorter half-axis of the ellipse on which the state turns; else NaN.
        selection_plane: `[n, 2, N]` what the slowest mode of a complex pair reads, in rows, so that
            `selection_plane @ plane` is the identity; else NaN.
        input_overlap: `[n, N, M]` by how much each input excites each mode, `left @ dFdu`; `None`
            if the points have no `dFdu`.
        input_angle: `[n, M]` the angle in degrees between what the slowest mode reads and the
            effect of each input, `dFdu[:, m]`: from 0 to 180 to the selection vector, or from 0 to
            90 to the selection plane. At 90, the input does not reach the mode. NaN for an input
            without effect; `None` without `dFdu`.
        readout_overlap: `[n, N, K]` by how much each mode moves each output, `readout.T @ right`;
            `None` without `readout`.
        readout_angle: `[n, K]` the angle in degrees between the slowest mode and each column of
            `readout`, as for inputs; `None` without `readout`.
        henrici: `[n]` Henrici's departure from normality, the root of the difference between the
            squared Frobenius norm of `J` and the sum of its squared `|eigenvalues|` (Henrici 1962).
            0 for a normal matrix, whose modes are orthogonal; up to rounding, which is 1e-8 of the
            norm.
        numerical_abscissa: `[n]` the largest eigenvalue of the symmetric part of `J - I` (in
            continuous time of `J`): the rate, per unit of time, at which some deviation grows at
            first, although all may decay in the end (Trefethen & Embree 2005, ch. 14).
        n_unstable: `[n]` how many modes grow; -1 if the Jacobian is not finite, or if modes are
            defective and rounding may have moved them across the edge of stability. In chains of
            units that drive one another, as in a feedforward network, it moves them far.
        n_slow: `[n]` how many modes last at least `slow` units of time; -1 if the Jacobian is not
            finite.
        unstable_dimension: `[n]` how many dimensions these modes take up: the participation ratio
            of the squared singular values of their right eigenvectors. It is `n_unstable` if the
            vectors are orthogonal, and less if they are alike.
        slow_dimension: `[n]` the same of the slow modes.
        longest: `[n]` how long modes last, at least, that rounding does not tell from neutral ones;
            from the precision of the Jacobians.
    """

    eigenvalues: Complex[np.ndarray, "n d"]
    time_constants: Float[np.ndarray, "n d"]
    frequencies: Float[np.ndarray, "n d"]
    right: Complex[np.ndarray, "n d d"]
    left: Complex[np.ndarray, "n d d"]
    is_real: Bool[np.ndarray, " n"]
    direction: Float[np.ndarray, "n d"]
    selection: Float[np.ndarray, "n d"]
    plane: Float[np.ndarray, "n d 2"]
    selection_plane: Float[np.ndarray, "n 2 d"]
    input_overlap: Complex[np.ndarray, "n d m"] | None
    input_angle: Float[np.ndarray, "n m"] | None
    readout_overlap: Complex[np.ndarray, "n d k"] | None
    readout_angle: Float[np.ndarray, "n k"] | None
    henrici: Float[np.ndarray, " n"]
    numerical_abscissa: Float[np.ndarray, " n"]
    n_unstable: Int[np.ndarray, " n"]
    n_slow: Int[np.ndarray, " n"]
    unstable_dimension: Float[np.ndarray, " n"]
    slow_dimension: Float[np.ndarray, " n"]
    longest: Float[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.eigenvalues)

    def __str__(self) -> str:
        return "\n".join(self._line(row) for row in range(len(self))) or "No points."

    def _line(self, row: int) -> str:
        if not self.eigenvalues.shape[1] or np.isnan(self.eigenvalues[row, 0]):
            return f"{row}: the Jacobian is not finite."
        lasts = linear_dynamics.lasting(self.time_constants[row, 0], self.longest[row])
        text = f"{row}: the slowest mode lasts {lasts}"
        if not self.is_real[row]:
            text += f" and turns {self.frequencies[row, 0]:.3g} times per unit of time"
        for name, angle in (("inputs", self.input_angle), ("readouts", self.readout_angle)):
            if angle is not None and angle.shape[1]:
                text += f"; angles to {name}: {', '.join(f'{a:.0f}' for a in angle[row])}"
        return f"{text}; {self.n_slow[row]} slow, {self.n_unstable[row]} unstable."


def linear_modes(
    fps: FixedPoints,
    F: Any = None,
    *,
    readout: Float[RealArray, "n_states k"] | None = None,
    toward: Float[RealArray, " n_states"] | None = None,
    slow: Number | None = None,
    dt: Number = 1.0,
) -> LinearModes:
    """Return what each mode of the linearised dynamics reads, what it does and how long it lasts.

    A deviation `e` from the point, or the effect `dFdu @ v` of an input `v`, excites a mode by its
    product with the mode's left eigenvector, the *selection vector* (Mante et al. 2013), and moves
    the state along the right eigenvector. They are scaled as there: the right eigenvector `r` has
    norm 1, and the left one, `l`, the product `l @ r = 1`.

    The mode that a mechanism is usually read from, the slowest one, is chosen: the eigenvalue of a
    map that is nearest the unit circle, of smallest `|log|lambda||`, or that of a flow whose real
    part is nearest 0, whether deviations grow or decay. Its vectors are real. If its eigenvalue is
    one of a complex pair, there is no single vector, and its real plane is given instead.

    Signs are chosen as well: the largest entry of a right eigenvector is positive, or, given
    `toward`, its product with `toward`. The second keeps the vectors of neighbouring points alike,
    as along a line attractor, where different entries may be the largest. Eigenvectors of a pair
    are rotated so that their real part is the longer half-axis of the ellipse on which the state
    turns, with the sign as above.

    Everything is computed on the host in float64, from the Jacobians as they are. Not inside `jit`:
    there, the methods of [`FixedPoints`][slowpoints.FixedPoints] give the numbers themselves.

    Args:
        fps: points with `J_xstar` and, for the inputs, `dFdu`; or, given `F`, with `xstar` and
            `inputs`.
        F: the transition, or anything that [`as_transition`][slowpoints.as_transition] takes, for
            points without `J_xstar` or `dFdu`.
        readout: `[n_states, k]` the weights of the outputs, in columns: `outputs = x @ readout`.
        toward: `[n_states]` what right eigenvectors point towards, such as a column of `readout`.
        slow: how long a mode lasts that counts as slow, in units of `dt`; by default 10 steps (in
            continuous time, 10 units of time).
        dt: how long a step takes (in continuous time, a unit of time of `f`), such as 10 for steps
            of 10 ms. All times and rates are then in the unit of `dt`.

    Returns:
        The modes of all rows of `fps`, invalid ones included.

    Raises:
        TypeError: if an argument is of the wrong kind, or is traced.
        ValueError: if `fps` has no Jacobians and `F` is not given, if an array has the wrong shape
            or is not finite, or if a number is out of range.
    """
    caller = "linear_modes"
    arguments.fields(caller, fps, FixedPoints)
    dt = float(arguments.positive(caller, "dt", dt))
    slow = arguments.number(caller, "slow", slow, or_none=True)
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(fps)):
        arguments.refuse(caller, "fps", "is traced", "to be called outside of `jit`", TypeError)
    if F is not None and (fps.J_xstar is None or fps.dFdu is None):
        fps = jacobians(F, fps)
    if fps.J_xstar is None:
        expected = "the points' Jacobians: call `jacobians(F, fps)` first, or give `F`"
        arguments.refuse(caller, "fps.J_xstar", "is None", expected, ValueError)
    J = np.asarray(square_jacobians(caller, fps.J_xstar))
    eps, J = float(np.finfo(J.dtype).eps), np.asarray(J, np.float64)
    d = J.shape[1]
    if d == 0:
        was = f"has shape {J.shape}"
        arguments.refuse(caller, "fps.J_xstar", was, "at least one state", ValueError)
    if fps.xstar is not None:
        arguments.array(caller, "fps.xstar", fps.xstar, (len(J), d))
    if readout is not None:
        readout = arguments.array(caller, "readout", readout, (d, "k"), finite=True)
        readout = np.asarray(readout, np.float64)
    if toward is not None:
        n_outputs = None if readout is None else readout.shape[1]
        toward = arguments.direction(caller, toward, d, fps.n_inputs, n_outputs)
        toward = np.asarray(toward, np.float64)
    dFdu = None if fps.dFdu is None else np.asarray(fps.dFdu, np.float64)
    slow = SLOW_STEPS * dt if slow is None else float(slow)
    with one_thread_for_lapack():  # several take longer for matrices of a few hundred rows
        unit = units_of_points(fps)
        return _modes(J, unit, dFdu, readout, toward, slow, dt, fps.continuous_time, eps)


def _modes(
    J: Float[np.ndarray, "n d d"],
    unit: Float[np.ndarray, " d"],
    dFdu: Float[np.ndarray, "n d m"] | None,
    readout: Float[np.ndarray, "d k"] | None,
    toward: Float[np.ndarray, " d"] | None,
    slow: float,
    dt: float,
    flow: bool,
    eps: float,
) -> LinearModes:
    finite = np.asarray(np.isfinite(J).all(axis=(1, 2)))
    known = np.where(finite[:, None, None], J, 0.0)
    values, right, left, may_be_neutral = modes_of(known, unit, toward, flow)
    unknown = ~finite
    values[unknown], right[unknown], left[unknown] = np.nan, np.nan, np.nan
    tau = dt * np.asarray(linear_dynamics.time_constants(values, flow))
    grows, lasts = np.asarray(linear_dynamics.grow(values, flow)), np.abs(tau) >= slow
    first_right, first_left = right[:, :, :1], left[:, :1]
    is_real = finite & (np.imag(values[:, :1]) == 0).all(axis=1)
    real, pair = is_real[:, None], (finite & ~is_real)[:, None, None]
    plane = np.concatenate([np.real(first_right), np.imag(first_right)], axis=2)
    read = np.concatenate([2 * np.real(first_left), -2 * np.imag(first_left)], axis=1)
    chosen = (
        np.where(real, np.real(first_right[:, :, 0]), np.nan),
        np.where(real, np.real(first_left[:, 0]), np.nan),
        np.where(pair, plane, np.nan),
        np.where(pair, read, np.nan),
    )
    reads = (chosen[1], np.swapaxes(chosen[3], 1, 2))
    moves = (chosen[0], chosen[2])
    every = None if readout is None else np.broadcast_to(readout, (len(J), *readout.shape))
    rate_unit = dt if flow else 1.0
    return LinearModes(
        values,
        tau,
        np.asarray(linear_dynamics.frequencies(values, flow)) / dt,
        right,
        left,
        is_real,
        *chosen,
        input_overlap=None if dFdu is None else left @ dFdu,
        input_angle=None if dFdu is None else _angles(*reads, dFdu),
        readout_overlap=None if every is None else np.swapaxes(right, 1, 2) @ every,
        readout_angle=None if every is None else _angles(*moves, every),
        henrici=_henrici(J, values) / rate_unit,
        numerical_abscissa=_numerical_abscissa(known, finite, flow) / dt,
        n_unstable=np.where(finite & ~may_be_neutral, grows.sum(axis=1), -1),
        n_slow=np.where(finite, lasts.sum(axis=1), -1),
        unstable_dimension=_participation(right, grows),
        slow_dimension=_participation(right, lasts),
        longest=dt * linear_dynamics.longest_time(values, flow, eps),
    )


def _angles(
    vector: Float[np.ndarray, "n d"],
    plane: Float[np.ndarray, "n d 2"],
    columns: Float[np.ndarray, "n d m"],
) -> Float[np.ndarray, "n m"]:
    """Return the angles of columns, in degrees, to a vector, or where that is NaN to a plane."""
    size = np.linalg.norm(columns, axis=1)
    columns = columns / np.where(size > 0, size, np.nan)[:, None]
    unit = vector / np.linalg.norm(vector, axis=1, keepdims=True)
    to_vector = np.einsum("nd,ndm->nm", unit, columns)
    of_pair = np.asarray(np.isfinite(plane).all(axis=(1, 2)))
    basis, _ = np.linalg.qr(np.where(of_pair[:, None, None], plane, 0.0))
    to_plane = np.linalg.norm(np.swapaxes(basis, 1, 2) @ columns, axis=1)
    cosine = np.where(of_pair[:, None], to_plane, to_vector)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def _henrici(
    J: Float[np.ndarray, "n d d"], values: Complex[np.ndarray, "n d"]
) -> Float[np.ndarray, " n"]:
    square = np.sum(J**2, axis=(1, 2)) - np.sum(np.abs(values) ** 2, axis=1)
    return np.sqrt(np.maximum(square, 0))


def _numerical_abscissa(
    J: Float[np.ndarray, "n d d"], finite: Bool[np.ndarray, " n"], flow: bool
) -> Float[np.ndarray, " n"]:
    rates = J if flow else J - np.eye(J.shape[1])
    growth = np.linalg.eigvalsh((rates + np.swapaxes(rates, 1, 2)) / 2)
    return np.where(finite, growth[:, -1], np.nan)


def _participation(
    right: Complex[np.ndarray, "n d d"], chosen: Bool[np.ndarray, "n d"]
) -> Float[np.ndarray, " n"]:
    """Return the participation ratio of the squared singular values of the chosen vectors."""
    basis = np.where(chosen[:, None, :], right, 0)
    squares = np.swapaxes(basis.conj(), 1, 2) @ basis
    total = np.real(np.trace(squares, axis1=1, axis2=2))
    size = np.sum(np.abs(squares) ** 2, axis=(1, 2))
    ratio = np.where(size > 0, total**2 / np.where(size > 0, size, 1), 0.0)
    return np.where(np.isnan(right).any(axis=(1, 2)), np.nan, ratio)
