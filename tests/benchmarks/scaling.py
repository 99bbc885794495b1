"""How searches scale with devices and processes: `python -m tests.benchmarks.scaling`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import jax
import numpy as np

import slowpoints

from . import networks
from .processes import run_processes
from .tables import END, START, in_bytes, in_seconds, machine, table
from .timing import environment, median_time, stopwatch

_PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"
_KINDS = {"processes": "processes of one device", "devices": "devices of one process"}

Rows = list[dict[str, Any]]


# ---- in each process ---------------------------------------------------------------------------


def worker(name: str, rows: str, n_runs: str, folder: str) -> dict[str, np.ndarray]:
    """Time a search across all processes, and what of it is the search of this process's rows.

    Args:
        name: the network.
        rows: how many rows there are in all processes together.
        n_runs: the least number of runs of which a time is the median.
        folder: where trained networks are.
    """
    n, i = jax.process_count(), jax.process_index()
    network = networks.load(name, Path(folder))
    x = network.draw(int(rows), seed=0)[i::n]
    mesh = None
    if jax.local_device_count() > 1:
        mesh = jax.sharding.Mesh(np.array(jax.local_devices()), ("rows",))

    def search() -> slowpoints.FixedPoints:
        return slowpoints.optimize_batch(network.F, x, network.u, mesh=mesh)

    def everything() -> tuple[slowpoints.FixedPoints, slowpoints.FixedPoints]:
        return slowpoints.find_fixed_points(network.F, x, network.u, across_processes=n > 1)

    fps = slowpoints.unique(search()).compact()
    arrays = (getattr(fps, field) for field in slowpoints.FixedPoints.array_fields)
    everything()  # compiles
    # Each call of `everything` waits for the other processes, so all must make as many.
    times = [stopwatch(everything)[0] for _ in range(int(n_runs))]
    return {
        "search_seconds": np.array(median_time(search, n_runs=int(n_runs))[0]),
        "seconds": np.median(times),
        "n_points": np.array(everything()[0].n),
        "bytes_sent": np.array(sum(a.nbytes for a in arrays if a is not None)),
    }


# ---- the measurement ---------------------------------------------------------------------------


def measure(
    kind: str, name: str, counts: Sequence[int], rows: Sequence[int], n_runs: int, folder: Path
) -> Rows:
    """Return one row for each count of processes or devices, with so many rows in all."""
    out = []
    for count, n_rows in zip(counts, rows, strict=True):
        n, n_devices = (count, 1) if kind == "processes" else (1, count)
        arguments = (name, str(n_rows), str(n_runs), str(folder))
        found = run_processes(
            "benchmarks.scaling:worker", n, *arguments, n_devices=n_devices, timeout=1200
        )
        most = {key: max(float(part[key]) for part in found) for key in found[0]}
        sent = sum(int(part["bytes_sent"]) for part in found) if n > 1 else 0
        out.append({"count": count, "n_rows": n_rows} | most | {"bytes_sent": sent})
    return out


def as_table(kind: str, rows: Rows, weak: bool) -> str:
    """Return a table of times, and of how they compare with those of one process or device."""
    lines = []
    for row in rows:
        ratio = rows[0]["seconds"] / row["seconds"]
        efficiency = ratio if weak else ratio / row["count"]
        lines.append(
            [
                str(row["count"]),
                f"{row['n_rows']:,}",
                in_seconds(row["search_seconds"]),
                in_seconds(row["seconds"]),
                f"{efficiency:.0%}",
                f"{row['n_points']:.0f}",
                in_bytes(row["bytes_sent"]) if row["bytes_sent"] >= 1e5 else _small(row),
            ]
        )
    header = [kind, "initial states", "search", "all", "efficiency", "points", "sent"]
    return table(header, lines)


def _small(row: dict[str, Any]) -> str:
    return f"{row['bytes_sent'] / 1e3:.1f} kB"


def report(results: dict[str, Any]) -> str:
    """Return the results as a part of a page."""
    parts = []
    for key, title in (("strong", "Strong scaling"), ("weak", "Weak scaling")):
        parts.append(f"### {title}")
        for kind, what in _KINDS.items():
            parts += [f"{what.capitalize()}:", as_table(kind, results[key][kind], key == "weak")]
    parts.append(f"<small>{results['network']}. {machine(results['environment'])}</small>")
    return "\n\n".join(parts)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--network", type=click.Choice(networks.NAMES), default="GRU 16")
@click.option("--counts", default="1,2,4", help="How many processes or devices.")
@click.option("--rows", type=click.IntRange(min=1), default=65536, help="Rows, strong scaling.")
@click.option("--rows-each", type=click.IntRange(min=1), default=32768, help="Rows of each, weak.")
@click.option("--n-runs", type=click.IntRange(min=1), default=5, help="Runs, for a median.")
@click.option("--write-docs", is_flag=True, help="Put the results into docs/scaling.md as well.")
def main(
    out: Path,
    network: str,
    counts: str,
    rows: int,
    rows_each: int,
    n_runs: int,
    write_docs: bool,
) -> None:
    """Measure strong and weak scaling with processes and with devices of this machine's CPU.

    Prints tables, and writes them as scaling.json into the folder OUT.
    """
    out.mkdir(parents=True, exist_ok=True)
    networks.load(network, out)  # trains it if it has to be
    numbers = [int(count) for count in counts.split(",")]
    totals = {"strong": [rows] * len(numbers), "weak": [rows_each * n for n in numbers]}
    results: dict[str, Any] = {"network": network, "environment": environment()}
    for key, total in totals.items():
        results[key] = {
            kind: measure(kind, network, numbers, total, n_runs, out) for kind in _KINDS
        }
    (out / "scaling.json").write_text(json.dumps(results, indent=1))
    click.echo(report(results))
    if write_docs:
        before, _, rest = _PAGE.read_text().partition(START)
        _PAGE.write_text(f"{before}{START}\n\n{report(results)}\n\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main(prog_name="python -m tests.benchmarks.scaling")
