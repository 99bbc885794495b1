"""`connections`: which points are joined by trajectories that leave saddles."""

from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from slowpoints._completeness.degree import counted_rows
from slowpoints._connections.exact_points import ExactPoints
from slowpoints._connections.leaving import between, leaving
from slowpoints._connections.outcome import Endings, Outcome, Starts, check_steps, run_until_ended
from slowpoints._connections.paths import paths
from slowpoints._connections.units_at_rest import units_at_rest
from slowpoints._core import arguments
from slowpoints._network.as_transition import as_transition
from slowpoints._network.continuous_time import ContinuousTime
from slowpoints._network.time_scale import length_of_step, steps_near
from slowpoints._network.units import in_units
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.traced import traced_for


class Edges(eqx.Module):
    """Trajectories that leave saddles: see [`connections`][slowpoints.connections].

    Attributes:
        saddle: `[m]` the row of the saddle from which each one starts.
        side: `[m]` 1 or -1, to which side of the saddle. The entry of a direction that is largest
            in magnitude is positive on side 1; if entries of the states differ in scale by more
            than a thousand, the one that is largest relative to its own scale.
        direction: `[m]` the number of the direction. The first ones, as many as the saddle's index,
            are along the eigenvectors of its unstable eigenvalues, in their order. A complex pair
            has two of these, the real and the imaginary part of its eigenvector. Higher numbers are
            directions between these.
        alternates: `[m]` whether an eigenvalue of the direction is real and negative, so that the
            trajectory changes sides in each step. Both sides then have the same trajectory, but for
            one step.
        splits: `[m]` of saddles of index 1, whether others of the trajectories on this side end
            elsewhere, as far as some of them tell: where this one ends is then a matter of where
            exactly it starts. Trajectories that are still moving do not count.
        outcome: `[m]` how each one ended, in the numbers of [`Outcome`][slowpoints.Outcome].
        attractor: `[m]` the row of the point where it arrived, or -1. It is hardly ever another
            saddle: see `index`.
        index: `[m]` the index of that point, 0 for an attractor; or -1.
        n_steps: `[m]` how many steps it took; in continuous time, how much time.
        period: `[m]` the number of steps of the cycle on which it ended; 1 at rest, 0 if it is
            still moving, or left. In continuous time, a time after which it is back, which is a
            multiple of the period, or 0.
        end: `[m, n_states]` its last state.
        path: `[m, n_path, n_states]` states along it, evenly spaced, of an alternating one every
            second state only.
    """

    saddle: Int[np.ndarray, " m"]
    side: Int[np.ndarray, " m"]
    direction: Int[np.ndarray, " m"]
    alternates: Bool[np.ndarray, " m"]
    splits: Bool[np.ndarray, " m"]
    outcome: Int[np.ndarray, " m"]
    attractor: Int[np.ndarray, " m"]
    index: Int[np.ndarray, " m"]
    n_steps: Int[np.ndarray, " m"] | Float[np.ndarray, " m"]
    period: Int[np.ndarray, " m"] | Float[np.ndarray, " m"]
    end: Float[np.ndarray, "m n_states"]
    path: Float[np.ndarray, "m n_path n_states"]

    def __len__(self) -> int:
        return len(self.saddle)

    def __getitem__(self, index: Any) -> "Edges":
        """Select edges by a slice, a mask or an index array."""
        return jax.tree.map(lambda column: column[index], self)


