"""The demo: train a flip-flop network, find its fixed points, and show what they store.

Imports BrainPy, so nothing that the package imports may import this.
"""

import shlex
from pathlib import Path

import click
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from tqdm import tqdm

from slowpoints._drawing.config import PlotConfig
from slowpoints._finder.fixed_point_finder import FixedPointFinder
from slowpoints._plots.fixed_points import plot_fixed_points_2d, plot_fixed_points_3d
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.status import Status, counted, words
from slowpoints._storage.checkpoints import save_checkpoint
from slowpoints.flipflop import FlipFlopNetwork, expected_counts, mean_squared_error, train, trials

_N_TRIALS, _N_TIME = 64, 64  # the trials whose states the search starts from
_N_SHOWN = 5  # of them in the figures: with their pulses, more would bury the points
_NOISE = 0.5  # standard deviation of what is added to these states
_MODEL_FILE = '''"""The network of `slowpoints demo`; its weights are in network.msgpack."""

import jax
from slowpoints.flipflop import FlipFlopNetwork

net = FlipFlopNetwork("{cell}", {n_units}, {n_bits}, jax.random.key(0))
'''
_SIGNS = {-1: "-", 0: "0", 1: "+"}


def run(
    cell: str, n_units: int, n_bits: int, seed: int, out: Path, n_steps: int, solver: str | None
) -> None:
    """Run the demo. Standard output is the same every time; progress goes to standard error.

    Args:
        cell: `'tanh'`, `'gru'` or `'lstm'`.
        n_units: how many units the network has.
        n_bits: how many bits it stores.
        seed: seeds the weights, the trials and the search.
        out: an existing folder for the results.
        n_steps: how many training steps to take.
        solver: the finder's solver.
    """
    k_weights, k_train, k_test = jax.random.split(jax.random.key(seed), 3)
    click.echo(f"Training a network of {n_units} {cell} units to store {n_bits} bit(s).")
    model = FlipFlopNetwork(cell, n_units, n_bits, k_weights)
    with tqdm(total=n_steps, desc="training", unit="step") as bar:
        for n_done, mismatch in train(model, k_train, n_steps):
            bar.set_postfix(error=f"{mismatch:.1e}", refresh=False)
            bar.update(n_done)
    pulses, bits = trials(k_test, _N_TRIALS, _N_TIME, n_bits)
    states = model.states(pulses, model.rest(_N_TRIALS))
    mismatch = mean_squared_error(model.readout(states), bits)
    click.echo(f"Mean squared error on new trials: {mismatch:.1e}")

    # With more bits there are more points to find.
    n_inits = max(1024, 32 * 3**n_bits)
    click.echo(f"Searching for fixed points at zero input from {n_inits} states.")
    finder = FixedPointFinder(model, solver=solver, verbose=False, random_seed=seed)
    fps, _ = finder.find_fixed_points(
        np.asarray(states), np.zeros((1, n_bits)), n_inits=n_inits, noise_scale=_NOISE
    )
    fps, indices, memories = _sorted(model, fps)
    click.echo(f"\n{table(fps, indices, memories)}\n\n{verdict(indices, n_bits, _named(fps))}\n")

    save_checkpoint(model, out / "network.msgpack")
    (out / "model.py").write_text(_MODEL_FILE.format(cell=cell, n_units=n_units, n_bits=n_bits))
    np.save(out / "states.npy", np.asarray(states))
    fps.save(out / "fixed_points.npz")
    title = f"{n_bits}-bit flip-flop, {n_units} {cell} units: {counted(fps.status)}"
    for name, plot in (("2d", plot_fixed_points_2d), ("3d", plot_fixed_points_3d)):
        path = out / f"fixed_points_{name}.png"
        config = PlotConfig(title=title, save_path=path, save_dpi=150, show=False)
        trials_shown = range(_N_SHOWN)
        plot(fps, np.asarray(states), config, trials_shown, eigenvectors="unstable")
    click.echo(f"Results are in {out}:")
    for name, content in (
        ("fixed_points_2d.png", "figure, two principal components"),
        ("fixed_points_3d.png", "figure, three principal components"),
        ("fixed_points.npz", "the rows of the table, for FixedPoints.load"),
        ("states.npy", "states that the network visits, [trials, time, n_states]"),
        ("model.py", "the network without its weights"),
        ("network.msgpack", "the weights, for load_checkpoint"),
    ):
        click.echo(f"  {name:<20} {content}")
    again = ["slowpoints", "find", f"{out / 'model.py'}:net", "--states", str(out / "states.npy")]
    again += ["--checkpoint", str(out / "network.msgpack"), "--inputs", ",".join("0" * n_bits)]
    again += ["--noise-scale", str(_NOISE)]
    click.echo(f"To search again with other settings: {shlex.join(again)}")


