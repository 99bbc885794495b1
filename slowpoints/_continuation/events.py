"""Where the stability of a curve of fixed points changes, to the last digits."""

import itertools
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from slowpoints._arclength.arcs import Chain
from slowpoints._arclength.curve import Curve
from slowpoints._arclength.on_curve import on_curve
from slowpoints._arclength.spectra import Spectra, growth, neutral, spectra
from slowpoints._arclength.steps import hermite
from slowpoints._continuation.stability_changes import (
    StabilityChange,
    closest,
    nearest,
    with_crossings,
    with_precise_places,
)

_NARROW = 1e-10
"""Pieces of a curve are divided down to this arclength. In float32 it is `1e-5`."""

_TOGETHER = 1e-5
"""Changes that are no farther apart than this along a curve are one event: at a fold, the index
and the direction in `s` change together, but for rounding, of which there is more where curves
cross. In float32 it is `1e-3`."""

_MOST_ROUNDS = 90
"""So often are pieces divided. Every fourth round leaves a third, which alone would be enough."""

_SAME_S = 1e-9
"""Changes at the same `s`, to within this part of the span, are one event even if they are 200
times as far apart: where several branches cross, eigenvalues are that imprecise."""

_BESIDE, _LEAST_BESIDE = 0.1, 1e-4
"""A piece is divided on both sides of where it seems to change, at these parts of its length away
from there: the first at most, the second at least, for rounding."""

_TOLD_APART = 2
"""Of a piece without a turn, both ends of which have an eigenvalue so close to the circle, as a
multiple of what counts as outside, shorter parts would tell no more than rounding does."""

_REAL = 1e-4
"""An eigenvalue that crosses the unit circle at an angle below this, in radians, crosses at 1 or
-1. Rounding splits double eigenvalues by about the square root of the precision."""

_JUMP, _SHORT = 1e-2, 1e-4
"""On a piece of a curve that is no longer than the second, eigenvalues of a smooth network differ
by less than the first: the square root of the precision where they are double. If they differ by
more, the curve passes a kink, as of a ReLU unit, and none of them passes the circle."""


class _Piece(NamedTuple):
    """A piece of a curve whose ends differ in their index or their direction in `s`.

    Where the index of one end is not known, both are -1, and only the direction counts.
    """

    chain: int
    place: tuple[float, float]
    y: tuple[np.ndarray, np.ndarray]
    tangent: tuple[np.ndarray, np.ndarray]
    indices: tuple[int, int]
    eigvals: tuple[np.ndarray, np.ndarray]

    @property
    def length(self) -> float:
        return float(np.linalg.norm(self.y[1] - self.y[0]))

    @property
    def changes(self) -> bool:
        return self.indices[0] != self.indices[1] or self.turns

    def is_resolved(self, narrow: float, is_flow: bool) -> bool:
        """Whether it is as short as it need be: where it is, or for what its eigenvalues tell."""
        if self.length <= narrow:
            return True
        if self.turns:
            return False
        distances = [abs(growth(nearest(values, is_flow), is_flow)) for values in self.eigvals]
        return bool(np.max(distances) <= _TOLD_APART * neutral(self.eigvals[0]))

    @property
    def turns(self) -> bool:
        """Whether the curve turns back in `s`."""
        # At an event itself, the direction may be exactly 0.
        return bool((self.tangent[0][-1] >= 0) != (self.tangent[1][-1] >= 0))


def events_on(
    curve: Curve, chains: list[Chain], spectra_of: list[Spectra], n_leading: int
) -> list[StabilityChange]:
    """Return the changes of stability on some curves, in order along each.

    Pieces between successive points of which the index, or the direction in `s`, differs are
    divided, all at once, until each is very short.
    """
    is_double = chains[0].y.dtype == np.float64 if chains else True
    narrow, together = (_NARROW, _TOGETHER) if is_double else (1e-5, 1e-3)
    wide = [
        piece
        for number, (chain, found) in enumerate(zip(chains, spectra_of, strict=True))
        for piece in _pieces(number, chain, found)
    ]
    done: list[_Piece] = []
    for number_of_round in range(_MOST_ROUNDS):
        if not wide:
            break
        in_thirds = number_of_round % 4 == 3  # whatever the eigenvalues do
        at = _where_to_divide(wide, curve.is_flow, in_thirds)
        undone = []
        for whole, parts in zip(wide, _divided(curve, wide, at, n_leading), strict=True):
            # Without points in between, the piece stays as long as it is.
            done += [] if parts else [whole]
            for part in parts:
                if part.changes:
                    is_resolved = part.is_resolved(narrow, curve.is_flow)
                    (done if is_resolved else undone).append(part)
        wide = undone
    found = _sorted_out(done + wide, together, curve.is_flow)
    found = with_precise_places(curve, found, n_leading)
    return found if curve.without_matrices else with_crossings(curve, found, n_leading)


