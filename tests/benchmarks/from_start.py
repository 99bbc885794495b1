"""How long it takes from the start of a process until a tool has found points, with eigenvalues."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import one_process
from .tools import FixedPointFinderTorch, Optimistix, Scipy

if TYPE_CHECKING:
    from .experiments import Settings

Rows = list[dict[str, Any]]

_SCRIPT = Path(one_process.__file__)
_CASES = Path(__file__).parents[1] / "cases"

CASES = (
    ("flipflop3_tanh_16_s0", 0),
    ("field/context_gru_128_s12", 0),
    ("field/integrate_tanh_100_s13", 0),
    ("field/ring_gru_128_s14", 0),
    ("field/ring_tanh_256_s17", 0),
)
"""The networks, under which of their inputs: one that needs no exact steps, and others that do."""

OURS = {"slowpoints, first run": False, "slowpoints, later runs": True}
"""The library without and with what earlier processes have compiled."""


def from_start(settings: Settings, say: Callable[[str], None] = print) -> Rows:
    """Time whole processes, one tool after the other in each round.

    A tool that has taken longer than the limit on fewer states is not run on more.
    """
    tools = [*OURS, *_peers(settings)]
    out = []
    for name, i in settings.start_cases:
        given_up: set[str] = set()
        for n in settings.start_counts:
            runs: dict[str, list[dict[str, Any]]] = {tool: [] for tool in tools}
            with tempfile.TemporaryDirectory() as folder:
                _run("slowpoints", name, i, n, settings, folder)  # which fills the folder
                for _ in range(settings.start_runs):
                    for tool in tools:
                        if tool not in given_up:
                            kept = folder if OURS.get(tool) else "off"
                            of_tool = "slowpoints" if tool in OURS else tool
                            runs[tool].append(_run(of_tool, name, i, n, settings, kept))
                            if "found" not in runs[tool][-1]:
                                given_up.add(tool)
            for tool, measured in runs.items():
                row = {"network": f"{Path(name).name}, {i}", "n_inits": n, "tool": tool}
                row |= {"ours": tool in OURS, "limit": settings.start_limit}
                whole = measured and all("found" in one for one in measured)
                row["seconds"] = _median(measured, "seconds") if whole else None
                if whole:
                    parts = {part: _median(measured, part) for part in ("import", "first", "again")}
                    row |= {"found": measured[-1]["found"], **parts}
                out.append(row)
            told = ", ".join(
                f"{row['tool']} {row['seconds'] or float('nan'):.2f} s"
                for row in out[-len(tools) :]
            )
            say(f"  {name}, {n} states: {told}")
    return out


def _median(runs: list[dict[str, Any]], name: str) -> float:
    return statistics.median(run[name] for run in runs)


def _peers(settings: Settings) -> list[str]:
    peers = [Scipy(), Optimistix(), FixedPointFinderTorch(settings.fixed_point_finder)]
    return [peer.name for peer in peers if peer.missing() is None]


def _run(tool: str, name: str, i: int, n: int, settings: Settings, programs: str) -> dict[str, Any]:
    """Return what a process took until its first result; nothing is found if it took too long."""
    path = [str(_SCRIPT.parents[2]), str(settings.fixed_point_finder or ""), *sys.path]
    variables = {"SLOWPOINTS_CACHE": programs, "PYTHONPATH": os.pathsep.join(filter(None, path))}
    command = [sys.executable, str(_SCRIPT), tool, str(_CASES / f"{name}.npz"), str(i), str(n)]
    limits = {"timeout": settings.start_limit, "capture_output": True, "text": True}
    started = time.perf_counter()
    try:
        done = subprocess.run(command, env=os.environ | variables, check=False, **limits)
    except subprocess.TimeoutExpired:
        return {"seconds": time.perf_counter() - started}
    if done.returncode:
        raise RuntimeError(f"{tool} failed on {name}:\n{done.stderr[-2000:]}")
    measured = json.loads(done.stdout.splitlines()[-1])
    # The second call is no part of what a user waits for.
    return measured | {"seconds": time.perf_counter() - started - measured["again"]}
