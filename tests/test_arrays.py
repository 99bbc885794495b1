"""Rows of arrays: few sizes where rows cost little, and the same rows in the end."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slowpoints import FixedPoints, decompose
from slowpoints._core import arrays
from slowpoints._core.arrays import filled_up, first_rows, power_of_two
from slowpoints._points import spectra

pytestmark = pytest.mark.fast


def test_the_smallest_power_of_two_that_is_enough():
    assert [power_of_two(n) for n in (1, 2, 3, 4, 5, 27, 32, 33)] == [1, 2, 4, 4, 8, 32, 32, 64]


def test_rows_are_repeated_until_there_is_a_power_of_two():
    x, y = jnp.arange(5.0), jnp.arange(10.0).reshape(5, 2)
    more_x, more_y = filled_up(1, x, y)
    assert more_x.tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
    np.testing.assert_array_equal(more_y, np.asarray(y)[[0, 1, 2, 3, 4, 0, 1, 2]])
    np.testing.assert_array_equal(first_rows(more_y, 5), y)


@pytest.mark.parametrize("n", [0, 1, 4])
def test_a_power_of_two_and_no_rows_stay_as_they_are(n):
    x = jnp.arange(float(n))
    assert filled_up(1, x)[0] is x and first_rows(x, n) is x


def test_rows_that_cost_much_are_not_repeated():
    """Five rows would be three more."""
    x = jnp.arange(5.0)
    assert filled_up(arrays._LITTLE // 3, x)[0].size == 8
    assert filled_up(arrays._LITTLE // 3 + 1, x)[0] is x


def test_traced_rows_are_not_repeated():
    fixed = jnp.arange(5.0)
    assert jax.jit(lambda x: filled_up(1, x, fixed)[1])(jnp.ones(5)).size == 5


@pytest.mark.parametrize("d, expected", [(64, 32), (256, 27)])
def test_small_spectra_are_of_few_numbers_of_points(monkeypatch, d, expected):
    """27 points of 64 units; of 256 units, five more would take a second."""
    sizes = []

    def watched(J, continuous_time):
        sizes.append(len(J))
        return jnp.ones((len(J), d), complex), jnp.ones((len(J), d, d), complex)

    monkeypatch.setattr(spectra, "sorted_eig", watched)
    fps = decompose(FixedPoints(J_xstar=np.zeros((27, d, d), np.float32)))
    assert sizes == [expected] and fps.eigval_J_xstar.shape == (27, d)
