"""Which states at rest are next to unstable points, and so will leave."""

import numpy as np

from slowpoints import as_transition
from slowpoints._connections.unstable_points import unstable_points


def test_only_points_next_to_the_states_count():
    """Newton's method leads all of them to 0, which is unstable, from however far away."""
    F = as_transition(lambda x, u: 2 * x)
    x = np.array([[0.0], [0.3], [1e-9], [0.0], [0.3]])
    u = np.array([[0.0], [0.0], [0.0], [1.0], [1.0]])
    points, number = unstable_points(F, x, u, 1000)
    np.testing.assert_array_equal(points, [[0.0], [0.0]])  # one for each input
    assert number.tolist() == [0, -1, 0, 1, -1]
    assert unstable_points(F, x, u, 10)[1].tolist() == [-1] * 5  # they take longer to leave
