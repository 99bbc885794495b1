"""Events are where they should be, to what their uncertainty says, in any unit of time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from slowpoints import (
    ContinuousTime,
    FixedPoints,
    continuation,
    flow,
    optimize_batch,
    stroboscopic,
)
from slowpoints._continuation import stability_changes


def from_rest(G, n_states, s, span):
    """Follow the rest state 0 from one `s`."""
    x, s = np.zeros((1, n_states), np.float32), np.full((1, 1), s, np.float32)
    return continuation(G, FixedPoints(xstar=x, inputs=s), span)


def hopf(tau, frequency=3):
    def f(x, s):
        square = x @ x
        across = jnp.stack([-x[1], x[0]])
        return (s[0] * x + frequency * across - square * x) / tau

    return ContinuousTime(f)


@pytest.mark.slow_cases
@pytest.mark.parametrize("tau", [1e5, 1e-6, 1e3])
def test_a_hopf_point_is_the_same_in_all_units_of_time(tau):
    branches = from_rest(hopf(tau), 2, -0.5, (-1, 1))
    (event,) = branches.events
    assert event.kind == "hopf" and abs(event.s) <= event.uncertainty < 1e-12
    assert event.eigval * tau == pytest.approx(3j, abs=1e-6)
    branch = branches.branches[0]
    rates = branch.eigvals * tau
    assert np.allclose(
        np.sort_complex(rates[:, :1]), branch.s[:, None] + 3j * np.sign(rates.imag[:, :1])
    )
    assert np.array_equal(branch.index, np.where(branch.s > 0, 2, 0))
    fps = branches.at(0.5)
    assert fps.eigval_J_xstar[0] * tau == pytest.approx(np.array([0.5 + 3j, 0.5 - 3j]), abs=1e-5)


def saddle_node(tau, s):
    fps = FixedPoints(xstar=np.full((1, 1), 1.2, np.float32), inputs=np.full((1, 1), s, np.float32))
    return continuation(ContinuousTime(lambda x, s: (s - x**2 + jnp.cos(x)) / tau), fps, (-2, 2))


@pytest.mark.slow
def test_a_fold_of_a_slow_flow_is_precise():
    (fold,) = saddle_node(1e4, 1.1).events
    assert fold.kind == "fold" and abs(fold.s + 1) <= fold.uncertainty < 1e-12


@pytest.mark.slow
def test_speeds_on_branches_are_in_the_networks_own_unit_of_time():
    """They are what rounding leaves of terms of size 1, here multiplied by 1e9."""
    at = saddle_node(1e-9, 1.1).at(0.7)
    moved = np.asarray(at.F_xstar) - np.asarray(at.xstar)
    assert at.n == 2 and 1e-8 < np.abs(moved).max() < 1e-5
    assert np.allclose(at.qstar, 0.5 * np.sum(moved**2, axis=1), rtol=1e-6)


def blocks(rng, kind, gap):
    """Return a matrix, not normal, of which two eigenvalues or pairs differ by a relative `gap`."""
    if kind == "flip":
        W = np.diag([-1, -(1 + gap), 0.5])
    else:
        pair = np.array([[0.3, -1.0], [1.0, 0.3]])
        W = np.kron(np.diag([1, 1 + gap]), pair)
    Q = rng.normal(size=W.shape)
    return np.float32(Q @ W @ np.linalg.inv(Q))


@pytest.mark.slow_cases
@pytest.mark.parametrize("flow", [False, True])
@pytest.mark.parametrize("kind", ["flip", "pair"])
@pytest.mark.parametrize("gap", [1e-2, 1e-4, 1e-6, 0])
def test_an_event_is_within_its_uncertainty_next_to_another(gap, kind, flow):
    """All that pass where `s` times an eigenvalue does, from the rest state of a tanh network."""
    rng = np.random.default_rng(5)
    for _ in range(3):
        W = blocks(rng, kind, gap)
        if flow:
            F = ContinuousTime(lambda x, s, W=W: (-x + jnp.tanh(s[0] * (W @ x))) / 300)
        else:
            F = lambda x, s, W=W: jnp.tanh(s[0] * (W @ x))  # noqa: E731
        branches = from_rest(F, len(W), 0.05, (0.05, 6))
        events = [event for event in branches.events if np.abs(event.xstar).max() < 1e-6]
        values = np.linalg.eigvals(W.astype(np.float64))
        passing = 1 / values.real if flow else 1 / np.abs(values)
        for s in passing[(passing > 0.05) & (passing < 6)]:
            nearest = min(events, key=lambda event, s=s: abs(event.s - s))
            assert abs(nearest.s - s) <= nearest.uncertainty + 1e-14
            assert nearest.uncertainty < 1e-5 + 100 * gap  # float32 weights differ by that


@pytest.mark.parametrize("certify", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("asymmetry", [1e-10, 1e-6])
def test_a_sharp_fold_is_within_its_uncertainty(asymmetry, certify):
    """Beside a pitchfork that is not quite one; tubes take many short steps there."""
    with jax.enable_x64(True):
        G = lambda x, s: x + s * x - x**3 + asymmetry  # noqa: E731
        x = np.sort(np.roots([-1, 0, 0.8, asymmetry]).real)[:, None]
        fps = FixedPoints(xstar=x, inputs=np.full((3, 1), 0.8), dtype=np.float64)
        (fold,) = [
            e for e in continuation(G, fps, (-1, 1), certify=certify).events if e.kind == "fold"
        ]
        assert abs(fold.s - 3 * (asymmetry / 2) ** (2 / 3)) <= fold.uncertainty < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("known", [True, False])
def test_a_fold_that_is_not_interpolated_is_within_what_its_piece_tells(monkeypatch, known):
    """The ends of a piece around a fold may have the same parameter, and the fold another."""
    if not known:
        monkeypatch.setattr(stability_changes, "_zero_of", lambda test: None)
    with jax.enable_x64(True):
        G = lambda x, s: x + s * x - x**3 + 1e-5  # noqa: E731
        x = np.sort(np.roots([-1, 0, 0.8, 1e-5]).real)[:, None]
        fps = FixedPoints(xstar=x, inputs=np.full((3, 1), 0.8), dtype=np.float64)
        (fold,) = (e for e in continuation(G, fps, (-1, 1)).events if e.kind == "fold")
        assert abs(fold.s - 3 * (1e-5 / 2) ** (2 / 3)) <= fold.uncertainty < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("rtol", [None, 1e-8])
def test_points_of_flows_are_followed_as_far_as_their_errors_allow(rtol):
    """With inputs in turn of which one is the parameter: compared with another integrator."""
    pytest.importorskip("diffrax")
    inputs = np.array([[0.2], [-0.2], [0.0], [0.1]])

    def over_one_period(x, s):
        for u in inputs[:, 0] + s:
            ends = (0, 0.7), [x]
            x = solve_ivp(lambda t, y, u=u: y - y**3 + u, *ends, rtol=1e-11, atol=1e-13).y[0, -1]
        return x

    F = ContinuousTime(lambda x, u: x - x**3 + u)
    G = stroboscopic(flow(F, 0.7, rtol=rtol), inputs)
    fps = optimize_batch(G, np.float32([[-1], [0], [1]]), np.zeros((3, 1), np.float32))
    branches = continuation(G, fps, (-1, 1))
    (branch,) = branches.branches
    assert (
        branch.ended_by == ("span", "span")
        and branch.rows == (0, 1, 2)
        and not branches.not_followed
    )
    assert [event.kind for event in branches.events] == ["fold", "fold"]
    for s in (0.1, 0.3, 0.5):
        for x in branches.at(s).xstar[:, 0]:
            assert abs(over_one_period(x, s) - x) < 1e3 * (rtol or 1e-10)
    for event in branches.events:
        lows, highs = (branches.at(event.s + side * 1e-4).n for side in (-1, 1))
        assert {lows, highs} == {1, 3}


@pytest.mark.slow
def test_a_fold_in_a_narrow_dip_is_within_its_uncertainty():
    """At `x = 0`, where the branch bends over the distance of the points that tell of it."""
    width = 1e-3
    G = lambda x, s: x + 0.5 * (s - x**2 + width / (1 + (x / width) ** 2))  # noqa: E731
    with jax.enable_x64(True):
        x = np.full((1, 1), np.sqrt(0.5 + 1e-9))
        s = x**2 - width / (1 + (x / width) ** 2)
        fps = FixedPoints(xstar=x, inputs=s, dtype=np.float64)
        (fold,) = continuation(G, fps, (-1, 1)).events
        assert fold.kind == "fold" and abs(fold.s + width) <= fold.uncertainty < 1e-9
