"""What a solver is, and how rows that end at different times share a fixed number of lanes."""

import abc
from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from slowpoints._core import arguments
from slowpoints._linear_algebra.loops import varying
from slowpoints._network.base import Transition
from slowpoints._solvers.report import Report
from slowpoints._solvers.termination import End

_VECTORS_PER_LANE = 150
"""How many vectors of `n_states` float32 each row in work holds: two bases, the trial states, and
the intermediate results of the network's step (counted for gated units, which have the most)."""


class Stopping(NamedTuple):
    """When a row is done: whichever comes first.

    Attributes:
        max_iters: so many iterations were made.
        tol_q: `q` is below this.
        tol_dq: `q` changed by less than this in the last iteration (`Adam`: than this times its
            learning rate).
    """

    max_iters: Int[Array, ""]
    tol_q: Float[Array, ""]
    tol_dq: Float[Array, ""]

    def in_unit(self, unit: Float[Array, ""]) -> "Stopping":
        """Return the same rules for a `q` of states in that unit.

        `q` may change by less than `tol_dq` before it is small relative to the states, so in a
        small unit that bound stays as it is.
        """
        square = jnp.square(unit)
        tol_dq = self.tol_dq / jnp.maximum(square, 1)
        return self._replace(tol_q=self.tol_q / square, tol_dq=tol_dq)


class Found(NamedTuple):
    """Where a solver left each row.

    What a row ended at is judged elsewhere.

    Attributes:
        x: `[n, n_states]` the states.
        q: `[n]` the `q` of each.
        dq: `[n]` by how much `q` changed in the last iteration.
        n_iters: `[n]` how many iterations were made.
        end: `[n]` by which kind of rule the solver ended each row, as an `End`.
    """

    x: Float[Array, "n n_states"]
    q: Float[Array, " n"]
    dq: Float[Array, " n"]
    n_iters: Int[Array, " n"]
    end: Int[Array, " n"]

    @staticmethod
    def nothing(x: Float[Array, "n n_states"]) -> "Found":
        """Return rows for which nothing has been done yet."""
        n = x.shape[0]
        inf, zero = jnp.full(n, jnp.inf, x.dtype), jnp.zeros(n, int)
        return Found(x, inf, inf, zero, zero)


def check_settings(
    solver: "AbstractSolver",
    *,
    numbers: tuple[str, ...] = (),
    counts: tuple[str, ...] = (),
    flags: tuple[str, ...] = (),
) -> None:
    """Check settings of a solver: numbers must be at least 0, counts at least 1, and flags boolean.

    Counts given as other numbers, such as 128.0, become integers, and flags become booleans.

    Raises:
        TypeError: if one is of the wrong kind.
        ValueError: if one is out of range.
    """
    caller = type(solver).__name__
    for name in numbers:
        arguments.number(caller, name, getattr(solver, name))
    whole = {name: arguments.whole(caller, name, getattr(solver, name), least=1) for name in counts}
    on = {name: arguments.flag(caller, name, getattr(solver, name)) for name in flags}
    for name, value in (whole | on).items():
        object.__setattr__(solver, name, value)  # the class is frozen, but not yet in use


class AbstractSolver(eqx.Module):
    """A strategy for minimising `q` from each of many states. Holds only its own settings."""

    @property
    def needs_forward_mode(self) -> bool:
        """Whether `run` takes forward-mode derivatives of the network, such as `jax.jvp`."""
        return False

    @property
    def refines(self) -> bool:
        """Whether `run` should be given states in float64 if the network computes in it."""
        return False

    @property
    def rescales(self) -> bool:
        """Whether `run` should be given states in units of their own size.

        Thresholds on lengths then mean the same whatever the states' own unit is. `q` and its
        tolerances are in these units too.
        """
        return False

    @property
    def follows_valleys(self) -> bool:
        """Whether rows that `run` leaves in a valley of low `q` are to be taken on to its end.

        That is done with dense Jacobians, outside `jit`, and `run` is called again from there.
        """
        return False

    @property
    def couples_rows(self) -> bool:
        """Whether what a row does depends on the other rows."""
        return False

    @property
    def may_run_side_by_side(self) -> bool:
        """Whether parts of a search may run in parallel, in one thread per core.

        They may not if `run` decomposes batches of matrices (`jnp.linalg`). XLA divides a batch
        among its threads and blocks one of them until the others are done. If all threads are
        blocked in this way, the search hangs. Nor is it worth it if `run` consists of matrix
        products that are so large that XLA divides them among all cores.
        """
        return False

    def stages(self, n_states: int) -> "tuple[AbstractRowSolver, ...]":
        """Return the row solvers that `run` consists of: each continues with rows that it `takes`.

        Outside `jit`, each is a program of its own, which is compiled when a row needs it, and not
        again for another number of rows. A solver without stages, as by default, is one program.

        Args:
            n_states: the length of a state.
        """
        return ()

    def bytes_to_work(self, n_rows: int, n_states: int) -> int:
        """Return about how many bytes `run` takes, besides the states and the results of the rows.

        This decides how many rows are searched at a time within a bound on memory. It must not fall
        as the number of rows grows. By default, every row takes as much as a few bases of a Krylov
        space.

        Args:
            n_rows: how many rows are searched.
            n_states: the length of a state.
        """
        return n_rows * _VECTORS_PER_LANE * 4 * n_states

    @abc.abstractmethod
    def run(
        self,
        F: Transition,
        x_init: Float[Array, "n n_states"],
        inputs: Float[Array, "n n_inputs"],
        stopping: Stopping,
        report: Report | None = None,
    ) -> Found:
        """Minimise `q(., inputs[i])` from `x_init[i]`, for every row `i`."""


