"""Ctrl-C during a search: the first ends it after the starts in work, the second at once."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from slowpoints._points.fixed_points import FixedPoints

_ANSWER = (
    "\nEnding the search after the starts in work, and keeping what is found. Press Ctrl-C again "
    "to stop at once, without a result."
)


class Interrupt:
    """Whether Ctrl-C, or the stop button of a notebook, has asked for the end of a search."""

    def __init__(self) -> None:
        self.requested = False

    def ends(self, progress: Callable[[FixedPoints], None]) -> Callable[[FixedPoints], None]:
        """Return a `progress` that ends the search, too, if that was asked for."""

        def update(rows: FixedPoints) -> None:
            progress(rows)
            if self.requested:
                raise StopIteration

        return update

    def answer(self, *_: Any) -> None:
        """Take note of the first signal; leave the next one to Python."""
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self.requested = True
        with contextlib.suppress(RuntimeError):  # something else was just being written
            print(_ANSWER, file=sys.stderr, flush=True)


@contextlib.contextmanager
def first_interrupt_asks(applies: bool) -> Iterator[Interrupt]:
    """Take the first Ctrl-C as a request, unless somebody else handles the signal."""
    interrupt = Interrupt()
    in_main_thread = threading.current_thread() is threading.main_thread()
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not (applies and in_main_thread and ours):
        yield interrupt
        return
    signal.signal(signal.SIGINT, interrupt.answer)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
