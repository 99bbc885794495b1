"""How many rows are searched at a time, as memory allows."""

import os
from bisect import bisect_right

from slowpoints._solvers.base import AbstractSolver
from slowpoints._solvers.termination import bytes_to_judge


def default_memory_limit() -> int:
    """Return a quarter of the machine's memory, in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4


def rows_within(
    limit: int,
    solver: AbstractSolver,
    n_rows: int,
    n_states: int,
    n_inputs: int,
    *,
    n_searches: int = 1,
    least: int = 1,
) -> tuple[int, int]:
    """Return how many of `n_rows` rows can be searched at a time within `limit` bytes.

    A row takes its state in the queue, at work and in the result, in float64. What else the search
    takes, its solver says.

    Args:
        limit: the bytes.
        solver: the solver.
        n_rows: how many rows there are.
        n_states: the length of a state.
        n_inputs: the length of an input.
        n_searches: how many searches are to share the rows, side by side.
        least: the fewest rows for which a search of their own is worth its memory.

    Returns:
        The number of rows, and that of the searches, which is smaller if not all have their share.

    Raises:
        ValueError: if a single row takes more.
    """

    def taken(rows: int) -> int:
        row = 8 * (9 * n_states + 2 * n_inputs + 10)
        work = solver.bytes_to_work(rows, n_states)
        return rows * row + max(work, bytes_to_judge(rows, n_states))

    def most(limit: int) -> int:
        if taken(n_rows) <= limit:  # as nearly always
            return n_rows
        return bisect_right(range(1, n_rows + 1), limit, key=taken)

    while n_searches > 1 and most(limit // n_searches) < least:
        n_searches -= 1
    rows = n_searches * most(limit // n_searches)
    if rows < 1:
        raise ValueError(
            f"`memory_limit` is {limit} bytes, but one row of {n_states} states takes {taken(1)}."
        )
    return min(rows, n_rows), n_searches
