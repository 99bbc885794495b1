"""Fixtures that all tests share, and the number of host devices that some need."""

import gc
import os
from importlib.metadata import version

from packaging.version import Version

# Before JAX starts: four devices on the host, so that `pmap` and `shard_map` have some. And nearly
# all of the tests' time is compilation, of which a third goes without fusion emitters. From 0.11 on
# there is no such choice, and the tests compile as users do.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_force_host_platform_device_count=4"
    + (" --xla_cpu_use_fusion_emitters=false" * (Version(version("jaxlib")) < Version("0.11")))
)
os.environ.setdefault("MPLBACKEND", "Agg")
# Several test processes share a GPU, where there is one.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import equinox
import jax
import jaxtyping
import pytest


@pytest.fixture(autouse=True)
def _only_the_library_checks_input(request):
    """Switch the run-time type checker off for `checks_input` tests: users do not have it."""
    if request.node.get_closest_marker("checks_input") is None:
        yield
        return
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(autouse=True, scope="module")
def _compiled_programs_are_dropped():
    """Compiled code takes several memory maps each, of which a process has some 65,000."""
    yield
    equinox.clear_caches()
    jax.clear_caches()
    gc.collect()
