"""Ctrl-C during a search in Python: nothing that was found is lost, and nothing goes on unasked."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from slowpoints import FixedPointFinder

ROOT = Path(__file__).parents[2]

SCRIPT = """
import signal, sys, time
import jax.numpy as jnp, numpy as np
from slowpoints import FixedPointFinder
signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a terminal

def network(x, u):
    return jnp.tanh(1.5 * x + u)

def progress(rows):
    print("chunk", flush=True)
    {pause}

states = np.random.default_rng(0).normal(size=(1, 1000, 1)).astype(np.float32)
finder = FixedPointFinder(network, verbose=False)
for k in range(3):  # networks of a script, which does not go on
    print("search", flush=True)
    try:
        finder.find_fixed_points(states, np.zeros((1, 1)), n_inits=40_000, progress=progress)
    except KeyboardInterrupt as error:
        found = finder.interrupted
        print(error, "|", found and (found[0].n, found[1].n, int(found[0].hits.sum())), flush=True)
        raise
"""


def interrupted(times, pause):
    """Return what the script prints if it is sent a signal so many times, and its exit status."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(pause=pause)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        text=True,
    )
    assert process.stdout.readline() == "search\n" and process.stdout.readline() == "chunk\n"
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        if times > 1:
            assert any("Press Ctrl-C again" in line for line in iter(process.stderr.readline, ""))
            times = 1
    out, err = process.communicate(timeout=120)
    return out, err, process.returncode


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends signals as a terminal of POSIX does")
class TestInterrupt:
    def test_the_first_keeps_what_was_found_and_ends_the_script(self):
        out, err, code = interrupted(1, "time.sleep(1)")
        assert "Press Ctrl-C again to stop at once" in err and code in (-signal.SIGINT, 130)
        assert "search" not in out.splitlines()  # not the next network
        told, _, found = out.splitlines()[-1].partition(" | ")
        n_points, n_rows, hits = eval(found)
        assert told.startswith(f"The search was ended after {n_rows} of 40000 starts; ")
        assert told.endswith("holds what these led to, 3 distinct fixed points.")
        assert n_points == 3 and 0 < n_rows == hits < 40_000

    def test_the_second_ends_it_at_once(self):
        out, err, code = interrupted(2, "time.sleep(60)")
        assert out.splitlines()[-1] == " | None" and code in (-signal.SIGINT, 130)
        assert out.count("chunk") == 0 and "KeyboardInterrupt" in err


@pytest.fixture
def pythons_handler():
    """Python's own, which it does not set in a shell's background, where Ctrl-C is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.usefixtures("pythons_handler")
def test_the_signal_is_pythons_again_after_a_search_and_its_result_is_not_kept():
    states = np.random.default_rng(0).normal(size=(1, 1000, 1)).astype(np.float32)
    finder = FixedPointFinder(lambda x, u: x / 2, verbose=False)
    with pytest.raises(
        KeyboardInterrupt, match=r"after 20 of 20 starts; .* 1 distinct fixed point"
    ):
        finder.find_fixed_points(states, np.zeros((1, 1)), 20, progress=_interrupt)
    assert finder.interrupted[0].n == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert finder.find_fixed_points(states, np.zeros((1, 1)), 20)[0].n == 1
    assert finder.interrupted is None


def _interrupt(_):
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.slow
def test_a_handler_of_somebody_else_stays():
    states, seen = np.ones((1, 100, 1), np.float32), []
    before = signal.signal(signal.SIGINT, lambda *_: seen.append(1))
    try:
        finder = FixedPointFinder(lambda x, u: x / 2, verbose=False)
        assert finder.find_fixed_points(states, np.zeros((1, 1)), 20, progress=_interrupt)[0].n == 1
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [1]


def test_a_search_in_a_thread_asks_nothing():
    states, found = np.ones((1, 100, 1), np.float32), []

    def search():
        finder = FixedPointFinder(lambda x, u: x / 2, verbose=False)
        found.append(finder.find_fixed_points(states, np.zeros((1, 1)), 20)[0].n)

    thread = threading.Thread(target=search)
    thread.start()
    thread.join()
    assert found == [1]