class Connections(eqx.Module):
    """The points and the trajectories between them: see [`connections`][slowpoints.connections].

    Attributes:
        points: the points as they were given, backed by NumPy; with eigenvalues and `is_stable`, as
            computed here, if they had none.
        index: `[n]` the number of unstable directions of each row; -1 for rows that are invalid, or
            no fixed points, or whose Jacobians are not finite. An eigenvalue that may be 1, as far
            as rounding and the speed tell, is not unstable.
        is_stable: `[n]` which of the rows are attractors.
        edges: the trajectories.
    """

    points: FixedPoints
    index: Int[np.ndarray, " n"]
    is_stable: Bool[np.ndarray, " n"]
    edges: Edges

    def to_networkx(self) -> Any:
        """Return a `networkx.MultiDiGraph`.

        Its nodes are the rows with a known index, with attributes `index`, `is_stable` and `xstar`.
        Its edges are the trajectories that arrived, from the saddle to the point, with attributes
        `side`, `direction`, `alternates`, `splits` and `n_steps`. Trajectories that arrived nowhere
        are in the graph's attribute `unresolved`, a list of pairs of a saddle and an outcome in
        words.

        Raises:
            ImportError: if NetworkX is not installed.
        """
        try:
            import networkx
        except ImportError as error:
            raise ImportError(
                "Connections.to_networkx: NetworkX is not installed; `pip install networkx`, or "
                '`pip install -e ".[networkx]"` in the checkout of slowpoints.'
            ) from error
        graph, edges = networkx.MultiDiGraph(), self.edges
        for row in np.flatnonzero(self.index >= 0).tolist():
            known = {"index": int(self.index[row]), "is_stable": bool(self.is_stable[row])}
            graph.add_node(row, **known, xstar=self.points.xstar[row])
        told = ("side", "direction", "alternates", "splits", "n_steps")
        for i in np.flatnonzero(edges.attractor >= 0):
            record = {name: getattr(edges, name)[i].item() for name in told}
            graph.add_edge(edges.saddle[i].item(), edges.attractor[i].item(), **record)
        astray = np.flatnonzero(edges.attractor < 0)
        graph.graph["unresolved"] = [
            (edges.saddle[i].item(), str(Outcome(edges.outcome[i]))) for i in astray
        ]
        return graph

    def print_summary(self, max_rows: int = 30) -> None:
        """Print how many trajectories there are and where they ended, and a table of the saddles.

        Args:
            max_rows: the largest number of lines in the table.
        """
        max_rows = arguments.whole("Connections.print_summary", "max_rows", max_rows)
        for line in self._lines(max_rows):
            print(line)

    def __repr__(self) -> str:
        return (
            f"Connections(n_points={self.points.n}, n_saddles={len(np.unique(self.edges.saddle))}, "
            f"n_edges={len(self.edges)}, n_arrived={np.sum(self.edges.attractor >= 0)})"
        )

    def __str__(self) -> str:
        return "\n".join(self._totals())

    def _totals(self) -> Iterator[str]:
        edges = self.edges
        n_saddles = len(np.unique(edges.saddle))
        leave = "trajectory leaves" if len(edges) == 1 else "trajectories leave"
        arrive = "arrives" if np.sum(edges.index == 0) == 1 else "arrive"
        yield (
            f"{len(edges)} {leave} {n_saddles} saddle{'s' * (n_saddles != 1)}; "
            f"{np.sum(edges.index == 0)} {arrive} at attractors and {np.sum(edges.index > 0)} at "
            "other saddles."
        )
        for outcome in Outcome:
            if outcome != Outcome.ARRIVED and (n := np.sum(edges.outcome == outcome)):
                yield f"{n} unresolved: {outcome}{self._periods(outcome)}"
        if n := np.sum(edges.splits):
            yield f"Sides of saddles on which some trajectories end elsewhere: {n}"
        if n := np.sum(self.index < 0):
            yield f"Rows that are left out, as not known to be fixed points: {n}"

    def _periods(self, outcome: Outcome) -> str:
        if outcome != Outcome.CYCLE:
            return ""
        found = np.unique(self.edges.period[self.edges.outcome == outcome])
        unit = "units of time" if self.points.continuous_time else "steps"
        return f" of {', '.join(f'{period:.6g}' for period in found)} {unit}"

    def _lines(self, max_rows: int) -> Iterator[str]:
        yield "\n=== Connections Summary ==="
        yield from self._totals()
        saddles = np.unique(self.edges.saddle)
        if saddles.size == 0 or max_rows == 0:
            return
        yield ""
        yield f"{'saddle':>6}  {'index':>5}  leads to (trajectories)"
        for saddle in saddles[:max_rows]:
            own = self.edges[self.edges.saddle == saddle]
            rows, counts = np.unique(own.attractor[own.attractor >= 0], return_counts=True)
            ends = [f"{row} ({k})" for row, k in zip(rows, counts, strict=True)]
            astray = own.outcome[own.attractor < 0]
            ends += [f"{Outcome(code)} ({np.sum(astray == code)})" for code in np.unique(astray)]
            yield f"{saddle:>6}  {self.index[saddle]:>5}  {', '.join(ends)}"
        if saddles.size > max_rows:
            yield f"... and {saddles.size - max_rows} more"


