"""`Progress`: the bar over a search, which goes on from chunk to chunk of its rows."""

from collections.abc import Callable

import jax
import numpy as np

from slowpoints._core.compilations import Compilations
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.status import Status


class Progress:
    """A progress bar over the rows of a search, and how many of them are at fixed points.

    If `announced`, chunks are told apart in what is printed of their iterations. `then` is called
    with the rows of each chunk.
    """

    def __init__(
        self,
        n_rows: int,
        shown: bool,
        announced: bool = False,
        then: Callable[[FixedPoints], None] | None = None,
    ):
        from tqdm import tqdm  # only here: without `verbose`, it is not needed

        self._bar = tqdm(total=n_rows, unit=" states", leave=False, disable=not shown)
        self._announced, self._then = announced, then
        self._n_done, self._n_exact = 0, 0
        self._compilations = Compilations(self._begin_to_compile, self._go_on)

    def __enter__(self) -> "Progress":
        self._compilations.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._compilations.__exit__()
        self._bar.close()

    @property
    def seconds_of_compilation(self) -> float:
        """For how long something was compiled."""
        return self._compilations.seconds

    def _begin_to_compile(self) -> None:
        self._bar.set_description_str("compiling")

    def _go_on(self, seconds: float) -> None:
        if not self._bar.disable:  # a bar that is not shown has no clock
            self._bar.start_t += seconds  # the rate counts running time only
        self._bar.set_description_str("")

    def update(self, fps: FixedPoints) -> None:
        """Count the rows of a chunk that is done."""
        self._n_done += fps.n
        if self._announced and self._n_done < self._bar.total:
            jax.effects_barrier()  # the lines of this chunk come first
            print(f"\tFrom initial state {self._n_done + 1} on:")
        self._n_exact += int(np.sum(np.asarray(fps.status) == Status.FIXED_POINT))
        self._bar.set_postfix_str(f"{self._n_exact} at fixed points", refresh=False)
        self._bar.update(fps.n)
        if self._n_done >= self._bar.total:
            self._bar.close()  # else it is drawn again below each warning
        if self._then is not None:
            self._then(fps)


def rows_at_a_time(n_rows: int, n_states: int, watched: bool) -> int:
    """Return a number of rows that takes about a second, and enough to keep all lanes at work.

    That is for networks whose points are found easily; others take a hundred times as long. So
    there are fewer rows if somebody is told of each chunk, and may end the search.
    """
    if n_rows <= 512:
        return n_rows
    few, most = (8, 2048) if watched else (1, 16384)
    return int(np.clip(4e8 / n_states**2 / few, 512, most).item())