def _pieces(number: int, chain: Chain, found: Spectra) -> list[_Piece]:
    y, t, index = chain.y, chain.tangent, found.indices
    pairs = [
        _Piece(
            number,
            (float(k), float(k + 1)),
            (y[k], y[k + 1]),
            (t[k], t[k + 1]),
            (int(index[k]), int(index[k + 1])) if min(index[k : k + 2]) >= 0 else (-1, -1),
            (found.eigvals[k], found.eigvals[k + 1]),
        )
        for k in range(len(y) - 1)
    ]
    return [piece for piece in pairs if piece.changes]


def _divided(
    curve: Curve, pieces: list[_Piece], at: Float[np.ndarray, "k m"], n_leading: int
) -> list[list[_Piece]]:
    """Return the parts of each piece, or none if a point in it, or the index there, is not known.

    Args:
        curve: the equations.
        pieces: `k` pieces.
        at: `[k, m]` where to divide each, as rising parts of its length.
        n_leading: how many eigenvalues to compute.
    """
    n_points = at.shape[1]
    y0, y1, t0, t1 = (
        np.repeat([ends[side] for ends in both], n_points, axis=0)
        for both in ([p.y for p in pieces], [p.tangent for p in pieces])
        for side in (0, 1)
    )
    theta = at.reshape(-1, 1).astype(y0.dtype)
    chord = (y1 - y0) / np.linalg.norm(y1 - y0, axis=1, keepdims=True)
    guess = hermite(theta, (y0, y1), (t0, t1))
    points = on_curve(curve, guess, chord)
    found = spectra(curve, points.y, n_leading)
    # Where curves cross, Newton's method may end on the other one.
    strays = np.linalg.norm(points.y - guess, axis=1) > np.linalg.norm(y1 - y0, axis=1)
    only_turns = np.repeat([min(piece.indices) < 0 for piece in pieces], n_points)
    indices = np.where(only_turns, -1, found.indices)
    known: Any = points.is_on_curve & ((indices >= 0) | only_turns) & ~strays
    known = known.reshape(at.shape).all(axis=1)
    divided = []
    for k, piece in enumerate(pieces):
        rows = range(k * n_points, (k + 1) * n_points)
        first, last = piece.place
        ends = [tuple(end) for end in zip(*piece[1:], strict=True)]
        middle = [
            (
                first + theta[i, 0] * (last - first),
                points.y[i],
                points.tangent[i],
                int(indices[i]),
                found.eigvals[i],
            )
            for i in rows
        ]
        stops = [ends[0], *middle, ends[1]]
        parts = [
            _Piece(piece.chain, *zip(left, right, strict=True))
            for left, right in itertools.pairwise(stops)
        ]
        divided.append(parts if known[k] else [])
    return divided


def _where_to_divide(
    pieces: list[_Piece], is_flow: bool, in_thirds: bool
) -> Float[np.ndarray, "k 2"]:
    """Return two places in each, as parts of its length, around the event if all goes well."""
    values = np.array([piece.eigvals for piece in pieces])  # [k, 2, m]
    beyond = growth(values, is_flow) - neutral(values)
    test = np.take_along_axis(beyond, closest(beyond)[..., None], axis=2)[..., 0]
    only_turns = [piece.indices[0] == piece.indices[1] for piece in pieces]
    directions = np.array([[tangent[-1] for tangent in piece.tangent] for piece in pieces])
    left, right = np.where(np.array(only_turns)[:, None], directions, test).T
    crosses = (left * right < 0) & (not in_thirds)
    zero = np.divide(left, left - right, out=np.full(len(pieces), 0.5), where=crosses)
    # The error of a line through both ends falls with the square of the length.
    lengths = np.array([piece.length for piece in pieces])
    beside = np.clip(lengths, _LEAST_BESIDE, _BESIDE)
    zero = np.clip(zero, 1.5 * beside, 1 - 1.5 * beside)
    low, high = np.where(crosses, zero - beside, 1 / 3), np.where(crosses, zero + beside, 2 / 3)
    return np.stack([low, high], axis=1)


