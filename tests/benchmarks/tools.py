"""The tools that are compared, each at the settings that served it best here.

A tool gets the network's step as it likes it best, and the same initial states. Only the
optimisation is timed: Jacobians and eigenvalues are off where a tool would compute them.
"""

import abc
import contextlib
import importlib
import importlib.machinery
import importlib.util
import io
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

import slowpoints

from .networks import Cell, Network
from .one_process import next_state

Search = Callable[[np.ndarray], Any]


class Tool(abc.ABC):
    """A way to search for fixed points.

    Attributes:
        name: what it is called in tables.
        settings: what was set, and why.
        ours: whether it belongs to this library.
        package: whether it is one that can be installed.
        modules: what it needs.
        probe: how many rows tell how long all will take; `None` just runs all.
        compiles: whether a first call takes longer than the next. If not, there is only one.
        share: which part of its own number of iterations the tool is given. Less than 1 makes its
            time an extrapolation.
    """

    name: ClassVar[str]
    settings: ClassVar[str]
    ours: ClassVar[bool] = False
    package: ClassVar[bool] = True
    modules: ClassVar[tuple[str, ...]] = ()
    probe: ClassVar[int | None] = None
    compiles: ClassVar[bool] = True
    share: float = 1.0

    def missing(self) -> str | None:
        """Return why the tool cannot be used, or `None` if it can."""
        missing = [name for name in self.modules if importlib.util.find_spec(name) is None]
        return f"{', '.join(missing)} not installed" if missing else None

    @abc.abstractmethod
    def prepare(self, network: Network) -> Search:
        """Return the search, a function of `[n, n_states]` initial states."""

    def rows(self, result: Any) -> np.ndarray:
        """Return where the rows ended, those that the tool itself drops excepted."""
        return np.asarray(result)


# ---- this library ------------------------------------------------------------------------------


class Core(Tool):
    """`optimize_batch`."""

    name = "slowpoints"
    settings = "`optimize_batch` at its defaults."
    ours = True

    def prepare(self, network: Network) -> Search:
        """Return `optimize_batch` at its defaults."""
        F, u = network.F, jnp.asarray(network.u)
        return lambda x: slowpoints.optimize_batch(F, x, u)

    def rows(self, result: Any) -> np.ndarray:
        """Return the valid rows."""
        return np.asarray(result.xstar)[np.asarray(result.valid)]


class Facade(Tool):
    """`FixedPointFinder`, from states to the eigenvalues of the distinct points."""

    name = "slowpoints, whole pipeline"
    settings = (
        "`FixedPointFinder(F).find_fixed_points(...)` at its defaults: also deduplication, "
        "verification, Jacobians and eigenvalues."
    )
    ours = True

    def prepare(self, network: Network) -> Search:
        """Return the documented call."""
        u = network.u[None]

        def search(x: np.ndarray) -> Any:
            finder = slowpoints.FixedPointFinder(network.F, verbose=False)
            return finder.find_fixed_points(x[None], u, n_inits=len(x))[0]

        return search

    def rows(self, result: Any) -> np.ndarray:
        """Return the distinct points."""
        return np.asarray(result.xstar)


# ---- other packages ----------------------------------------------------------------------------


class Optimistix(Tool):
    """Optimistix's Levenberg-Marquardt under `jit(vmap)`."""

    name = "Optimistix LM"
    settings = (
        "`least_squares` with `LevenbergMarquardt(rtol=1e-4, atol=1e-5)` on normal equations by "
        "Cholesky (faster here than QR, its default), at most 64 steps (more find no more), under "
        "`jit(vmap)` in blocks of 64 rows, of 32 from 128 states on: a block waits for its slowest "
        "row."
    )
    modules = ("optimistix",)
    probe = 64

    def prepare(self, network: Network) -> Search:
        """Return the compiled search."""
        import lineax
        import optimistix

        u = jnp.asarray(network.u)
        # Older versions of lineax have no `Normal`.
        normal = getattr(lineax, "Normal", None)
        linear = lineax.QR() if normal is None else normal(lineax.Cholesky())
        solver = optimistix.LevenbergMarquardt(rtol=1e-4, atol=1e-5, linear_solver=linear)

        def one(F: Any, x: Any) -> Any:
            residual = lambda x, F: F(x, u) - x  # noqa: E731
            options = {"args": F, "max_steps": 64, "throw": False}
            return optimistix.least_squares(residual, solver, x, **options).value

        search = jax.jit(jax.vmap(one, in_axes=(None, 0)))
        return lambda x: _in_blocks(lambda rows: search(network.F, rows), x)


