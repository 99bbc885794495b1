"""`Compilations`: when this process compiles, and for how long."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator


class Compilations:
    """Notes, for as long as it is entered, when this process begins and ends to compile.

    Attributes:
        seconds: for how long something was compiled, so far.
    """

    def __init__(
        self, begins: Callable[[], None] | None = None, ends: Callable[[float], None] | None = None
    ) -> None:
        self.seconds = 0.0
        self._begins, self._ends = begins, ends
        self._n, self._started = 0, 0.0

    def __enter__(self) -> "Compilations":
        with _watching:
            _watchers.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        with _watching:
            _watchers.remove(self)

    def add(self, one: int) -> None:
        """Count a program that is being compiled (1), or is no longer (-1)."""
        self._n += one
        if one == 1 and self._n == 1:
            self._started = time.perf_counter()
            if self._begins is not None:
                self._begins()
        elif one == -1 and self._n == 0:
            seconds = time.perf_counter() - self._started
            self.seconds += seconds
            if self._ends is not None:
                self._ends(seconds)


_watching = threading.Lock()
_watchers: list[Compilations] = []


@contextlib.contextmanager
def compiling() -> Iterator[None]:
    """Tell all who watch that something is compiled, from whichever thread, one at a time."""
    with _watching:
        told = list(_watchers)
        for watcher in told:
            watcher.add(1)
    try:
        yield
    finally:
        with _watching:
            for watcher in told:
                watcher.add(-1)