def _sorted_out(pieces: list[_Piece], together: float, is_flow: bool) -> list[StabilityChange]:
    pieces = sorted(pieces, key=lambda piece: (piece.chain, piece.place))
    groups: list[list[_Piece]] = []
    for piece in pieces:
        last = groups[-1][-1] if groups else None
        if last is not None and last.chain == piece.chain and _is_one(last, piece, together):
            groups[-1].append(piece)
        else:
            groups.append([piece])
    found = []
    for group in groups:
        first, last = group[0], group[-1]
        whole = _Piece(
            first.chain,
            (first.place[0], last.place[1]),
            (first.y[0], last.y[1]),
            (first.tangent[0], last.tangent[1]),
            (first.indices[0], last.indices[1]),
            (first.eigvals[0], last.eigvals[1]),
        )
        if whole.changes:
            found.append(_event(whole, is_flow))
    return found


def _is_one(last: _Piece, piece: _Piece, together: float) -> bool:
    apart = piece.y[0] - last.y[1]
    distance = np.linalg.norm(apart)
    return bool(distance <= together or (abs(apart[-1]) <= _SAME_S and distance <= 200 * together))


def _event(piece: _Piece, is_flow: bool) -> StabilityChange:
    """Name what crosses, and interpolate where it does."""
    crossing = [nearest(values, is_flow) for values in piece.eigvals]
    if np.isnan(crossing).any():  # without matrices, some eigenvalues do not converge
        crossing = [crossing[np.isnan(crossing).argmin()]] * 2
    beyond = [float(growth(value, is_flow)) for value in crossing]
    n_cross = abs(piece.indices[1] - piece.indices[0])
    theta = 0.5
    if n_cross and beyond[0] * beyond[1] < 0:
        theta = beyond[0] / (beyond[0] - beyond[1])
    value = crossing[0] + theta * (crossing[1] - crossing[0])
    angle = abs(value.imag) if is_flow else abs(np.angle(value))
    kind = "hopf" if is_flow else "neimark_sacker"
    if angle <= _REAL:
        is_fold = piece.turns and n_cross % 2 == 1
        kind = "fold" if is_fold else "branch_point"
    elif not is_flow and np.pi - angle <= _REAL:
        kind = "flip"
    # Between its ends, a piece that turns has parameters that neither of them has.
    steepest = max(abs(float(tangent[-1])) for tangent in piece.tangent)
    width = float(abs(piece.y[1][-1] - piece.y[0][-1])) + 0.5 * piece.length * steepest
    if min(piece.indices) < 0:
        kind, value = "fold", complex(0 if is_flow else 1)
    elif _eigenvalues_jump(piece, is_flow):
        kind, value, theta = "fold" if piece.turns else "border_collision", complex(np.nan), 0.5
        width = 2 * piece.length  # the corner may be beyond both ends
    place = piece.place[0] + theta * (piece.place[1] - piece.place[0])
    along = piece.y[1] - piece.y[0]
    y = piece.y[0] + theta * along
    along = along / np.linalg.norm(along)
    return StabilityChange(
        kind,
        piece.chain,
        float(place),
        y,
        complex(value),
        width,
        along,
        piece.turns,
        piece.indices,
    )


def _eigenvalues_jump(piece: _Piece, is_flow: bool) -> bool:
    """Whether an eigenvalue beyond the circle at one end has none like it at the other."""
    if piece.length > _SHORT or np.isnan(piece.eigvals).any():
        return False
    for here, there in (piece.eigvals, piece.eigvals[::-1]):
        outside = here[growth(here, is_flow) > 0]
        if outside.size == here.size < len(piece.y[0]) - 1:
            continue  # those like the last ones need not be among the leading ones
        apart = np.abs(outside[:, None] - there).min(axis=1, initial=np.inf)
        if (apart > _JUMP * np.maximum(1, np.abs(outside))).any():
            return True
    return False