def _sorted(
    model: FlipFlopNetwork, fps: FixedPoints
) -> tuple[FixedPoints, Int[np.ndarray, " n"], Int[np.ndarray, "n n_bits"]]:
    """Sort by index and then memory; return the points, and both of these."""
    memories = stored_bits(model, fps)
    indices = index_of(fps)
    order = np.lexsort((*-memories.T[::-1], indices))
    return fps[order], indices[order], memories[order]


def index_of(fps: FixedPoints) -> Int[np.ndarray, " n"]:
    """Return how many eigenvalues of each point lie outside the unit circle."""
    return np.asarray(fps.n_unstable())


def stored_bits(model: FlipFlopNetwork, fps: FixedPoints) -> Int[np.ndarray, "n n_bits"]:
    """Return the outputs at the points, rounded to -1, 0 and +1."""
    outputs: Float[np.ndarray, "n n_bits"] = np.asarray(model.readout(jnp.asarray(fps.xstar)))
    return np.clip(np.round(outputs), -1, 1).astype(int)


def table(
    fps: FixedPoints, indices: Int[np.ndarray, " n"], memories: Int[np.ndarray, "n n_bits"]
) -> str:
    """Lay out one line per point, without line breaks at the ends.

    The status has a column if not all are fixed points.
    """
    header = ("index", "stability", "q", "largest |eigenvalue|", "memory")
    rows = [
        (
            str(index),
            "stable" if stable else "unstable",
            f"{q:.1e}",
            f"{np.abs(eigval[0]):.4f}",
            " ".join(_SIGNS[bit] for bit in memory),
        )
        for index, stable, q, eigval, memory in zip(
            indices, fps.is_stable, fps.qstar, fps.eigval_J_xstar, memories.tolist(), strict=True
        )
    ]
    if _named(fps):
        header = (*header, "status")
        rows = [(*row, word) for row, word in zip(rows, words(fps.status), strict=True)]
    widths = [max(len(row[k]) for row in (header, *rows)) for k in range(len(header))]
    return "\n".join(
        "  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True))
        for row in (header, *rows)
    )


def verdict(indices: Int[np.ndarray, " n"], n_bits: int, named: str = "") -> str:
    """Say how many points were expected and how many were found.

    Args:
        indices: the index of each point.
        n_bits: how many bits the network stores.
        named: what was found, where that is not only fixed points.
    """
    expected = expected_counts(n_bits)
    found = np.bincount(indices, minlength=n_bits + 1).tolist()
    lines = [
        f"Expected 3^{n_bits} = {3**n_bits} fixed points: {_listed(expected)}.",
        f"Found {named or len(indices)}: {_listed(found)}." if len(indices) else "Found none.",
    ]
    if found != expected:
        lines.append(
            "These differ. Either the network has learned the task in another way, or not yet, or "
            "the\nsearch missed points. Another --seed, or more --steps or --units, may help."
        )
    return "\n".join(lines)


def _named(fps: FixedPoints) -> str:
    """Return what the points are, or nothing if all are fixed points."""
    if fps.status is None or (fps.status == Status.FIXED_POINT).all():
        return ""
    return counted(fps.status)


def _listed(counts: list[int]) -> str:
    return ", ".join(f"{count} of index {k}" for k, count in enumerate(counts))
