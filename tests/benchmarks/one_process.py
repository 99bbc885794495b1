"""What a researcher's script does with one tool: a network, a search, distinct points, eigenvalues.

Run as a script in a process of its own, since what is measured includes the import of everything:

    python one_process.py TOOL NETWORK.npz INPUT N_INITS

It prints a line of JSON: seconds of the imports, of the first call, and of the same call again, and
how many distinct points there are.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_STARTED = time.perf_counter()

import numpy as np  # noqa: E402

Arrays = dict[str, Any]
Points = tuple[np.ndarray, np.ndarray]
"""Distinct points `[n, n_states]` and the eigenvalues at each, `[n, n_states]`."""

Search = Callable[[np.ndarray], Points]


def next_state(xp: Any, sigmoid: Any, cell: str, Wi: Any, Wh: Any, b: Any, x: Any, u: Any) -> Any:
    """Return the state after `x` under the input `u`, as `tests/cases/README.md` defines it.

    Args:
        xp: the module to compute with, `jax.numpy` or `torch`.
        sigmoid: its logistic function.
        cell: `'tanh'`, `'gru'` or `'lstm'`.
        Wi: `[gates, inputs, units]` input weights, which multiply from the right like the others.
        Wh: `[gates, units, units]` recurrent weights.
        b: `[gates, units]` biases.
        x: `[..., n_states]`.
        u: `[..., inputs]`.
    """
    h = x[..., : Wh.shape[-1]]

    def gate(g: int, h: Any = h) -> Any:
        return u @ Wi[g] + h @ Wh[g] + b[g]

    if cell == "tanh":
        return xp.tanh(gate(0))
    if cell == "gru":
        r, z = sigmoid(gate(0)), sigmoid(gate(1))
        return (1 - z) * xp.tanh(gate(2, r * h)) + z * h
    c = sigmoid(gate(1) + 1) * x[..., h.shape[-1] :] + sigmoid(gate(0)) * xp.tanh(gate(2))
    return xp.concatenate([sigmoid(gate(3)) * xp.tanh(c), c], axis=-1)


def step(xp: Any, sigmoid: Any, a: Arrays, x: Any, u: Any) -> Any:
    """Return the state after `x`, of which only the part `alpha` is replaced if there is one."""
    following = next_state(xp, sigmoid, a["cell"], a["Wi"], a["Wh"], a["b"], x, u)
    return (1 - a["alpha"]) * x + a["alpha"] * following if "alpha" in a else following


def read(path: Path, i: int, n: int) -> tuple[Arrays, np.ndarray, np.ndarray]:
    """Return the arrays of a network, its constant input `i`, and `n` states to search from."""
    with np.load(path) as archive:
        arrays = dict(archive)
    gates = arrays["Wi"].shape[0]
    arrays["cell"] = {1: "tanh", 3: "gru"}[gates]
    if "alpha" in arrays:
        arrays["alpha"] = float(arrays["alpha"])
    u = np.float32(arrays["inputs"][i] if "inputs" in arrays else np.zeros(arrays["Wi"].shape[1]))
    states, rng = arrays["traj"].reshape(-1, arrays["traj"].shape[-1]), np.random.RandomState(0)
    chosen = states[rng.choice(len(states), n, replace=n > len(states))]
    return arrays, u, np.float32(chosen + 0.1 * rng.randn(*chosen.shape))


def distinct(x: np.ndarray, tolerance: float = 1e-3) -> np.ndarray:
    """Return one row of each group of rows that are closer together than the tolerance."""
    kept: list[np.ndarray] = []
    for row in x:
        if not kept or np.linalg.norm(np.stack(kept) - row, axis=1).min() > tolerance:
            kept.append(row)
    return np.array(kept).reshape(-1, x.shape[1])


# ---- the tools ---------------------------------------------------------------------------------


def by_slowpoints(a: Arrays, u: np.ndarray) -> Search:
    """Return `find_fixed_points` at its defaults."""
    import jax
    import jax.numpy as jnp

    import slowpoints

    a = a | {name: jnp.float32(a[name]) for name in ("Wi", "Wh", "b", "alpha") if name in a}

    def F(x: Any, u: Any) -> Any:
        return step(jnp, jax.nn.sigmoid, a, x, u)

    def search(x: np.ndarray) -> Points:
        fps, _ = slowpoints.find_fixed_points(F, x, u)
        return np.asarray(fps.xstar), np.asarray(fps.eigval_J_xstar)

    return search


def by_scipy(a: Arrays, u: np.ndarray) -> Search:
    """Return a loop of SciPy's `root` with functions that JAX compiles, in float64."""
    import jax
    import jax.numpy as jnp
    import scipy.optimize

    jax.config.update("jax_enable_x64", True)
    a = a | {name: jnp.float64(a[name]) for name in ("Wi", "Wh", "b", "alpha") if name in a}
    u = np.float64(u)
    F = jax.jit(lambda x: step(jnp, jax.nn.sigmoid, a, x, u))
    J = jax.jit(jax.jacfwd(F))
    eye = np.eye(a["Wh"].shape[1])

    def search(x: np.ndarray) -> Points:
        f, df = lambda x: np.asarray(F(x)) - x, lambda x: np.asarray(J(x)) - eye
        found = [scipy.optimize.root(f, row, jac=df, method="hybr") for row in np.float64(x)]
        points = distinct(np.array([one.x for one in found if one.success]).reshape(-1, len(eye)))
        return points, np.array([np.linalg.eigvals(np.asarray(J(point))) for point in points])

    return search