class Scipy(Tool):
    """SciPy's hybrid Powell method, row by row."""

    name = "SciPy hybr"
    settings = (
        "`scipy.optimize.root(method='hybr', options={'xtol': 1e-6})`, a row at a time, with "
        "compiled functions for the residual and its Jacobian."
    )
    modules = ("scipy",)
    probe = 32

    def prepare(self, network: Network) -> Search:
        """Return a loop over the rows."""
        import scipy.optimize

        F, u = network.F, jnp.asarray(network.u)
        residual = jax.jit(lambda x: F(x, u) - x)
        jacobian = jax.jit(jax.jacfwd(lambda x: F(x, u) - x))

        def one(x: np.ndarray) -> np.ndarray:
            found = scipy.optimize.root(
                lambda x: np.asarray(residual(x.astype(np.float32))),
                x,
                jac=lambda x: np.asarray(jacobian(x.astype(np.float32))),
                method="hybr",
                options={"xtol": 1e-6},
            )
            return found.x

        return lambda x: np.stack([one(row) for row in x])


class BrainPy(Tool):
    """BrainPy's `SlowPointFinder` with BFGS."""

    name = "BrainPy BFGS"
    settings = (
        "`brainpy.analysis.SlowPointFinder(...).find_fps_with_opt_solver(...)`, that is BFGS under "
        "`jit(vmap)`, in the same blocks; `f_loss` is the sum of squares."
    )
    modules = ("brainpy",)
    probe = 64

    def prepare(self, network: Network) -> Search:
        """Return the search, in blocks."""
        from brainpy.analysis import SlowPointFinder

        F, u = network.F, jnp.asarray(network.u)
        finder = SlowPointFinder(
            lambda x: F(x, u), "discrete", lambda x, y, axis=None: jnp.sum((x - y) ** 2), False
        )

        def block(x: np.ndarray) -> np.ndarray:
            finder.find_fps_with_opt_solver(jnp.asarray(x))
            out = np.full(x.shape, np.nan, np.float32)  # rows that it counts as failed
            out[finder.selected_ids] = finder.fixed_points
            return out

        return lambda x: _in_blocks(block, x)


class Canns(Tool):
    """The documented class, as `canns` has it."""

    name = "canns"
    settings = (
        "`FixedPointFinder` at its defaults but for {n_iters} of its 5000 iterations (each traces "
        "the model again): the time is extrapolated to 5000, the points are those after {n_iters}."
    )
    modules = ("canns", "brainpy")

    def __init__(self, n_iters: int = 250):
        self.n_iters, self.share = n_iters, n_iters / 5000
        self.settings = self.settings.format(n_iters=n_iters)

    def prepare(self, network: Network) -> Search:
        """Return the documented call."""
        import brainpy as bp

        u = jnp.asarray(network.u)

        class Model(bp.DynamicalSystem):
            def __call__(self, inputs: Any, hidden: Any) -> Any:
                hidden = jax.vmap(network.F, in_axes=(0, None))(hidden, u)
                return hidden[:, None], hidden

        finder = canns_module("finder").FixedPointFinder(
            Model(), max_iters=self.n_iters, do_compute_jacobians=False, verbose=False
        )

        def search(x: np.ndarray) -> Any:
            with warnings.catch_warnings():  # it advises against more than 1000 rows
                warnings.simplefilter("ignore", UserWarning)
                return finder.find_fixed_points(x[None], network.u[None], n_inits=len(x))[1]

        return search

    def rows(self, result: Any) -> np.ndarray:
        """Return all rows."""
        return np.asarray(result.xstar)


