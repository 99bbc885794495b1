"""Rows of arrays: few sizes where rows cost little, and the same rows in the end."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slowpoints._core import arrays
from slowpoints._core.arrays import filled_up, first_rows, in_chunks, power_of_two

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


def test_chunks_are_of_one_size_and_make_up_all_rows():
    sizes = []

    def program(factor, x, u):
        sizes.append(len(x))
        return {"sum": factor * (x + u), "x": x}

    x, u = jnp.arange(10.0).reshape(5, 2), jnp.ones((5, 2))
    out = in_chunks(program, 2, 3, x, u)
    assert sizes == [3, 3]
    assert np.array_equal(out["sum"], 2 * (x + u)) and np.array_equal(out["x"], x)
    assert in_chunks(program, 2, 3, x[:0], u[:0])["x"].shape == (0, 2)
    slope = jax.grad(lambda factor: in_chunks(program, factor, 3, x, u)["sum"].sum())(2.0)
    assert slope == 55 and sizes[-1] == 5
