"""Rotation numbers of curves whose rotation is known, and of what is no curve."""

import numpy as np
import pytest

from slowpoints._attractors.closed_curves.rotation import (
    digits_of_averages,
    in_order_of_phase,
    rotation_of,
)

STEPS = np.arange(4096)


def curves(turns):
    """Return states on closed curves, by phase in turns."""
    c, s = np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)
    c2, s2 = np.cos(4 * np.pi * turns), np.sin(4 * np.pi * turns)
    return {
        "ellipse": np.stack([3 * c, s], axis=1),
        "eight": np.stack([s, s * c], axis=1),
        "twice round": np.stack([c2, s2, 0.1 * c], axis=1),  # the strongest is not the first
        "sharp": np.stack([np.exp(3 * c), 0.01 * s], axis=1),
    }


@pytest.mark.parametrize("number", [1 / 111.55, 0.05, (3 - 5**0.5) / 2, 0.4900123, 1 / 300])
@pytest.mark.parametrize("curve", curves(STEPS))
def test_a_closed_curve_has_its_rotation_number(curve, number):
    found = rotation_of(curves(number * STEPS + 0.3)[curve])
    assert found is not None and found.mismatch < 1e-4
    assert abs(found.number - number) <= 10 * found.error + 1e-12
    assert found.error < 1e-4 * number


def test_states_are_put_in_the_order_of_their_phase():
    number = (3 - 5**0.5) / 2
    states = in_order_of_phase(curves(number * STEPS)["ellipse"], number, 16)
    assert np.allclose(states, curves(np.arange(16) / 16)["ellipse"], atol=1e-5)


def test_a_torus_fits_no_curve_and_its_averages_agree():
    one, other = 2 * np.pi * 0.0312371 * STEPS, 2 * np.pi * np.sqrt(2) / 31 * STEPS
    wide = 2 + np.cos(other)
    states = np.stack([np.cos(one) * wide, np.sin(one) * wide, np.sin(other)], axis=1)
    found = rotation_of(states)
    assert found is None or found.mismatch > 1e-2
    assert digits_of_averages(states) > 6


def test_chaos_fits_no_curve_and_its_averages_do_not_agree():
    x, states = np.array([0.1, 0.1]), []
    for _ in range(5096):
        x = np.array([1 - 1.4 * x[0] ** 2 + x[1], 0.3 * x[0]])
        states.append(x)
    states = np.array(states[1000:])
    found = rotation_of(states)
    assert found is None or found.mismatch > 0.5
    assert digits_of_averages(states) < 3


def test_too_few_turns_tell_nothing():
    assert rotation_of(curves(STEPS / 1000)["ellipse"]) is None
    assert rotation_of(curves((0.5 - 1e-4) * STEPS)["ellipse"]) is None
    assert rotation_of(np.ones((4096, 2))) is None


@pytest.mark.parametrize("period", [31.9988, 16.0005, 9.9999])
def test_a_curve_is_known_where_a_trajectory_nearly_repeats(period):
    """In 4096 steps it goes to a few parts of the curve only."""
    states = curves(STEPS / period)["ellipse"]
    found = rotation_of(states)
    assert found is not None and found.mismatch < 1e-6
    assert abs(1 / found.number - period) < 1e-6
    turned = in_order_of_phase(states, found.number, 64)
    assert np.allclose(turned, curves(np.arange(64) / 64)["ellipse"], atol=1e-6)
