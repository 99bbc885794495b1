"""Draw the figure at the top of the front page: a network of two units, without and with an input.

    python docs/figures/front.py

writes `front.png` beside this file.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap

import slowpoints

W = jnp.array([[1.5, 0.1], [0.1, 1.5]])
LIMIT = 1.15
SPEED = plt.get_cmap("YlGnBu")(np.linspace(0, 0.6, 256))  # as in `plot_flow_field`
MARKS = {  # by index; -1 is for what is not a fixed point
    0: ("stable fixed point", "o", "#0072B2", 90),
    1: ("saddle", "^", "#E69F00", 80),
    2: ("repeller", "s", "#882255", 60),
    -1: ("slow point, the slowest of three", "*", "#56B4E9", 200),
}


def F(x, u):
    """Step two units that excite themselves, and each other a little."""
    return jnp.tanh(W @ x + u)


def trajectories(u):
    """Return `[trials, time, 2]` from all around the plane."""
    angle = jnp.linspace(0, 2 * jnp.pi, 24, endpoint=False) + 0.07
    starts = 0.2 + jnp.abs(jnp.sin(3 * angle))[:, None]
    starts = jnp.clip(starts * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1), -1, 1)

    def run(x):
        return jax.lax.scan(lambda x, _: (F(x, u), x), x, length=80)[1]

    return jax.vmap(run)(starts)


def draw(ax, u, title):
    """Draw the speed, trajectories and all points under one input; return the shading."""
    x = jnp.linspace(-LIMIT, LIMIT, 200)
    grid = jnp.stack(jnp.meshgrid(x, x), axis=-1)
    speed = np.sqrt(2 * slowpoints.q_fn(F, grid, u))
    levels = np.linspace(-2.5, 0, 21)
    shading = ax.contourf(x, x, np.log10(speed), levels, cmap=ListedColormap(SPEED), extend="both")
    for states in trajectories(u):
        ax.plot(*states.T, color="black", lw=0.8, alpha=0.6)
        step = states[2] - states[1]
        arrow = {"arrowstyle": "-|>", "color": "black", "lw": 0.8, "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", states[1] + 0.6 * step, states[1], arrowprops=arrow)
    starts = jax.random.uniform(jax.random.key(0), (300, 2), minval=-1, maxval=1)
    fps, _ = slowpoints.find_fixed_points(F, starts, u, final_q_threshold=1e-4)
    is_fixed = np.asarray(fps.status) == slowpoints.Status.FIXED_POINT
    index = np.where(is_fixed, fps.n_unstable(), -1)
    for kind, (name, marker, color, size) in MARKS.items():
        if (index == kind).any():
            look = {"s": size, "c": color, "edgecolors": "black", "linewidths": 1, "zorder": 3}
            ax.scatter(*fps.xstar[index == kind].T, marker=marker, label=name, **look)
    ax.set(xlim=(-LIMIT, LIMIT), ylim=(-LIMIT, LIMIT), xlabel="unit 1", aspect="equal")
    ax.set(xticks=(-1, 0, 1), yticks=(-1, 0, 1))
    ax.set_title(title, fontsize="medium")
    return shading


def main(path):
    """Draw both panels, with one legend below, into a file."""
    fig, axes = plt.subplots(1, 2, figsize=(7.6, 4.3), sharey=True, layout="constrained")
    draw(axes[0], jnp.zeros(2), "without input: four memories")
    shading = draw(axes[1], jnp.array([0.3, 0.0]), "with input: two memories and a slow point")
    axes[0].set_ylabel("unit 2")
    bar = fig.colorbar(shading, ax=axes, shrink=0.8, ticks=(-2, -1, 0))
    bar.set_label("distance moved in one step")
    bar.set_ticklabels(("0.01", "0.1", "1"))
    known = {}
    for ax in axes:
        handles, labels = ax.get_legend_handles_labels()
        known |= dict(zip(labels, handles, strict=True))
    fig.legend(known.values(), known.keys(), loc="outside lower center", ncols=4, frameon=False)
    fig.savefig(path, dpi=160)


if __name__ == "__main__":
    main(Path(__file__).with_name("front.png"))
