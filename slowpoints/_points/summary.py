"""Summaries of points: a table with one column per quantity, and a few lines of text.

The functions take `FixedPoints`, whose methods call them.
"""

import textwrap
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Int, Num

from slowpoints._linear_algebra.linear_dynamics import (
    LINE_TOL,
    longest_time,
    rounded_turn,
    slowest,
)
from slowpoints._points.status import Status, counted, words

_WIDTH = 80  # of the lines of text, so that they fit into a terminal and a column of a page


def columns(fps: Any) -> dict[str, Any]:
    """Return the known quantities of each point, under the names in `FixedPoints.to_pandas`."""
    fps = fps.to_numpy()
    known: dict[str, Any] = {
        "condition": fps.cond_id,
        "status": None if fps.status is None else words(fps.status),
        "period": fps.period,
        "cycle_id": fps.cycle_id,
        "q": fps.qstar,
        "n_iters": fps.n_iters,
        "hits": fps.hits,
        "valid": fps.valid,
        "is_stable": fps.is_stable,
    }
    if fps.has_decomposed_jacobians and fps.eigval_J_xstar.shape[1] > 0:
        known |= {
            "type": fps.types(LINE_TOL),
            "index": fps.n_unstable(),
            "leading_eigenvalue": fps.eigval_J_xstar[:, 0],
            "time_constant": fps.time_constants()[:, 0],
            "frequency": fps.frequencies()[:, 0],
        }
        known |= _of_the_slowest(fps)
    return {name: value for name, value in known.items() if value is not None}


def order(fps: Any) -> Int[np.ndarray, " n"]:
    """Return the rows as a table has them: see `FixedPoints.sorted`."""
    fps = fps.to_numpy()
    unknown = np.zeros(fps.n)
    is_valid = np.ones(fps.n, bool) if fps.valid is None else fps.valid.astype(bool)
    condition = unknown if fps.cond_id is None else np.unique(fps.cond_id, return_inverse=True)[1]
    stable = unknown if fps.is_stable is None else fps.is_stable.astype(bool)
    index = fps.n_unstable() if fps.has_decomposed_jacobians else unknown
    q = unknown if fps.qstar is None else fps.qstar
    return np.lexsort((q, index, ~stable.astype(bool), condition, ~is_valid))


def _of_the_slowest(fps: Any) -> dict[str, np.ndarray]:
    """Return the eigenvalue, time constant and frequency of each slowest mode, NaN if not known."""
    values = fps.eigval_J_xstar
    known = slowest(values, fps.n_all_modes or values.shape[1], fps.continuous_time)
    place = np.asarray(known)[:, None]
    return {
        f"slowest_{name}": np.where(place < 0, np.nan, np.take_along_axis(column, place, 1))[:, 0]
        for name, column in (
            ("eigenvalue", values),
            ("time_constant", fps.time_constants()),
            ("frequency", fps.frequencies()),
        )
    }


def lines(fps: Any, max_rows: int, dt: float | None) -> Iterator[str]:
    """Yield the lines of `FixedPoints.print_summary`."""
    fps = fps.to_numpy()
    rows = np.arange(fps.n) if fps.valid is None else np.flatnonzero(fps.valid)
    n_invalid = fps.n - rows.size
    fps = fps.compact()
    status = np.full(fps.n, Status.FIXED_POINT) if fps.status is None else fps.status
    exact = status == Status.FIXED_POINT
    yield f"\n=== {'Fixed ' if exact.all() else ''}Points Summary ==="
    yield f"Number of fixed points: {exact.sum()}"
    if not exact.all():
        yield f"Points not known to be fixed points: {counted(status[~exact])}"
    if n_invalid:
        yield f"Rows that are not valid and are left out below: {n_invalid}"
    yield f"State dimension: {fps.n_states}"
    yield f"Input dimension: {fps.n_inputs}"
    if fps.n == 0:
        return
    yield ""
    if (q := fps.qstar) is not None:
        yield f"q values: min={q.min():.2e}, median={np.median(q):.2e}, max={q.max():.2e}"
    if (its := fps.n_iters) is not None:
        yield f"Iterations: min={its.min()}, median={np.median(its):.0f}, max={its.max()}"
    if fps.period is not None and (n_slow := np.sum(fps.period == 0)):
        yield f"Points that are on a slow cycle at most (period 0): {n_slow}"
    yield from _stability(fps[exact], "\nStable fixed points")
    if not exact.all():
        yield from _stability(fps[~exact], "\nOf the others, stable to first order")
    yield from _table(fps, rows, max_rows, dt)


def _stability(fps: Any, title: str) -> Iterator[str]:
    if fps.is_stable is not None:
        yield f"{title}: {np.sum(fps.is_stable)} / {fps.n}"
    if fps.at_kink is not None and (n_at_kinks := np.sum(fps.at_kink)):
        yield f"  {n_at_kinks} at a kink of the network, where this is true of one side"
    if fps.has_decomposed_jacobians:
        n_known = fps.eigval_J_xstar.shape[1]
        for index, count in zip(*np.unique(fps.n_unstable(), return_counts=True), strict=True):
            known = "an unknown number of" if index < 0 else str(index)
            if index == n_known and n_known != fps.n_all_modes:
                known += " or more"
            yield f"  {count} with {known} unstable direction(s)"


