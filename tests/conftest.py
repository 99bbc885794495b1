"""Fixtures that all tests share, and the number of host devices that some need."""

import atexit
import gc
import os
import shutil
import tempfile
from collections import Counter
from importlib.metadata import version
from pathlib import Path

from packaging.version import Version

# Before JAX starts: one device, as most users have, or four for tests that are marked so, which
# `test_devices` runs in a process of their own. And nearly all of the tests' time is compilation,
# which takes a third less where LLVM does not optimize and works on one core at a time, and without
# fusion emitters. From 0.11 on, there is no choice of the latter.
os.environ.setdefault("SLOWPOINTS_TEST_DEVICES", "1")
os.environ["XLA_FLAGS"] = (
    f"--xla_force_host_platform_device_count={os.environ['SLOWPOINTS_TEST_DEVICES']}"
    " --xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1 "
    + ("--xla_cpu_use_fusion_emitters=false " * (Version(version("jaxlib")) < Version("0.11")))
    + os.environ.get("XLA_FLAGS", "")
)
os.environ.setdefault("MPLBACKEND", "Agg")
# Several test processes share a GPU, where there is one.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import equinox
import jax
import jaxtyping
import pytest

# All processes of a run share what they compile.
if "SLOWPOINTS_CACHE" not in os.environ:
    os.environ["SLOWPOINTS_CACHE"] = tempfile.mkdtemp(prefix="slowpoints-programs-")
    atexit.register(shutil.rmtree, os.environ["SLOWPOINTS_CACHE"], ignore_errors=True)


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by marks
def pytest_collection_modifyitems(config, items):
    """Leave out tests for four devices where there is one, and the others where there are four.

    Of a test that is marked `slow_cases`, all cases but the first become slow. Of one that is
    marked `one_in(k)`, all but one case in `k` become exhaustive, and are left out unless asked
    for, whatever else they are.
    """
    begun = Counter()
    for item in items:
        number = begun[item.nodeid.partition("[")[0]]
        begun[item.nodeid.partition("[")[0]] += 1
        one_in = item.get_closest_marker("one_in")
        if one_in is not None and number % one_in.args[0]:
            item.add_marker("exhaustive")
        elif item.get_closest_marker("slow_cases") is not None and number:
            item.add_marker("slow")
    four = os.environ["SLOWPOINTS_TEST_DEVICES"] == "4"
    asked_for = "exhaustive" in config.option.markexpr
    left = [
        item
        for item in items
        if four != bool(item.get_closest_marker("devices"))
        or (item.get_closest_marker("exhaustive") is not None and not asked_for)
    ]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if item not in left]


def pytest_collection_finish():
    """Look for garbage less often, and never among what the packages and the tests consist of."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


@pytest.fixture(autouse=True)
def _only_the_library_checks_input(request):
    """Switch the run-time type checker off for `checks_input` tests: users do not have it."""
    is_off = jaxtyping.config.jaxtyping_disable
    if is_off or request.node.get_closest_marker("checks_input") is None:
        yield
        return
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


_MOST_MAPS = 20_000
"""Compiled code takes several memory maps each, of which Linux gives a process some 65,000."""


@pytest.fixture(autouse=True, scope="module")
def _compiled_programs_are_dropped_before_there_are_too_many():
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") < _MOST_MAPS:
        return
    from slowpoints._core.programs import forget_programs  # once its types are checked

    forget_programs()
    equinox.clear_caches()
    jax.clear_caches()
    gc.collect()
