"""How many rows are searched at a time, as memory allows."""

import os
from bisect import bisect_right

from slowpoints._search.verdict import bytes_to_judge
from slowpoints._solvers.base import AbstractSolver


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

    Each row takes memory for its state in the queue, in work and in the result, in float64. The
    solver says what else the search takes.

    Args:
        limit: how many bytes the search may take.
        solver: the solver.
        n_rows: how many rows there are.
        n_states: the length of a state.
        n_inputs: the length of an input.
        n_searches: how many parallel searches are to share the rows.
        least: the smallest number of rows that is worth the memory of a search of its own.

    Returns:
        The number of rows, and the number of searches, which is smaller than `n_searches` if memory
        does not suffice for all of them.

    Raises:
        ValueError: if a single row takes more than `limit`.
    """

    def taken(rows: int) -> int:
        row = 8 * (9 * n_states + 2 * n_inputs + 10)
        # Rows are judged when none is in work any more.
        work = max(solver.bytes_to_work(rows, n_states), bytes_to_judge(rows, n_states))
        return rows * row + work

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
