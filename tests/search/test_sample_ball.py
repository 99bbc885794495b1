"""`sample_ball`: where its states are, and how they are spread."""

import jax
import numpy as np
import pytest

from slowpoints import sample_ball

KEY = jax.random.key(0)


@pytest.mark.parametrize("n_states", [1, 2, 5])
def test_states_are_spread_evenly_over_the_ball(n_states):
    center = np.linspace(-1, 1, n_states).astype(np.float32)
    x = np.asarray(sample_ball(KEY, center, 2.0, 20_000)) - center
    # The volume within a distance is even from 0 to 1, and no direction is preferred.
    volume = np.sort((np.linalg.norm(x, axis=1) / 2) ** n_states)
    assert volume[-1] <= 1 + 1e-5
    assert np.abs(volume - np.linspace(0, 1, 20_000)).max() < 0.015
    assert np.abs(x.mean(axis=0)).max() < 0.05


def test_an_ellipsoid_has_semi_axes_of_its_own():
    x = np.asarray(sample_ball(KEY, np.zeros(2, np.float32), np.float32([1e-3, 1e3]), 5000))
    inside = np.linalg.norm(x / [1e-3, 1e3], axis=1)
    assert inside.max() <= 1 + 1e-5 and inside.max() > 0.99
    assert np.allclose(np.abs(x).max(axis=0), [1e-3, 1e3], rtol=0.05)


def test_the_key_decides_and_jit_changes_nothing():
    center = np.ones(3, np.float32)
    first, again = (sample_ball(KEY, center, 1.0, 4) for _ in range(2))
    inside = jax.jit(lambda radius: sample_ball(KEY, center, radius, 4))(1.0)
    assert np.array_equal(first, again) and np.allclose(first, inside, atol=1e-6)
    assert not np.array_equal(first, sample_ball(jax.random.key(1), center, 1.0, 4))