def _table(fps: Any, rows: np.ndarray, max_rows: int, dt: float | None) -> Iterator[str]:
    in_order = order(fps)[:max_rows]
    shown, rows = columns(fps[in_order]), rows[in_order]
    if fps.status is not None and (fps.status == Status.FIXED_POINT).all():
        del shown["status"]  # all rows have the same, as the first line says
    if "type" not in shown:
        return
    flow = fps.continuous_time
    step = 1.0 if dt is None else dt
    eigval = fps.eigval_J_xstar[in_order]
    of_points = longest_time(eigval, flow, float(np.finfo(eigval.dtype).eps))
    longest = float(np.min(of_points, where=~np.isnan(of_points), initial=np.inf))
    turn = rounded_turn(eigval)
    texts = _texts({"row": rows, **_written(shown, flow, step, longest, turn)})
    yield ""
    yield from _laid_out(texts)
    if fps.n > max_rows:
        yield f"... and {fps.n - max_rows} more"
    yield from textwrap.wrap(_meaning(texts, flow, dt, step * longest), _WIDTH)


def _written(
    shown: dict[str, Any], flow: bool, step: float, longest: float, turn: Any
) -> dict[str, Any]:
    """Return the columns of the table under their headings; `None` for one that is not known."""
    leading = shown["leading_eigenvalue"]

    def frequencies(name: str, eigval: Num[np.ndarray, " n"]) -> list[str]:
        # As `types` has it, what turns by no more than rounding does not turn.
        is_still = (np.abs(np.imag(eigval)) <= turn) & ((np.real(eigval) > 0) | flow)
        return _formatted(np.where(is_still, 0.0, shown[name] / step), ".3g")

    return {
        "condition": shown.get("condition"),
        "status": shown.get("status"),
        "period": shown.get("period"),
        "cycle": shown.get("cycle_id"),
        "type": shown["type"],
        "q": _formatted(shown["q"], ".1e") if "q" in shown else None,
        "hits": shown.get("hits"),
        "Re eigenvalue" if flow else "|eigenvalue|": _formatted(
            leading.real if flow else np.abs(leading), ".4g"
        ),
        "time\nconstant": _times(shown["time_constant"], step, longest),
        "frequency": frequencies("frequency", leading),
        "slowest\nmode": _times(shown["slowest_time_constant"], step, longest),
        "its\nfrequency": frequencies("slowest_frequency", shown["slowest_eigenvalue"]),
    }


def _texts(table: dict[str, Any]) -> dict[str, list[str]]:
    """Return the known columns as text, each below the two lines of its heading."""
    headings = {name: ["", *name.split("\n")][-2:] for name in table}
    return {
        name: [*headings[name], *map(str, value)]
        for name, value in table.items()
        if value is not None
    }


def _laid_out(texts: dict[str, list[str]]) -> Iterator[str]:
    """Yield the lines of the table."""
    widths = {name: max(map(len, text)) for name, text in texts.items()}
    for i in range(len(texts["type"])):
        line = (
            text[i].ljust(widths[name]) if name == "type" else text[i].rjust(widths[name])
            for name, text in texts.items()
        )
        yield "  ".join(line).rstrip()


def _meaning(texts: dict[str, list[str]], flow: bool, dt: float | None, longest: float) -> str:
    """Say what the columns mean; `longest` is in the unit of the time constants."""
    one, several = ("unit of time", "units of time") if flow else ("step", "steps")
    unit = several if dt is None else f"the unit of dt, in which one {one} is {dt:g}"
    meaning = (
        "The eigenvalue, the time constant and the frequency are those of the leading eigenvalue. "
        "The last two columns are the time constant and the frequency of the slowest mode. "
        f"Time constants are in {unit}, and are negative if deviations grow."
    )
    if "hits" in texts:
        meaning += " Hits are the starts that ended at the point."
    if str(Status.WITHIN_TOLERANCE) in texts.get("status", ()):
        meaning += (
            f" A point {Status.WITHIN_TOLERANCE} has a small q, but whether there is a fixed point "
            "next to it is not known."
        )
    if any(_IS_LONGER in text for name in _TIMES for text in texts[name]):
        meaning += (
            f" {_bound(longest)} is what rounding does not tell from infinity, nor a "
            "deviation that decays from one that grows."
        )
    if any("line direction" in kind for kind in texts["type"]):
        meaning += (
            f" A line direction has an eigenvalue within {LINE_TOL} of {0 if flow else 1}; types "
            "count it neither as stable nor as unstable, while the numbers of unstable directions "
            "above count it as one or the other."
        )
    return meaning


_TIMES, _IS_LONGER = ("time\nconstant", "slowest\nmode"), ">"


def _times(values: Any, step: float, longest: float) -> list[str]:
    """Write time constants; those that rounding does not tell from infinity as a bound."""
    texts = _formatted(step * values, ".4g")
    bound = _bound(step * longest)
    is_longer = np.abs(values) > longest
    return [bound if longer else text for text, longer in zip(texts, is_longer, strict=True)]


def _bound(value: float) -> str:
    return f"{_IS_LONGER}{float(f'{value:.1g}'):g}"  # one digit, without an exponent if it is short


def _formatted(values: Any, form: str) -> list[str]:
    return [format(value, form) for value in values.tolist()]
