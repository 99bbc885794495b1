"""`unique`: one representative per fixed point, by a greedy cover in the order of `q`."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Int, Shaped

from slowpoints._core import arguments
from slowpoints._core.arrays import beside, put, rows_of, with_library
from slowpoints._core.types import RealArray, Scalar
from slowpoints._network.as_transition import as_transition
from slowpoints._points.covering import cover, told_of_survivors
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.traced import traced_for
from slowpoints._points.unique_by_certificate import one_row_per_point


def unique(
    fps: FixedPoints,
    tol: Scalar | None = None,
    *,
    size: int | None = None,
    within_conditions: bool = False,
    by: Literal["distance", "certificate"] = "distance",
    F: Any = None,
) -> FixedPoints:
    """Mark one representative per fixed point.

    Two rows are the same point if their Euclidean distance in the joint `(xstar, inputs)` space,
    in float64, is at most `tol`. Rows are taken by rising `qstar`, and each is kept unless a row
    kept before is the same point. So the lowest `qstar` survives, survivors are more than `tol`
    apart, and every dropped row is within `tol` of a survivor. The order of the rows does not
    matter: if `qstar` ties or is missing, the points themselves decide. Rows that are invalid or
    not finite never survive, and drop no others.

    With `by="certificate"`, [`certify`][slowpoints.certify] decides first: two rows are the same
    point, however far apart, if they are proven to be at the same fixed point, and two points,
    however close, if they are proven to be at two. The distance decides where nothing is proven,
    as between slow points. This is done on the host, not inside `jit`.

    Runs inside `jit` and `vmap`, in memory proportional to the rows. All fields but `valid`, `hits`
    and `status` are passed on as they are, and gradients reach them; the choice of the rows has
    none.

    Args:
        fps: `n` rows with `xstar` `[n, N]` and, optionally, `inputs` `[n, M]`, `qstar` `[n]` and
            `valid` `[n]`.
        tol: the largest distance at which two rows count as one point; by default `fps.tol_unique`.
            Unless it is traced, the result carries it as its `tol_unique`.
        size: return exactly this many rows: the survivors of lowest `qstar`, best first, padded
            with copies of the best that are marked invalid (with zeros if there are no rows).
        within_conditions: compare only rows with the same `cond_id`, so that each condition keeps
            its own points, however close its input is to another's.
        by: what tells rows apart, `"distance"` or `"certificate"`.
        F: the transition, or anything that [`as_transition`][slowpoints.as_transition] takes, for
            certificates.

    Returns:
        The same rows with a new `valid` `[n]`; or, given `size`, the best `size` survivors. `hits`
        `[n]` counts the rows that each survivor stands for: itself and those dropped for it, or
        their own `hits` if `fps` has them; 0 for other rows. The `status` of a survivor is the most
        certain one of these rows: a point is a fixed point if one of them is known to be at it.

    Raises:
        TypeError: if an argument is of the wrong kind, or `by="certificate"` and one is traced.
        ValueError: if `xstar` is missing, `tol` is negative or NaN, `size` is negative, or
            `within_conditions` is set and `cond_id` is missing, `by` is another word, or
            `by="certificate"` and `F` or `inputs` is missing.
    """
    arguments.fields("unique", fps, FixedPoints, "xstar")
    size = arguments.whole("unique", "size", size, or_none=True)
    tol = fps.tol_unique if tol is None else arguments.number("unique", "tol", tol)
    within_conditions = arguments.flag("unique", "within_conditions", within_conditions)
    arguments.choice("unique", "by", by, ("distance", "certificate"))
    condition = condition_numbers(fps) if within_conditions else None
    if not isinstance(tol, Tracer):
        fps = fps.replace(tol_unique=tol)
    if fps.n == 0:
        fps = fps.replace(hits=np.zeros(0, np.int32))
    elif by == "certificate":
        return _by_certificate(F, fps, tol, size, condition)
    # Rows that are stored in float64 stay in float64.
    with jax.enable_x64(True):
        if fps.n == 0:
            return fps if size is None else _blank(fps, size)
        owner, ranking, n_survivors = cover(
            fps.xstar, fps.inputs, fps.qstar, fps.valid, put(tol, np.float64), condition
        )
        survives, hits, status = (
            a if a is None else beside(a, fps.xstar)
            for a in told_of_survivors(owner, fps.hits, fps.status)
        )
        fps = fps.replace(hits=hits, status=status)
        if size is None:
            return fps.replace(valid=survives)
        return _take(fps, ranking, n_survivors, size)


def _by_certificate(
    F: Any, fps: FixedPoints, tol: Any, size: int | None, condition: Any
) -> FixedPoints:
    if F is None:
        arguments.refuse(
            "unique", "F", "is None", "the network, since `by` is 'certificate'", ValueError
        )
    F = as_transition(F)
    arguments.fields("unique", fps, FixedPoints, "xstar", "inputs")
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((F, fps, tol))):
        expected = "to be called outside of `jit`, since `by` is 'certificate'"
        arguments.refuse("unique", "fps", "is traced", expected, TypeError)
    if fps.n_states == 0:
        was = f"has shape {tuple(fps.xstar.shape)}"
        arguments.refuse("unique", "fps.xstar", was, "at least one state", ValueError)
    F = traced_for("unique", F, fps)
    owner = one_row_per_point(F, fps, tol, condition)
    survives, hits, status = told_of_survivors(owner, fps.hits, fps.status)
    fps = fps.replace(valid=survives, hits=hits, status=status)
    if size is None:
        return fps
    q = np.zeros(fps.n) if fps.qstar is None else np.asarray(fps.qstar)
    return _take(fps, np.lexsort((q, ~survives)), np.array(survives.sum()), size)


def condition_numbers(fps: FixedPoints) -> Shaped[RealArray, " n"]:
    """Return a number for each row, the same for rows with the same `cond_id`."""
    if fps.cond_id is None:
        raise ValueError(
            "unique: `fps.cond_id` is None; expected the points' conditions, since "
            "`within_conditions` is set."
        )
    if isinstance(fps.cond_id, np.ndarray):  # of any type, such as strings
        return np.unique(fps.cond_id, return_inverse=True)[1]
    return fps.cond_id


def _take(
    fps: FixedPoints, ranking: Int[RealArray, " padded"], n_survivors: Int[RealArray, ""], size: int
) -> FixedPoints:
    """Return the first `size` survivors, with copies of the best in the places left over."""
    xp, ranking, n_survivors = with_library(ranking, n_survivors)
    slots = xp.arange(size)
    valid = slots < n_survivors
    best = ranking if ranking.size else xp.zeros(1, int)  # where none survives, the first row
    rows = best[xp.where(valid, slots, 0)]
    taken = _map_fields(fps, lambda value: _at(value, rows))
    hits = xp.where(valid, _at(fps.hits, rows), 0)
    return taken.replace(valid=beside(valid, fps.xstar), hits=beside(hits, fps.xstar))


def _at(
    value: Shaped[RealArray, "n ..."], rows: Int[RealArray, " k"]
) -> Shaped[RealArray, "k ..."]:
    """Return rows; if `rows` is traced, as a traced array."""
    if isinstance(rows, Tracer) and not isinstance(value, Tracer):
        value = jnp.asarray(value)
    return rows_of(value, rows)


def _blank(fps: FixedPoints, size: int) -> FixedPoints:
    """Return `size` invalid rows of zeros with the fields of `fps`, which has no rows."""

    def zeros(value: Any) -> Any:
        xp = np if isinstance(value, np.ndarray) else jnp
        return xp.zeros((size, *value.shape[1:]), value.dtype)

    return _map_fields(fps, zeros).replace(valid=jnp.zeros(size, bool))


def _map_fields(fps: FixedPoints, fn: Callable[[Any], Any]) -> FixedPoints:
    """Apply `fn` to all fields but `valid`."""
    names = [name for name in FixedPoints.array_fields if name != "valid"]
    present = {name: value for name in names if (value := getattr(fps, name)) is not None}
    return fps.replace(valid=None, **{name: fn(value) for name, value in present.items()})
