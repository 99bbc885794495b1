"""Which entries of states are small beside others, and yet no rounding."""

import numpy as np
import pytest

from slowpoints._core.units import heard_entries, relative_units, small_entries, units_of

SMALL = 1e-6
LARGE = 1e6


def at_rest(slopes, x):
    """Return two states of an affine map with these slopes, which rests at the first."""
    x = np.stack([x, [LARGE, 0.99 * x[1]]])
    F_x = x[:1] + (x - x[:1]) @ np.asarray(slopes).T
    return x, np.stack([slopes] * 2), F_x


def test_an_entry_that_follows_by_small_slopes_is_heard():
    x, J, F_x = at_rest([[0.5, 0.3 * LARGE / SMALL], [0.2 * SMALL / LARGE, 0.7]], [LARGE, SMALL])
    assert heard_entries(x, J, F_x).tolist() == [False, True]
    assert heard_entries(x, J).tolist() == [False, True]


@pytest.mark.parametrize("slope", [0.2, -1e-6, 1e-8])
def test_rounding_of_a_sum_of_large_terms_is_not(slope):
    """A change of the first entry by its size moves the second by more than its own size."""
    x, J, F_x = at_rest([[0.5, 0.3], [slope, 0.7]], [LARGE, SMALL])
    assert not heard_entries(x, J, F_x).any() and not heard_entries(x, J).any()


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99, -0.9])
def test_a_unit_that_decays_by_itself_is_not(decay):
    """As one below the threshold of a ReLU, which leaks."""
    x = np.array([[LARGE, 1e-30], [-LARGE, 3e-31], *[[0.0, 0.0]] * 4])  # zeros do not tell
    F_x = x * [1.0, decay]
    J = np.stack([np.diag([0.5, decay])] * 6)
    assert not heard_entries(x, J, F_x).any()
    assert heard_entries(x, J).tolist() == [False, True]  # where nothing says that it decays
    flow = np.diag([-0.5, decay - 1])
    assert not heard_entries(x, np.stack([flow] * 6), F_x, continuous_time=True).any()


def test_a_flow_that_rests_is_heard():
    x = np.array([[LARGE, SMALL]])
    J = np.array([[[-1.0, 0.0], [0.0, -1e-3]]])
    assert heard_entries(x, J, x, continuous_time=True).tolist() == [False, True]
    assert not heard_entries(x, J, x - [0.0, 1e-4 * SMALL], continuous_time=True).any()


def test_what_is_moved_by_a_silent_entry_is_silent():
    """The third follows the second, which is the rounding of what follows the first."""
    x = np.array([[LARGE, SMALL, SMALL]])
    J = np.array([[[0.5, 0.0, 0.0], [0.1, 0.5, 0.0], [0.0, 0.5, 0.5]]])
    assert not heard_entries(x, J, x).any()
    J[0, 1, 0] = 0.1 * SMALL / LARGE
    assert heard_entries(x, J, x).tolist() == [False, True, True]


def test_most_points_tell_and_unknown_ones_do_not():
    x = np.array([[LARGE, SMALL]] * 4)
    J = np.stack([np.diag([0.5, 0.5])] * 4)
    F_x = x.copy()
    F_x[0, 1] = 0.0  # one of them is a slow point
    J[1] = np.nan
    assert heard_entries(x, J, F_x).tolist() == [False, True]
    F_x[2, 1] = 0.0
    assert not heard_entries(x, J, F_x).any()


def test_units_of_what_is_heard():
    x, heard = np.array([[LARGE, SMALL, 2.0**-20, 0.0]]), np.array([False, True, False, False])
    assert small_entries(x).tolist() == [False, True, True, False]
    largest, own = 2.0**20, 2.0**-20
    assert units_of(x).tolist() == [largest] * 4
    assert units_of(x, heard=heard).tolist() == [largest, own, largest, largest]
    assert relative_units(x).tolist() == [1.0] * 4
    assert relative_units(x, heard=heard).tolist() == [1.0, own / largest, 1.0, 1.0]
