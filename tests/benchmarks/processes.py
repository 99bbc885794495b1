"""Several processes of `jax.distributed` on this machine, as tests and benchmarks need them."""

import importlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

_TESTS = Path(__file__).parents[1]


def run_processes(
    function: str, n: int, *arguments: str, timeout: float = 300, n_devices: int = 1
) -> list[dict[str, np.ndarray]]:
    """Call `function` in each of `n` processes, and return the dictionaries of arrays they return.

    Args:
        function: such as `"test_distribution:search"`, a module under tests/ and its function.
        n: how many processes.
        *arguments: strings, which the function is called with.
        timeout: seconds after which all are killed.
        n_devices: devices of each process.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    env = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={n_devices}",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join([str(_TESTS), str(_TESTS.parent), *sys.path]),
    }
    with tempfile.TemporaryDirectory() as folder:
        logs, processes = [], []
        try:
            for i in range(n):
                command = [sys.executable, __file__, function, address, str(n), str(i), folder]
                logs.append(open(Path(folder) / f"log-{i}", "w+"))  # noqa: SIM115
                out = {"stdout": logs[-1], "stderr": subprocess.STDOUT}
                processes.append(subprocess.Popen([*command, *arguments], env=env, **out))
            deadline = time.monotonic() + timeout
            while any(p.poll() is None for p in processes):
                failed = any(p.poll() for p in processes)  # the others would wait for it
                if failed or time.monotonic() > deadline:
                    break
                time.sleep(0.05)
            codes = [process.poll() for process in processes]
        finally:
            for process in processes:
                process.kill()
                process.wait()
            for log in logs:
                log.close()
        texts = [Path(log.name).read_text()[-4000:] for log in logs]
        assert codes == [0] * n, f"exit codes {codes} (None: out of time)\n" + "\n".join(texts)
        out = []
        for i in range(n):
            with np.load(Path(folder) / f"{i}.npz") as archive:
                out.append(dict(archive))
        return out


def _main(
    function: str, address: str, count: str, index: str, folder: str, *arguments: str
) -> None:
    import jax

    n, i = int(count), int(index)
    if n > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(address, n, i, initialization_timeout=120)
    module, name = function.split(":")
    result = getattr(importlib.import_module(module), name)(*arguments)
    np.savez(Path(folder) / f"{i}.npz", **result)
    if n > 1:
        jax.distributed.shutdown()


if __name__ == "__main__":
    _main(*sys.argv[1:])
