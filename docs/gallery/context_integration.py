"""Line attractors and selection vectors: one network, two contexts.

A network receives evidence on motion and on colour, and a context says which of the two it is to
add up. The recurrent weights are of rank one, and nothing is trained by gradients: the vector `n`
that reads the units is the solution of linear equations, which ask in both contexts for a line of
fixed points along `m`, for a unit of relevant evidence to move the state along it, and for
irrelevant evidence to leave it where it is, to first order.

**What to look at.** The same motion evidence arrives in both contexts, for 20 steps. In the motion
context (left) it moves the state off the line and along it, and where the evidence ends, the state
relaxes to another place (square). In the colour context (right) it moves the state just as far off
the line, but the state comes back to almost where it was. The inputs have not changed, nor has the
line: what has turned is the selection vector, which says what the line reads. It leans towards the
motion input on the left, and is orthogonal to it on the right.

**Sources.** Mante, Sussillo, Shenoy & Newsome (2013). Context-dependent computation by recurrent
dynamics in prefrontal cortex. *Nature* 503:78–84. Dubreuil, Valente, Beiran, Mastrogiuseppe &
Ostojic (2022). The role of population structure in computations through neural dynamics. *Nature
Neuroscience* 25:783–794.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import slowpoints

N, LEAK, GAIN = 100, 0.1, 0.5
rng = np.random.default_rng(0)
m, B = rng.normal(size=N), rng.normal(size=(N, 4)) * [0.5, 0.5, 2, 2]  # motion, colour, contexts
B -= np.outer(m, m @ B) / (m @ m)  # no input acts along the line by itself
CONTEXTS = {"motion": np.array([0, 0, 1, 0]), "colour": np.array([0, 0, 0, 1])}

rows, values = [], []
for relevant, v in enumerate(CONTEXTS.values()):
    for kappa in np.linspace(-1.5, 1.5, 41):
        rate = np.tanh(m * kappa + B @ v)
        effect = (1 - rate**2)[:, None] * B
        rows += [rate, effect[:, relevant], effect[:, 1 - relevant]]
        values += [kappa, GAIN, 0]
A = np.array(rows)
n = A.T @ np.linalg.solve(A @ A.T + 1e-3 * np.eye(len(A)), values)  # ridge regression


class Network(slowpoints.Transition):
    m: jax.Array
    n: jax.Array
    B: jax.Array

    def __call__(self, x, u):
        return (1 - LEAK) * x + LEAK * (self.m * (self.n @ jnp.tanh(x)) + self.B @ u)


F = Network(*(jnp.asarray(a, jnp.float32) for a in (m, n, B)))
run = jax.jit(lambda x, u: jax.lax.scan(lambda x, u: (F(x, u),) * 2, x, u)[1])
plane = np.stack([m, B[:, 0]], axis=1)  # along the line, and the direction of the motion input
plane = plane / np.linalg.norm(plane, axis=0)

plt.rcParams.update({"font.size": 8, "figure.constrained_layout.use": True})
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
fig, axes = plt.subplots(1, 2, figsize=(5.4, 2.2), sharey=True)
selection = {}
for ax, (name, v) in zip(axes, CONTEXTS.items()):
    on_line = jnp.linspace(-1.2, 1.2, 60)[:, None] * F.m + F.B @ jnp.float32(v)
    slow = slowpoints.slow_manifold(F, on_line, jnp.float32(v), q_max=1e-4)
    line = slowpoints.line_attractor(slow.points, toward=F.m)
    modes = slowpoints.linear_modes(line.points, toward=F.m)
    middle = line.points.n // 2
    selection[name] = line.selection[middle]
    print(f"{name} context: {line}\n  angles to the inputs:", modes.input_angle[middle, :2].round())
    assert line.is_one_dimensional and line.angle.max() < 5
    assert np.abs(line.time_constant).min() > 200  # steps, five trials
    irrelevant = 1 - list(CONTEXTS).index(name)
    assert abs(modes.input_angle[middle, irrelevant] - 90) < 3
    assert modes.input_angle[middle, 1 - irrelevant] < 85

    origin = F.B @ jnp.float32(v)
    ax.plot(*((line.curve - origin) @ plane).T, color="black", lw=2.5)
    for strength in (-0.6, -0.4, -0.2, 0.2, 0.4, 0.6):
        u = np.tile(np.float32(v), (60, 1))
        u[:20, 0] = strength
        path = (np.vstack([origin, run(origin, u)]) - origin) @ plane
        look = ("#D55E00", "-") if strength > 0 else ("#0072B2", "--")
        ax.plot(*path.T, look[1], color=look[0], lw=0.6 + 2 * abs(strength))
        ax.plot(*path[-1], "s", color=look[0], ms=4, mec="black", mew=0.5)
    arrow = selection[name] @ plane
    arrow = 3 * arrow / np.linalg.norm(arrow)
    ax.annotate("", arrow, (0, 0), arrowprops={"arrowstyle": "-|>", "lw": 2.5, "color": "#009E73"})
    ax.set(title=f"{name} context", xlabel="along the line", aspect="equal")
    ax.set(xlim=(-7, 7), ylim=(-3.5, 3.5), xticks=(-5, 0, 5), yticks=(-2, 0, 2))
axes[0].set_ylabel("along the motion input")
axes[0].plot([], [], color="black", lw=2.5, label="line attractor")
axes[0].plot([], [], color="#009E73", lw=2.5, marker=">", label="selection vector")
axes[0].plot([], [], "s", color="0.8", ms=4, mec="black", mew=0.5, label="end of the trial")
axes[0].plot([], [], color="#D55E00", label="motion to the right (thicker: stronger)")
axes[0].plot([], [], "--", color="#0072B2", label="motion to the left")
fig.legend(loc="outside lower center", ncols=3, frameon=False, columnspacing=1, handlelength=1.5)

a, b = selection.values()
turned = np.degrees(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))
print(f"Between the contexts, the selection vector turns by {turned:.0f} degrees.")
assert turned > 45
path = sys.argv[1] if sys.argv[1:] else Path(__file__).with_suffix(".png")
fig.savefig(path, dpi=190, bbox_inches="tight")
