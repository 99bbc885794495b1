"""A looped model: the fixed point of a deep equilibrium layer.

A layer that is applied again and again, `z <- f(z, x)`, ends at a fixed point, which depends on the
input `x` and serves as the layer's output. Here an Equinox layer of 32 units tells the arms of two
spirals apart. It is trained through its fixed point: `slowpoints.optimize_batch` is differentiable
by the implicit function theorem, whatever the number of loops that the layer would take.

**What to look at.** On the left are the data, and how the layer divides the plane between the two
classes. On the right is the number of loops that the layer takes until it is within `1e-4` of the
fixed point, for each input of a grid, against the number that the eigenvalues at the fixed point
predict: a deviation shrinks by the factor `|λ|` in each loop, so `log(1e-4) / log |λ|` loops are
needed. Some inputs need several times as many loops as others.

The recurrent weights are scaled to a norm of 0.95, so that the layer contracts, and each input has
exactly one fixed point. `slowpoints.find_all` proves it, here for one input.

**Sources.** Bai, Kolter & Koltun (2019). Deep equilibrium models. *Advances in Neural Information
Processing Systems* 32. Winston & Kolter (2020). Monotone operator equilibrium networks. *Advances
in Neural Information Processing Systems* 33.
"""

import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import slowpoints

N, STEPS = 32, 300


class Layer(eqx.Module):
    W: jax.Array
    of_input: eqx.nn.Linear

    def __call__(self, z, x):
        return jnp.tanh(self.W @ z + self.of_input(x))


def contracting(layer):
    W = 0.95 * layer.W / jnp.linalg.norm(layer.W, 2)
    return Layer(W, layer.of_input)


def spirals(key, n):
    of_radius, of_class, of_noise = jax.random.split(key, 3)
    radius = jnp.sqrt(jax.random.uniform(of_radius, (n,), minval=0.05))
    label = jax.random.bernoulli(of_class, 0.5, (n,))
    angle = 7 * radius + jnp.pi * label
    x = 1.5 * radius[:, None] * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)
    return x + 0.05 * jax.random.normal(of_noise, (n, 2)), 2.0 * label - 1


def scores(params, x):
    layer, readout = params
    z = slowpoints.optimize_batch(contracting(layer), jnp.zeros((len(x), N)), x).xstar
    return z @ readout


def loss(params, x, label):
    return jnp.mean(jnp.logaddexp(0, -label * scores(params, x)))


@eqx.filter_jit
def descend(params, mean, square, i, key):  # Adam
    gradient = eqx.filter_grad(loss)(params, *spirals(key, 128))
    mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, gradient)
    square = jax.tree.map(lambda s, g: 0.99 * s + 0.01 * g**2, square, gradient)
    rate = 0.02 * jnp.sqrt(1 - 0.99**i) / (1 - 0.9**i)
    step = jax.tree.map(lambda m, s: -rate * m / (jnp.sqrt(s) + 1e-8), mean, square)
    return eqx.apply_updates(params, step), mean, square


keys = jax.random.split(jax.random.key(0), STEPS + 3)
layer = Layer(jax.random.normal(keys[0], (N, N)), eqx.nn.Linear(2, N, key=keys[1]))
params = (layer, jnp.zeros(N))
mean = square = jax.tree.map(jnp.zeros_like, params)
for i in range(STEPS):
    params, mean, square = descend(params, mean, square, jnp.float32(i + 1), keys[i + 3])
F = contracting(params[0])

x, label = spirals(keys[2], 1000)
correct = float(jnp.mean(jnp.sign(scores(params, x)) == label))
print(f"{correct:.1%} of new points are classified correctly.")
assert correct > 0.97
one, complete = slowpoints.find_all(F, (-np.ones(N), np.ones(N)), np.array([0.3, 0.4]))
assert complete and one.n == 1

side = np.linspace(-1.9, 1.9, 40)
grid = jnp.asarray(np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2), jnp.float32)
fps = slowpoints.optimize_batch(F, jnp.zeros((len(grid), N)), grid)
fps = slowpoints.decompose(slowpoints.jacobians(F, fps)).to_numpy()
predicted = np.log(1e-4) / np.log(np.abs(fps.eigval_J_xstar[:, 0]))
z, loops = jnp.zeros((len(grid), N)), np.zeros(len(grid))
for _ in range(300):
    loops += np.linalg.norm(z - fps.xstar, axis=1) > 1e-4
    z = jax.vmap(F)(z, grid)
print("loops", loops.min(), loops.max(), "correlation", np.corrcoef(loops, predicted)[0, 1])
assert np.corrcoef(loops, predicted)[0, 1] > 0.9

plt.rcParams.update({"font.size": 8, "figure.constrained_layout.use": True})
fig, (left, right) = plt.subplots(1, 2, figsize=(5.6, 2.7))
image = scores(params, grid).reshape(40, 40)
left.contourf(side, side, image, [-1e3, 0, 1e3], colors=["#DDF0FB", "#F5D08A"])
left.contour(side, side, image, [0], colors="black", linewidths=1)
left.plot([], [], color="black", lw=1, label="where the layer divides them")
for sign, marker, color, arm in ((-1, "o", "#0072B2", "one"), (1, "^", "#D55E00", "other")):
    data = x[:300][label[:300] == sign]
    left.plot(*data.T, marker, color=color, ms=2.5, label=f"data of the {arm} arm")
left.set(aspect="equal", title="classes", xlabel="$x_1$", ylabel="$x_2$")
right.plot(predicted, loops, ".", color="0.4", ms=3, label="an input of the grid")
right.axline((0, 0), slope=1, color="black", lw=0.8, label="both alike")
fig.legend(loc="outside lower center", ncols=3, frameon=False)
right.set(xlabel="loops, from the eigenvalues", ylabel="loops, counted", title="how long it takes")
path = sys.argv[1] if sys.argv[1:] else Path(__file__).with_suffix(".png")
fig.savefig(path, dpi=180, bbox_inches="tight")
