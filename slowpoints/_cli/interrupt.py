"""Ctrl-C during a search: the first ends it after the rows in work, the second the program."""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import click

from slowpoints._cli.command import INTERRUPTED


@dataclass
class Interrupt:
    """Whether the search was asked to end."""

    requested: bool = False


@contextlib.contextmanager
def first_interrupt_asks(message: str) -> Iterator[Interrupt]:
    """Take the first Ctrl-C as a request, which is acknowledged by `message`.

    Python looks at signals between two steps of its own, and a compiled search is a single one of
    these. So a thread waits for the system's own note of the signal, to answer at once.

    Args:
        message: what the first Ctrl-C is answered with, on standard error.
    """
    interrupt = Interrupt()
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, None):
        yield interrupt  # signals cannot be handled here, or are to be ignored
        return
    receiver, sender = socket.socketpair()
    sender.setblocking(False)

    def watch() -> None:
        while received := receiver.recv(1):
            if received[0] != signal.SIGINT:
                continue
            if interrupt.requested:
                click.echo("\nQuit; nothing was written.", err=True)
                os._exit(INTERRUPTED)
            interrupt.requested = True
            click.echo(f"\n{message}", err=True)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    handler = signal.signal(signal.SIGINT, lambda *_: None)
    descriptor = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    try:
        yield interrupt
    finally:
        signal.set_wakeup_fd(descriptor)
        signal.signal(signal.SIGINT, handler)
        sender.close()  # which ends the thread
        watcher.join()
        receiver.close()
