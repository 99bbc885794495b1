"""How many rows are searched at a time, as memory allows."""

import os

from slowpoints._solvers.subspace_trust_region import DENSE_LIMIT, SubspaceTrustRegion

_LANES = 128
"""The most rows that a solver has in work at a time."""

_VECTORS_PER_LANE = 150
"""Vectors of `n_states` float32 that a lane holds: two bases, the trial states, and what the
network's step makes of them (counted for gated units, which make the most)."""

_MATRICES_PER_LANE = 6
"""Matrices of `n_states` x `n_states` float64 that a row with a Jacobian holds."""


def default_memory_limit() -> int:
    """Return a quarter of the machine's memory, in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4


def rows_within(
    limit: int, n_rows: int, n_states: int, n_inputs: int, n_searches: int = 1
) -> tuple[int, int]:
    """Return how many of `n_rows` rows can be searched at a time within `limit` bytes.

    A row takes its state in the queue, at work and in the result, in float64; a row in a lane also
    the vectors of its linear algebra, and for some lanes matrices.

    Args:
        limit: the bytes.
        n_rows: how many rows there are.
        n_states: the length of a state.
        n_inputs: the length of an input.
        n_searches: how many searches are to share the rows, side by side, each with its own lanes.

    Returns:
        The number of rows, and that of the searches, which is smaller if not all have their lanes.

    Raises:
        ValueError: if a single row takes more.
    """
    row = 8 * (9 * n_states + 2 * n_inputs + 10)
    lane = 4 * _VECTORS_PER_LANE * n_states
    dense = 8 * _MATRICES_PER_LANE * n_states**2 if n_states <= DENSE_LIMIT else 0
    lanes = _LANES * lane + SubspaceTrustRegion.lanes * dense
    n_searches = max(1, min(n_searches, limit // (lanes + _LANES * row)))
    queued = (limit - n_searches * lanes) // row
    rows = queued if queued >= _LANES else limit // (row + lane + dense)
    if rows < 1:
        raise ValueError(
            f"`memory_limit` is {limit} bytes, but one row of {n_states} states takes "
            f"{row + lane + dense}."
        )
    return min(rows, n_rows), n_searches