def by_optimistix(a: Arrays, u: np.ndarray) -> Search:
    """Return Optimistix's Levenberg-Marquardt under `jit`, a row at a time, in float64."""
    import jax
    import jax.numpy as jnp
    import lineax
    import optimistix

    jax.config.update("jax_enable_x64", True)
    a = a | {name: jnp.float64(a[name]) for name in ("Wi", "Wh", "b", "alpha") if name in a}
    u = np.float64(u)
    F = lambda x: step(jnp, jax.nn.sigmoid, a, x, u)  # noqa: E731
    J = jax.jit(jax.jacfwd(F))
    normal = getattr(lineax, "Normal", None)  # older versions have none
    linear = lineax.QR() if normal is None else normal(lineax.Cholesky())
    solver = optimistix.LevenbergMarquardt(rtol=1e-6, atol=1e-6, linear_solver=linear)

    @jax.jit
    def one(x: Any) -> Any:
        options = {"max_steps": 64, "throw": False}
        end = optimistix.least_squares(lambda x, _: F(x) - x, solver, x, **options).value
        return end, jnp.linalg.norm(F(end) - end)

    def search(x: np.ndarray) -> Points:
        ends, residuals = zip(*(one(row) for row in np.float64(x)), strict=True)
        points = distinct(np.stack(ends)[np.array(residuals) < 1e-6])
        return points, np.array([np.linalg.eigvals(np.asarray(J(point))) for point in points])

    return search


def by_fixed_point_finder(a: Arrays, u: np.ndarray) -> Search:
    """Return Golub & Sussillo's FixedPointFinder for PyTorch at its defaults.

    The folder that it is in has to be on Python's path.
    """
    import torch
    from FixedPointFinderTorch import FixedPointFinderTorch  # pyright: ignore[reportMissingImports]

    class Layer(torch.nn.Module):
        batch_first = True

        def __init__(self) -> None:
            super().__init__()
            for name in ("Wi", "Wh", "b"):
                setattr(self, name, torch.nn.Parameter(torch.from_numpy(np.float32(a[name]))))

        def forward(self, inputs: Any, hidden: Any) -> Any:
            own = a | {name: getattr(self, name) for name in ("Wi", "Wh", "b")}
            hidden = step(torch, torch.sigmoid, own, hidden[0], inputs[:, 0])
            return hidden[:, None], hidden[None]

    finder = FixedPointFinderTorch(Layer(), verbose=False)

    def search(x: np.ndarray) -> Points:
        fps = finder.find_fixed_points(x, u[None])[0]
        return np.asarray(fps.xstar), np.asarray(fps.eigval_J_xstar)

    return search


TOOLS = {
    "slowpoints": by_slowpoints,
    "SciPy hybr": by_scipy,
    "Optimistix LM": by_optimistix,
    "FixedPointFinder (PyTorch)": by_fixed_point_finder,
}
"""The tools by the names that the tables have for them."""


def main(tool: str, path: str, i: str, n: str) -> None:
    """Measure one tool and print what it took."""
    a, u, x = read(Path(path), int(i), int(n))
    search = TOOLS[tool](a, u)
    imported = time.perf_counter()
    points, eigenvalues = search(x)
    first = time.perf_counter()
    search(x)
    again = time.perf_counter()
    assert eigenvalues.shape == points.shape
    result = {"import": imported - _STARTED, "first": first - imported, "again": again - first}
    print(json.dumps(result | {"found": len(points)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