class AbstractRowSolver(AbstractSolver):
    """A solver whose rows do not depend on each other: an `init` and a `step` on a batch of rows.

    Rows need very different numbers of iterations. So only `lanes` of them are in work at a time,
    and a lane whose row is done takes the next row from the queue. The work is the sum of the rows'
    iterations rather than their number times the worst, and the memory does not grow with it.
    """

    lanes: eqx.AbstractVar[int]

    def stages(self, n_states: int) -> "tuple[AbstractRowSolver, ...]":
        """Return the solver itself."""
        return (self,)

    def bytes_to_work(self, n_rows: int, n_states: int) -> int:
        """Return about how many bytes the lanes that have a row take, as for all solvers."""
        return min(n_rows, self.lanes) * self.bytes_per_lane(n_states)

    def bytes_per_lane(self, n_states: int) -> int:
        """Return about how many bytes a lane takes; by default, as many as a few bases."""
        return _VECTORS_PER_LANE * 4 * n_states

    def takes(self, end: Any, q: Any) -> Any:
        """Return which rows `[n]` of another's search it continues with.

        By default, those that are stuck at a finite `q`.

        Args:
            end: `[n]` how the solver before ended them, as `End`.
            q: `[n]` their `q`.
        """
        return (end == End.STUCK) & (abs(q) < np.inf)

    def concerns(self, F: Transition) -> bool:
        """Return whether, after another stage, there may be something to do in a network."""
        return True

    @property
    def phase(self) -> str:
        """What a report calls the search by this solver."""
        return type(self).__name__

    @abc.abstractmethod
    def init(self, x: Float[Array, "lanes n_states"]) -> Any:
        """Return the state of rows that start at `x`, without evaluating anything.

        It is a named tuple with at least the fields of `Found`.
        """

    @abc.abstractmethod
    def step(
        self, F: Transition, inputs: Float[Array, "lanes n_inputs"], state: Any, stopping: Stopping
    ) -> Any:
        """Return the state of the rows after one more iteration."""

    def start_with(self, x_init: Float[Array, "n n_states"]) -> dict[str, Shaped[Array, "n ..."]]:
        """Return fields of the rows' states that are known from where the search started.

        By default, there are none. For a solver that continues another's search: where rows are by
        then depends on rounding, and that depends on how many rows are in work.
        """
        return {}

    def run(
        self,
        F: Transition,
        x_init: Float[Array, "n n_states"],
        inputs: Float[Array, "n n_inputs"],
        stopping: Stopping,
        report: Report | None = None,
    ) -> Found:
        """Take every row to its end."""
        return run_stages((self,), F, x_init, inputs, stopping, report)

    def resume(
        self,
        F: Transition,
        found: Found,
        inputs: Float[Array, "n n_inputs"],
        stopping: Stopping,
        unfinished: Bool[Array, " n"],
        report: Report | None = None,
        **start_with: Shaped[Array, "n ..."],
    ) -> Found:
        """Continue with the `unfinished` rows from where they are; the others stay as they are.

        The new iterations are added to the rows' counts, and `max_iters` bounds their sum. Fields
        of the rows' states that are named in `start_with` start with its values.
        """
        if found.x.shape[0] == 0:
            return found
        unfinished = unfinished & (found.n_iters < stopping.max_iters)
        queue = jnp.argsort(~unfinished)  # stable: the unfinished rows, in their order
        n_queued = jnp.sum(unfinished)
        lanes = _Lanes(self, F, found, inputs, stopping, report, start_with, queue, n_queued)
        carry = varying(lanes.at_first(), (F, found, inputs, stopping, start_with))
        *_, out = jax.lax.while_loop(lanes.some_are_left, lanes.until_some_end, carry)
        return out


class _Work(NamedTuple):
    """What the lanes are at."""

    place: Int[Array, " lanes"]  # in the queue: a lane beyond its end has no row
    row: Int[Array, " lanes"]
    u: Float[Array, "lanes n_inputs"]
    state: Any
    free: Bool[Array, " lanes"]  # whether the row has ended
    iteration: Int[Array, ""]


