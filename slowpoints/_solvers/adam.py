"""Gradient descent on `q` with Adam: the method of other finders."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from slowpoints._core import arguments
from slowpoints._core.types import Number
from slowpoints._linear_algebra.loops import varying
from slowpoints._network.base import Transition
from slowpoints._network.q_fn import half_squared_norm
from slowpoints._solvers.base import AbstractRowSolver, Found, Stopping, check_settings
from slowpoints._solvers.report import Report
from slowpoints._solvers.termination import End

_VECTORS = 15
"""How many vectors of `n_states` float64 each row in work holds."""


class _State(NamedTuple):
    x: Float[Array, "lanes n_states"]
    q: Float[Array, " lanes"]
    dq: Float[Array, " lanes"]
    n_iters: Int[Array, " lanes"]
    end: Int[Array, " lanes"]
    mean: Float[Array, "lanes n_states"]
    variance: Float[Array, "lanes n_states"]
    lr: Float[Array, " lanes"]
    best: Float[Array, " lanes"]
    n_bad: Int[Array, " lanes"]
    cooldown: Int[Array, " lanes"]


class Adam(AbstractRowSolver):
    """Adam (Kingma & Ba 2015) with a learning rate that falls on plateaus (Golub & Sussillo 2018).

    The learning rate is multiplied by `lr_factor` after `lr_patience` iterations without a better
    `q`, then left alone for `lr_cooldown` iterations. The gradient is that of the row's own `q`, so
    the number of rows does not change its scale. Adam finds stable points first and saddles slowly,
    and needs many iterations.

    With `joint`, all rows go on until every one of them has `q < tol_q` or `dq < tol_dq * lr` in
    the same iteration. By then, rows that got there early are far below `tol_q`, and all rows have
    the same number of iterations, except those that are no longer finite: such a row ends there,
    and does not hold up the others. Without `joint`, each row ends as soon as it meets this rule by
    itself, so its `q` stays just below `tol_q`.

    Attributes:
        joint: whether all rows share one schedule, driven by their mean `q`, and end together;
            otherwise each row has its own schedule and end.
        lr_init: the first learning rate.
        lr_factor: what the learning rate is multiplied by on a plateau.
        lr_patience: how many iterations without a better `q` make a plateau; infinity keeps the
            rate.
        lr_cooldown: how many iterations after a reduction do not count as such.
        beta_1: decay of the gradient's running mean.
        beta_2: decay of the squared gradient's running mean.
        epsilon: added to the square root of the latter mean.
        lanes: how many rows are in work at a time, if each has its own schedule.
    """

    joint: bool = True
    lr_init: Number = 1.0
    lr_factor: Number = 0.95
    lr_patience: int = 5
    lr_cooldown: int = 0
    beta_1: Number = 0.9
    beta_2: Number = 0.999
    epsilon: Number = 1e-8
    lanes: int = 256

    def __check_init__(self):
        numbers = ("lr_init", "lr_factor", "beta_1", "beta_2", "epsilon")
        check_settings(self, numbers=numbers, counts=("lanes",))
        joint = arguments.flag("Adam", "joint", self.joint)
        patience = arguments.whole("Adam", "lr_patience", self.lr_patience, or_infinite=True)
        cooldown = arguments.whole("Adam", "lr_cooldown", self.lr_cooldown)
        settings = {"joint": joint, "lr_patience": patience, "lr_cooldown": cooldown}
        for name, value in settings.items():
            object.__setattr__(self, name, value)  # as in `check_settings`

    @property
    def may_run_side_by_side(self) -> bool:
        """No matrices are decomposed."""
        return True

    @property
    def couples_rows(self) -> bool:
        """A joint schedule depends on all rows."""
        return self.joint

    def stages(self, n_states: int) -> tuple[AbstractRowSolver, ...]:
        """Return the solver itself, unless all rows share one schedule."""
        return () if self.joint else (self,)

    def bytes_to_work(self, n_rows: int, n_states: int) -> int:
        """Return the bytes for the rows in work, which are all rows if they share one schedule."""
        in_work = n_rows if self.joint else min(n_rows, self.lanes)
        return in_work * self.bytes_per_lane(n_states)

    def bytes_per_lane(self, n_states: int) -> int:
        """Return the bytes that the state, its gradient and their means take."""
        return 8 * _VECTORS * n_states

    def init(self, x: Float[Array, "lanes n_states"]) -> _State:
        """Start rows at `x`."""
        _, inf, _, count, end = Found.nothing(x)
        zeros, lr = jnp.zeros_like(x), jnp.full_like(inf, self.lr_init)
        return _State(x, inf, inf, count, end, zeros, zeros, lr, inf, count, count)

    def step(
        self,
        F: Transition,
        inputs: Float[Array, "lanes n_inputs"],
        state: _State,
        stopping: Stopping,
    ) -> _State:
        """Evaluate `q` at the rows, and move those that are not done.

        With `joint`, these are all rows of the search.
        """

        def objective(x: Array, u: Array) -> Array:
            return half_squared_norm(x - F(x, u))

        q, gradient = jax.vmap(jax.value_and_grad(objective))(state.x, inputs)
        dq = jnp.abs(q - state.q)
        lr, best, n_bad, cooldown = self._schedule(q, state)
        met = (q < stopping.tol_q) | (dq < stopping.tol_dq * lr)
        was_done = state.end != End.NONE
        broken = was_done | ~jnp.isfinite(q)
        done = broken | (jnp.all(met | broken) if self.joint else met)
        n_iters = state.n_iters + ~was_done
        end = jnp.where(met, End.TOLERANCE, End.STUCK)
        end = jnp.where(was_done, state.end, jnp.where(done, end, End.NONE))

        mean = self.beta_1 * state.mean + (1 - self.beta_1) * gradient
        variance = self.beta_2 * state.variance + (1 - self.beta_2) * jnp.square(gradient)
        t = n_iters.astype(q.dtype)[:, None]
        mean_hat, variance_hat = mean / (1 - self.beta_1**t), variance / (1 - self.beta_2**t)
        move = lr[:, None] * mean_hat / (jnp.sqrt(variance_hat) + self.epsilon)
        x = jnp.where(done[:, None], state.x, state.x - move)
        dq = jnp.where(was_done, state.dq, dq)
        return _State(x, q, dq, n_iters, end, mean, variance, lr, best, n_bad, cooldown)

    def run(
        self,
        F: Transition,
        x_init: Float[Array, "n n_states"],
        inputs: Float[Array, "n n_inputs"],
        stopping: Stopping,
        report: Report | None = None,
    ) -> Found:
        """Take every row to its end: all at once if `joint`, else in lanes."""
        if not self.joint or x_init.shape[0] == 0:
            return super().run(F, x_init, inputs, stopping, report)

        def unfinished(carry: tuple[Any, Array]) -> Array:
            state, n_steps = carry
            return (n_steps < stopping.max_iters) & jnp.any(state.end == End.NONE)

        def body(carry: tuple[Any, Array]) -> tuple[Any, Array]:
            state, n_steps = carry
            state = self.step(F, inputs, state, stopping)
            if report is not None:
                name = type(self).__name__
                report(n_steps + 1, state.q, state.dq, state.lr[0], phase=name)
            return state, n_steps + 1

        start = varying((self.init(x_init), jnp.asarray(0)), (F, x_init, inputs, stopping))
        state, _ = jax.lax.while_loop(unfinished, body, start)
        return Found(state.x, state.q, state.dq, state.n_iters, state.end)

    def _schedule(self, q: Float[Array, " lanes"], state: _State) -> tuple[Array, ...]:
        metric = q
        if self.joint:
            metric = jnp.full_like(q, jnp.mean(q, where=jnp.isfinite(q)))
        better = metric < state.best
        waiting = state.cooldown > 0
        n_bad = jnp.where(better, 0, jnp.where(waiting, state.n_bad, state.n_bad + 1))
        reduce = ~better & ~waiting & (n_bad >= self.lr_patience)
        lr = jnp.where(reduce, state.lr * self.lr_factor, state.lr)
        cooldown = jnp.where(
            reduce, self.lr_cooldown, state.cooldown - (waiting & ~better).astype(int)
        )
        return lr, jnp.minimum(metric, state.best), jnp.where(reduce, 0, n_bad), cooldown
