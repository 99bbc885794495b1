"""Figures of attractors, exponents and closed orbits: what is drawn, and what is said."""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
from networks import henon

from slowpoints import (
    ContinuousTime,
    PlotConfig,
    attractors,
    closed_orbits,
    lyapunov,
    plot_attractors,
    plot_closed_orbits,
    plot_lyapunov,
)

NO_INPUT = np.zeros(0, np.float32)
ANGLES = 2 * np.pi * np.arange(32) / 32
CIRCLE = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1).astype(np.float32)


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def legend_of(fig):
    legends = [*fig.legends, *(ax.get_legend() for ax in fig.axes)]
    return [text.get_text() for legend in legends if legend for text in legend.get_texts()]


def test_attractors_are_named_with_their_shares(tmp_path):
    def F(x, u):
        return jnp.where(jnp.abs(x) > 3, 2 * x, jnp.tanh(2 * x))

    found = attractors(F, np.float32([[1], [1], [-1], [5]]), NO_INPUT)
    path = tmp_path / "attractors.png"
    fig = plot_attractors(found, PlotConfig(show=False, save_path=path))
    assert legend_of(fig) == ["fixed point: 50.0 %", "fixed point: 25.0 %", "escape: 25.0 %"]
    assert path.stat().st_size > 1000
    assert "2 attractors" in fig.axes[0].get_title()


@pytest.mark.slow
def test_orbits_and_chaos_are_drawn_on_axes_that_are_given():
    orbit = attractors(
        lambda x, u: jnp.stack([2.1 * x[0] * (1 - x[1]), x[0]]), 0.5 + 0.01 * normal(4, 2), NO_INPUT
    )
    fig, (left, right) = plt.subplots(1, 2)
    assert plot_attractors(orbit, ax=left, projection=np.eye(2)) is fig
    line = left.get_lines()[0].get_xydata()
    assert np.allclose(line[:-1], orbit.states[0]) and np.allclose(line[0], line[-1])
    plot_lyapunov(orbit, ax=right)
    assert "closed orbit of 6.406 steps: 100.0 %" in legend_of(fig)
    plt.close(fig)


def test_exponents_that_are_minus_infinity_are_counted():
    found = lyapunov(lambda x, u: jnp.stack([0.5 * x[0], 0 * x[1]]), normal(3, 2), NO_INPUT)
    fig = plot_lyapunov(found, PlotConfig(show=False))
    assert "not drawn: 3 of minus infinity" in legend_of(fig)


@pytest.mark.slow
def test_many_attractors_are_grey_and_counted():
    found = attractors(lambda x, u: jnp.tanh(2 * x), normal(200, 4), NO_INPUT)
    names = legend_of(plot_attractors(found, PlotConfig(show=False)))
    assert len(names) == 9 and names[-1].startswith(f"{len(found) - 8} others")


@pytest.mark.slow
@pytest.mark.parametrize("in_steps", [False, True])
def test_closed_orbits_are_drawn_with_what_becomes_of_deviations(in_steps):
    if in_steps:
        F = lambda x, u: jnp.stack([2.1 * x[0] * (1 - x[1]), x[0]])  # noqa: E731
        found = closed_orbits(F, attractors(F, np.float32([[0.5, 0.5]]), NO_INPUT))
    else:
        F = ContinuousTime(lambda x, u: jnp.stack([x[1], (1 - x[0] ** 2) * x[1] - x[0]]))
        found = closed_orbits(F, 2 * CIRCLE, NO_INPUT)
    fig = plot_closed_orbits(found, PlotConfig(show=False, figsize=(8, 4)))
    assert legend_of(fig) == ["stable orbit (1)"] and fig.get_suptitle() == "1 closed orbit"
    assert ("exponent" in fig.axes[1].get_ylabel()) == in_steps


@pytest.mark.slow
def test_closed_orbits_are_drawn_alone_on_axes_that_are_given():
    F = ContinuousTime(lambda x, u: jnp.stack([x[1], (1 - x[0] ** 2) * x[1] - x[0]]))
    found = closed_orbits(F, 2 * CIRCLE, NO_INPUT)
    fig, ax = plt.subplots()
    assert plot_closed_orbits(found, ax=ax, projection=np.eye(2)) is fig
    (lines,) = ax.collections
    assert np.allclose([line[0] for line in lines.get_segments()], found.states[0], atol=1e-6)
    assert [other.get_label() for other in fig.axes] == ["", "<colorbar>"]
    plt.close(fig)


@pytest.mark.slow
def test_orbits_that_are_not_resolved_are_said_to_be_missing():
    found = closed_orbits(ContinuousTime(lambda x, u: -x + 5 * x[::-1] * u), CIRCLE, np.ones(2))
    fig = plot_closed_orbits(found, PlotConfig(show=False))
    assert "1 not resolved" in fig.get_suptitle()


def test_something_else_is_refused():
    exponents = lyapunov(henon(), np.float32([0.1, 0.1]), NO_INPUT, n_steps=16)
    with pytest.raises(TypeError, match="attractors"):
        plot_attractors(exponents)
    with pytest.raises(TypeError, match="orbits"):
        plot_closed_orbits(exponents)
    with pytest.raises(TypeError, match="exponents"):
        plot_lyapunov("none")
    with pytest.raises(TypeError, match="`ax`"):
        plot_lyapunov(exponents, ax="none")