class _Lanes(NamedTuple):
    """The loop in which lanes take rows from a queue."""

    solver: AbstractRowSolver
    F: Transition
    found: Found
    inputs: Float[Array, "n n_inputs"]
    stopping: Stopping
    report: Report | None
    start_with: dict[str, Shaped[Array, "n ..."]]
    queue: Int[Array, " n"]
    n_queued: Int[Array, ""]

    def at_first(self) -> tuple[_Work, Array, Found]:
        """Return the work of lanes that are all free, how many rows are taken, and the results."""
        n = self.found.x.shape[0]
        place = jnp.full(min(self.solver.lanes, n), n)
        like = jax.eval_shape(self.start, place)
        row, state, u = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), like)
        work = _Work(place, row, u, state, jnp.ones(place.size, bool), jnp.asarray(1))
        return work, jnp.asarray(0), self.found

    def some_are_left(self, carry: tuple[_Work, Array, Found]) -> Array:
        """Return whether a row waits or is in work."""
        work, taken, _ = carry
        return (taken < self.n_queued) | jnp.any(~work.free & (work.place < self.n_queued))

    def until_some_end(self, carry: tuple[_Work, Array, Found]) -> tuple[_Work, Array, Found]:
        """Give the free lanes rows, take steps until some rows end, and write down these."""
        # The results stay outside of the inner loop, which would have to copy them.
        (place, row, u, state, free, iteration), taken, out = carry
        place = jnp.where(free, taken + jnp.cumsum(free) - 1, place)
        row, state, u = jax.tree.map(
            lambda a, b: jnp.where(free.reshape((-1,) + (1,) * (a.ndim - 1)), a, b),
            self.start(place),
            (row, state, u),
        )
        taken = taken + jnp.sum(free)
        work = _Work(place, row, u, state, jnp.zeros_like(free), iteration)
        work = jax.lax.while_loop(lambda work: ~jnp.any(work.free), self.step, work)
        # A row out of range is not written.
        target, state = jnp.where(work.free, work.row, self.found.x.shape[0]), work.state
        new = Found(state.x, state.q, state.dq, state.n_iters, state.end)
        out = jax.tree.map(lambda a, b: a.at[target].set(b, mode="drop"), out, new)
        return work, taken, out

    def start(self, place: Int[Array, " lanes"]) -> tuple[Array, Any, Array]:
        """Return the rows at places in the queue, with their states and inputs."""
        row = self.queue[jnp.minimum(place, self.found.x.shape[0] - 1)]
        state = self.solver.init(self.found.x[row])
        given = {name: values[row] for name, values in self.start_with.items()}
        return row, state._replace(n_iters=self.found.n_iters[row], **given), self.inputs[row]

    def step(self, work: _Work) -> _Work:
        """Take one step with all rows in work."""
        place, row, u, state, _, iteration = work
        state = self.solver.step(self.F, u, state, self.stopping)
        if self.report is not None:
            # A lane without a row repeats the last one, which does not count as a row in work.
            q, dq = (jnp.where(place < self.n_queued, a, jnp.nan) for a in (state.q, state.dq))
            self.report(iteration, q, dq, phase=self.solver.phase)
        ended = (state.end != End.NONE) | (state.n_iters >= self.stopping.max_iters)
        return _Work(place, row, u, state, ended & (place < self.n_queued), iteration + 1)


def stages_of(solver: AbstractSolver, n_states: int) -> tuple[AbstractRowSolver, ...]:
    """Return the solver's stages, unless a class derived from it has a `run` that replaces them."""
    classes = type(solver).__mro__
    run, stages = (
        next(i for i, one in enumerate(classes) if name in vars(one)) for name in ("run", "stages")
    )
    return solver.stages(n_states) if stages <= run else ()


def concerned(stages: Sequence[AbstractRowSolver], F: Transition) -> tuple[AbstractRowSolver, ...]:
    """Return the stages that have something to do in a network: the first one, whatever it is."""
    return tuple(stage for i, stage in enumerate(stages) if i == 0 or stage.concerns(F))


def run_stages(
    stages: Sequence[AbstractRowSolver],
    F: Transition,
    x_init: Float[Array, "n n_states"],
    inputs: Float[Array, "n n_inputs"],
    stopping: Stopping,
    report: Report | None,
) -> Found:
    """Take every row to its end, by one stage after another."""
    found = Found.nothing(x_init)
    for i, stage in enumerate(concerned(stages, F)):
        known = stage.start_with(x_init)
        asked = stage.takes(found.end, found.q) if i else jnp.ones(x_init.shape[0], bool)
        found = stage.resume(F, found, inputs, stopping, asked, report, **known)
    return found