def connections(
    F: Any,
    fps: FixedPoints,
    *,
    n_directions: int = 8,
    max_steps: int = 10_000,
    n_path: int = 32,
) -> Connections:
    """Follow the trajectories that leave each saddle along its unstable directions.

    From a saddle with one unstable direction, one trajectory is followed on each side. They show
    which attractors are neighbours: the two at which they end share a boundary, the saddle's stable
    manifold. In a flow, there are no others. But a network moves in steps, and if these are large,
    the states of a trajectory are only some of those on the curve along which states leave to this
    side. The curve can cross a boundary, and then trajectories that start in between end elsewhere.
    Some of these are followed as well, and `Edges.splits` says whether any does. A saddle of index
    `k` has a sphere of trajectories. Of these, those along its eigenvectors are followed, and
    `n_directions` others.

    Everything is computed in float64 if the network can be evaluated in it. Each point is first
    refined by Newton's method, and its Jacobian decomposed. Trajectories start closer to the saddle
    than a hundred thousandth of the distance to the point next to it.

    A trajectory *arrives* at a stable point if it comes within a thousandth of the distance from
    there to the next point, and this distance then halves. Near another saddle it can linger for
    long and yet pass by, so there it arrives only if it is at rest, to rounding. This happens in
    networks of uncoupled units, and whenever symmetry holds a trajectory on the saddle's stable
    manifold and rounding keeps the symmetry. In other networks the trajectories from a saddle of
    index 2 that end at one of index 1 are in between those that are followed. They separate the
    ones that lead to different attractors.

    Other directions than the eigenvectors are spread evenly where trajectories leave the
    neighbourhood of the saddle, as far as possible: they start closer to the saddle along its
    faster directions, which would otherwise win. Along an eigenvector there is nothing else to win
    but rounding. That happens if another eigenvalue has a logarithm more than three times as large,
    and then it is by chance where the trajectory along the slower one ends.

    In continuous time, trajectories are integrated by [`flow`][slowpoints.flow]. They are looked at
    in steps of a quarter of the time scale of the direction that grows the fastest at any of the
    saddles, or that decays the slowest at any of the attractors, if that is faster.

    Runs on the host, not inside `jit`, and decomposes all Jacobians anew, even if `fps` has them.

    Args:
        F: the transition, or anything that [`as_transition`][slowpoints.as_transition] takes, or a
            [`ContinuousTime`][slowpoints.ContinuousTime].
        fps: distinct points with `xstar` and `inputs`. Rows that are invalid, rows whose `status`
            is not that of a fixed point, and rows from which Newton's method finds none within a
            thousandth of their size, have no edges. Trajectories end
            only at points under the same input, and of the same condition if there is `cond_id`.
        n_directions: how many directions to follow, both ways, from each saddle of index 2 or
            more, besides its eigenvectors. They are always the same ones.
        max_steps: how many steps each trajectory may take, in continuous time of the length above.
        n_path: how many states to keep of each trajectory, for figures.

    Returns:
        The points and the trajectories.

    Raises:
        TypeError: if `F` is not of a known kind, or `fps` is not a `FixedPoints`, is traced, or in
            half precision.
        ValueError: if `fps` has no `xstar` or no `inputs`, or `F` does not map such states to
            states, or a number is out of range.
        ImportError: if `F` is in continuous time, and diffrax is not installed.
    """
    caller = "connections"
    F = as_transition(F)
    arguments.fields(caller, fps, FixedPoints, "xstar", "inputs")
    check_steps(caller, F, fps=fps)
    n_directions = arguments.whole(caller, "n_directions", n_directions)
    max_steps = arguments.whole(caller, "max_steps", max_steps, least=1)
    n_path = arguments.whole(caller, "n_path", n_path)
    F = traced_for(caller, F, fps)
    if fps.n_states == 0:
        was = f"has shape {tuple(fps.xstar.shape)}"
        arguments.refuse(caller, "fps.xstar", was, "at least one state", ValueError)
    points = fps.to_numpy()
    counted = counted_rows(points) & np.isfinite(points.xstar).all(axis=1)
    begun = None if points.x_init is None else points.x_init[counted]
    unit = units_at_rest(F, points.xstar[counted], points.inputs[counted], begun)
    F = in_units(F, unit)
    exact = ExactPoints.of(F, points, np.flatnonzero(counted), unit)
    if not points.has_decomposed_jacobians:
        points = points.replace(**exact.spectra(points))
    starts, edges = leaving(exact, n_directions)
    edge, others = between(exact, starts, edges["alternates"])
    both = Starts(*(np.concatenate(pair) for pair in zip(starts, others, strict=True)))
    steps = steps_near(F, exact.eigval) if isinstance(F, ContinuousTime) else F
    ends = run_until_ended(
        steps, both, exact.places(), max_steps
    )  # together: one program to compile
    found = Endings(*(column[: len(starts.x)] for column in ends))
    splits = _splits(ends, edge, len(starts.x))
    path = paths(steps, starts, found.n_steps, np.where(edges["alternates"], 2, 1), n_path)
    dt = length_of_step(steps)
    arrived = found.place >= 0
    row = np.where(arrived, exact.rows[found.place], -1)
    index = np.full(points.n, -1)
    index[exact.rows] = exact.index
    is_stable = np.zeros(points.n, bool)
    is_stable[exact.rows] = exact.is_stable
    return Connections(
        points=points,
        index=index,
        is_stable=is_stable,
        edges=Edges(
            **edges,
            splits=splits,
            outcome=found.outcome,
            attractor=row,
            index=np.where(arrived, index[row], -1),
            n_steps=found.n_steps if dt is None else found.n_steps * dt,
            period=found.period if dt is None else np.where(found.period > 1, found.period * dt, 0),
            end=(unit * found.x).astype(found.x.dtype),
            path=(unit * path).astype(path.dtype),
        ),
    )


def _splits(ends: Endings, edge: Int[np.ndarray, " b"], m: int) -> Bool[np.ndarray, " m"]:
    """Return on which of `m` edges another trajectory, the last ones of `ends`, ends elsewhere."""
    differs = (ends.outcome[m:] != ends.outcome[edge]) | (ends.place[m:] != ends.place[edge])
    ended = (ends.outcome[m:] != Outcome.MOVING) & (ends.outcome[edge] != Outcome.MOVING)
    return np.bincount(edge, weights=differs & ended, minlength=m) > 0
