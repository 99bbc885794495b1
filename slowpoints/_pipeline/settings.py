"""The arguments of `find_fixed_points`, checked, and sorted by the stages that take them."""

from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh

from slowpoints._core import arguments
from slowpoints._core.digests import setting_as_text
from slowpoints._network.base import Transition
from slowpoints._network.network import digest_of_network
from slowpoints._pipeline.select import ending_tolerance
from slowpoints._solvers.base import AbstractSolver

CALLER = "find_fixed_points"


class Start(NamedTuple):
    """The network, and the rows that are searched from."""

    F: Transition
    x_init: Any
    inputs: Any
    cond_id: Any

    @property
    def is_traced(self) -> bool:
        """Whether the search is inside `jit` or another transformation."""
        leaves = jax.tree.leaves((self.F, self.x_init, self.inputs))
        return any(isinstance(leaf, Tracer) for leaf in leaves)


class Selection(NamedTuple):
    """The numbers that say which points are kept."""

    tol_unique: Any
    outlier_distance_scale: Any
    outlier_q_scale: Any
    final_q_threshold: Any
    max_n_unique: Any


class Stages(NamedTuple):
    """Which stages follow a search, and whether all processes go through them together."""

    search_between: bool
    compute_jacobians: bool
    decompose_jacobians: bool
    across_processes: bool


class Settings(NamedTuple):
    """The settings of the stages, by what takes them."""

    search: dict[str, Any]
    """How a row is searched from: for `optimize_batch` and `select`."""
    limits: dict[str, Any]
    """How many rows at a time: for `optimize_batch` alone."""
    rules: dict[str, Any]
    """Which points are kept: for `select` and `account`."""
    tol_unique: Any


# ---- the arguments -------------------------------------------------------------------------------


def check_flags(within_conditions: Any, keep_unfinished: Any, stages: Stages) -> None:
    """Check that these are yes or no."""
    rules = {"within_conditions": within_conditions, "keep_unfinished": keep_unfinished}
    for name, value in (rules | stages._asdict()).items():
        arguments.flag(CALLER, name, value)


def check_conditions(within_conditions: bool, cond_id: Any) -> None:
    """Check that there are labels which can be told apart, if points are merged within them."""
    if within_conditions and cond_id is None:
        raise ValueError(
            f"{CALLER}: `cond_id` is None; expected one label for each row of `x_init`, since "
            "`within_conditions` is set."
        )
    if within_conditions and isinstance(cond_id, np.ndarray) and cond_id.dtype.kind == "O":
        try:
            np.unique(np.asarray(cond_id))
        except TypeError as error:
            raise TypeError(
                f"{CALLER}: `cond_id` holds objects that cannot be told apart by their order "
                f"({error}); expected labels of one type, since `within_conditions` is set."
            ) from error


def settings_of(
    solver: AbstractSolver | None,
    numbers: tuple[Any, ...],
    selection: Selection,
    within_conditions: bool,
    keep_unfinished: bool,
) -> Settings:
    """Return settings that are checked, by what takes them."""
    max_iters, tol_q, tol_dq, memory_limit, rows_at_a_time = numbers
    search = {
        "solver": solver,
        "max_iters": max_iters,
        "tol_q": ending_tolerance(solver, tol_q, selection.final_q_threshold),
        "tol_dq": tol_dq,
    }
    limits = {"memory_limit": memory_limit, "rows_at_a_time": rows_at_a_time}
    rules = {
        "within_conditions": within_conditions,
        "outlier_distance_scale": selection.outlier_distance_scale,
        "outlier_q_scale": selection.outlier_q_scale,
        "final_q_threshold": selection.final_q_threshold,
        "max_n_unique": selection.max_n_unique,
        "keep_unfinished": keep_unfinished,
    }
    return Settings(search, limits, rules, selection.tol_unique)


def check_stages(stages: Stages, traced: bool) -> None:
    """Check that states between points are searched from only where that works."""
    for wrong, where in (
        (traced, "inside `jit`"),
        (not stages.compute_jacobians, "without Jacobians"),
    ):
        if stages.search_between and wrong:
            raise ValueError(f"{CALLER}: `search_between` does not work {where}.")


def devices_of(mesh: Mesh | Literal["local"] | None, traced: bool) -> Mesh | None:
    """Return the devices that share the rows; `None` for the default one."""
    if mesh == "local":
        devices = jax.local_devices()
        return Mesh(np.array(devices), ("rows",)) if len(devices) > 1 and not traced else None
    if mesh is not None and not traced and not set(mesh.devices.flat) <= set(jax.local_devices()):
        raise ValueError(
            f"{CALLER}: `mesh` holds devices of other processes; expected devices of this one, "
            "with `across_processes=True` where all processes search together."
        )
    return mesh


def what_must_agree(start: Start, settings: Settings) -> dict[str, str]:
    """Return what makes all processes search the same model in the same way, as text."""
    if start.is_traced:
        raise ValueError(f"{CALLER}: `across_processes` does not work inside `jit`.")
    of_all = settings.search | settings.rules | {"tol_unique": settings.tol_unique}
    texts = {name: setting_as_text(value) for name, value in of_all.items()}
    texts["number of states"] = str(start.x_init.shape[1])
    texts["number of inputs"] = str(start.inputs.shape[1])
    texts["F"] = digest_of_network(start.F)
    cond_id = start.cond_id
    texts["type of cond_id"] = str(None if cond_id is None else np.asarray(cond_id).dtype)
    if texts["type of cond_id"] == "object":
        raise TypeError(
            f"{CALLER}: `cond_id` holds Python objects, which cannot be sent to other "
            "processes; expected numbers or strings."
        )
    return texts