class FixedPointFinderTorch(Tool):
    """Golub & Sussillo's FixedPointFinder for PyTorch, from a checkout."""

    name = "FixedPointFinder (PyTorch)"
    settings = "At its defaults: at most 5000 iterations of Adam."
    modules = ("torch",)
    compiles = False

    def __init__(self, checkout: Path | None = None, n_iters: int = 5000):
        self.checkout, self.n_iters, self.share = checkout, n_iters, n_iters / 5000

    def missing(self) -> str | None:
        """Return why it cannot be used."""
        if self.checkout is None:
            return "no checkout given (--fixed-point-finder)"
        if not (self.checkout / "FixedPointFinderTorch.py").exists():
            return "no FixedPointFinderTorch.py in the given folder"
        return super().missing()

    def prepare(self, network: Network) -> Search:
        """Return its documented call."""
        import torch

        sys.path.insert(0, str(self.checkout))
        try:
            finder_class = importlib.import_module("FixedPointFinderTorch").FixedPointFinderTorch
        finally:
            sys.path.remove(str(self.checkout))
        F = network.F
        assert isinstance(F, Cell)

        class Layer(torch.nn.Module):
            batch_first = True

            def __init__(self) -> None:
                super().__init__()
                for name in ("Wi", "Wh", "b"):
                    value = torch.from_numpy(np.array(getattr(F, name)))
                    setattr(self, name, torch.nn.Parameter(value))

            def forward(self, inputs: Any, hidden: Any) -> Any:
                weights = (self.Wi, self.Wh, self.b)
                args = (F.cell, *weights, hidden[0], inputs[:, 0])
                hidden = next_state(torch, torch.sigmoid, *args)
                return hidden[:, None], hidden[None]

        settings = {"max_iters": self.n_iters, "do_compute_jacobians": False}
        finder = finder_class(Layer(), do_decompose_jacobians=False, verbose=False, **settings)

        def search(x: np.ndarray) -> Any:
            with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                return finder.find_fixed_points(x, network.u[None])[1]

        return search

    def rows(self, result: Any) -> np.ndarray:
        """Return all rows."""
        return np.asarray(result.xstar)


class DenseNewton(Tool):
    """What one might write in ten lines: no package, but a yardstick."""

    name = "dense Newton"
    settings = (
        "Newton's method in JAX with the dense Jacobian and steps of at most half the state's "
        "size, under `jit(vmap)` in the same blocks. No package; finds no slow points."
    )
    package = False
    probe = 64

    def prepare(self, network: Network) -> Search:
        """Return the compiled search."""
        u = jnp.asarray(network.u)

        def one(F: Any, x: Any) -> Any:
            def going(carry: Any) -> Any:
                _, n_steps, moved = carry
                return (n_steps < 50) & (moved > 1e-6)

            def step(carry: Any) -> Any:
                x, n_steps, _ = carry
                A = jnp.eye(x.size) - jax.jacfwd(F)(x, u)
                d = jnp.linalg.solve(A, F(x, u) - x)
                length, size = jnp.linalg.norm(d), 1 + jnp.linalg.norm(x)
                return x + d * jnp.minimum(1, size / 2 / length), n_steps + 1, length / size

            return jax.lax.while_loop(going, step, (x, 0, jnp.inf))[0]

        search = jax.jit(jax.vmap(one, in_axes=(None, 0)))
        return lambda x: _in_blocks(lambda rows: search(network.F, rows), x)


def all_tools(fixed_point_finder: Path | None = None, canns_iters: int = 250) -> list[Tool]:
    """Return all tools, in the order of the tables."""
    return [
        Core(),
        Facade(),
        Optimistix(),
        Scipy(),
        BrainPy(),
        Canns(canns_iters),
        FixedPointFinderTorch(fixed_point_finder),
        DenseNewton(),
    ]


def canns_module(name: str) -> Any:
    """Import a module of `canns.analyzer.slow_points` without the rest of `canns`.

    The package imports all of itself, and so needs much that these modules do not.
    """
    package = "canns_slow_points"
    if package not in sys.modules:
        spec = importlib.util.find_spec("canns")
        if spec is None or not spec.submodule_search_locations:
            raise ImportError("canns is not installed: pip install --no-deps canns")
        folder = Path(spec.submodule_search_locations[0]) / "analyzer" / "slow_points"
        hollow = importlib.machinery.ModuleSpec(package, None, is_package=True)
        hollow.submodule_search_locations = [str(folder)]
        sys.modules[package] = importlib.util.module_from_spec(hollow)
    return importlib.import_module(f"{package}.{name}")


def _in_blocks(search: Callable[[Any], Any], x: np.ndarray) -> np.ndarray:
    """Search some rows at a time: as many as was fastest here for most tools."""
    size, parts = (64 if x.shape[1] < 128 else 32), []
    for start in range(0, len(x), size):
        rows = np.minimum(np.arange(start, start + size), len(x) - 1)
        parts.append(np.asarray(search(x[rows]))[: len(x) - start])
    return np.concatenate(parts)
