"""Results as tables in Markdown, for the terminal and for the documentation."""

import re
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

START, END = "<!-- results: start -->", "<!-- results: end -->"
"""What is between these in a page is replaced by `write_docs`."""

NONE = "-"

Results = dict[str, Any]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, with columns of one width."""
    widths = [max(3, *(len(row[i]) for row in (header, *rows))) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        return f"| {' | '.join(padded)} |"

    return "\n".join([line(header), line(["-" * width for width in widths]), *map(line, rows)])


def in_seconds(seconds: float | None) -> str:
    """Return a time to two or three digits, in a unit that suits it."""
    if seconds is None:
        return NONE
    unit, factor = ("s", 1.0) if seconds >= 0.9995 else ("ms", 1e3)
    return f"{_digits(seconds * factor)} {unit}"


def in_bytes(n: float) -> str:
    """Return a size in MB or GB."""
    return f"{n / 1e9:.2f} GB" if n >= 1e9 else f"{n / 1e6:.0f} MB"


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 99.95 else f"{value:.3g}" if value >= 10 else f"{value:.2g}"


def _times(ratio: float | None) -> str:
    return NONE if ratio is None else f"{_digits(ratio)} x"


# ---- who is faster -----------------------------------------------------------------------------


def ratios(compare: list[dict[str, Any]], full_recall: list[dict[str, Any]]) -> list[dict]:
    """Set the library's times against those of the fastest packages that find as much.

    Args:
        compare: the rows of the experiment of this name.
        full_recall: likewise; may be empty.

    Returns:
        For each network: `ours`, the library's row; `same`, the row of the fastest package that
        finds at least as many points, and `same_ratio`, its time divided by the library's; `full`,
        the library's row of full recall; `all`, the row of the fastest package that finds every
        point, and `all_ratio`, its time divided by the library's until full recall; and
        `same_to_full`, the time of `same` divided by that. What there is not, is `None`.
    """
    out = []
    for ours in (row for row in compare if row["tool"] == "slowpoints"):
        name = ours["network"]
        peers = [row for row in compare if row["network"] == name and row.get("complete")]
        peers = [row for row in peers if row["package"] and not row["ours"]]
        same = _fastest(row for row in peers if row["found"] >= ours["found"])
        every = _fastest(row for row in peers if row["found"] == row["known"])
        full = next((row for row in full_recall if row["network"] == name), None)
        until_full = full["seconds"] if full else None
        out.append(
            {
                "network": name,
                "ours": ours,
                "same": same,
                "same_ratio": _ratio(same, ours["seconds"]),
                "full": full,
                "all": every,
                "all_ratio": _ratio(every, until_full),
                "same_to_full": _ratio(same, until_full),
            }
        )
    return out


def _fastest(rows: Any) -> dict[str, Any] | None:
    return min(rows, key=lambda row: row["seconds"], default=None)


def _ratio(row: dict[str, Any] | None, seconds: float | None) -> float | None:
    return row["seconds"] / seconds if row and seconds else None


# ---- one function for each experiment ----------------------------------------------------------


def _compare(rows: list[dict[str, Any]], results: Results) -> str:
    networks = list(dict.fromkeys(row["network"] for row in rows))
    tools = list(dict.fromkeys(row["tool"] for row in rows if "skipped" not in row))
    cells = {(row["network"], row["tool"]): row for row in rows}

    def grid(cell: Callable[[dict[str, Any]], str]) -> str:
        def at(network: str, tool: str) -> str:
            row = cells.get((network, tool), {})
            return cell(row) if "seconds" in row else NONE

        body = [[network, *(at(network, tool) for tool in tools)] for network in networks]
        return table(["network", *tools], body)

    def time_and_points(row: dict[str, Any]) -> str:
        mark = "" if row["complete"] else "≈ "
        of = f"{row['found']}/{row['known']}" + (f" ({row['n_rows']})" if not row["n_runs"] else "")
        return f"{mark}{in_seconds(row['seconds'])}, {of}"

    skipped = {row["tool"]: row["skipped"] for row in rows if "skipped" in row}
    parts = [
        "Each cell is the time of a compiled search, and how many of the known fixed points it "
        "found. “≈” marks extrapolated times; a number in brackets is how many states were "
        "searched in that case.",
        grid(time_and_points),
        "How much longer the first call takes, mostly to compile:",
        grid(lambda row: in_seconds(row["compile_seconds"]) if row["compile_seconds"] else NONE),
        _same_recall(results),
        "\n".join(
            f"- {tool}: {next(row['settings'] for row in rows if row['tool'] == tool)}"
            for tool in tools
        ),
        "\n".join(f"- {tool}: not run; {reason}." for tool, reason in skipped.items()),
    ]
    return "\n\n".join(filter(None, parts))


def _same_recall(results: Results) -> str:
    lines = []
    for row in ratios(results["compare"]["result"], []):
        ours, same = row["ours"], row["same"]
        lines.append(
            [
                row["network"],
                f"{in_seconds(ours['seconds'])}, {ours['found']}/{ours['known']}",
                _peer(same),
                _times(row["same_ratio"]),
            ]
        )
    title = "The fastest package that finds at least as many points from the same states:"
    return f"{title}\n\n" + table(["network", "slowpoints", "package", "its time / ours"], lines)


def _peer(row: dict[str, Any] | None) -> str:
    if row is None:
        return "none"
    return f"{row['tool']}: {in_seconds(row['seconds'])}, {row['found']}/{row['known']}"


def field_ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Set the library's times a row on the field networks against the fastest peer's.

    Peers count however few points they find, as long as they find one.

    Args:
        rows: those of the experiment `field`.

    Returns:
        For each network: `ours`, the row of the default; `peer`, the fastest peer's, or `None`; and
        `ratio`, the peer's time divided by ours, or `None`.
    """
    out = []
    for ours in (row for row in rows if row["tool"] == "slowpoints"):
        peers = [row for row in rows if row["network"] == ours["network"] and not row["ours"]]
        peers = [row for row in peers if row["found"]]
        peer = min(peers, key=lambda row: row["seconds_per_row"], default=None)
        ratio = peer["seconds_per_row"] / ours["seconds_per_row"] if peer else None
        out.append({"network": ours["network"], "ours": ours, "peer": peer, "ratio": ratio})
    return out


def _field(rows: list[dict[str, Any]], results: Results) -> str:
    tools = list(dict.fromkeys(row["tool"] for row in rows))
    cells = {(row["network"], row["tool"]): row for row in rows}
    most = max(row["n_rows"] for row in rows)

    def cell(network: str, tool: str) -> str:
        row = cells.get((network, tool))
        if row is None:
            return NONE
        fewer = f" ({row['n_rows']})" if row["n_rows"] < most else ""
        return f"{in_seconds(row['seconds_per_row'])}, {row['found']}/{row['known']}{fewer}"

    compared = field_ratios(rows)
    lines = [
        [
            pair["network"],
            *(cell(pair["network"], tool) for tool in tools),
            NONE if pair["peer"] is None else pair["peer"]["tool"],
            _times(pair["ratio"]),
        ]
        for pair in compared
    ]
    ends = [
        [pair["network"], pair["ours"]["ends"], f"{pair['ours']['kept']}/{pair['ours']['known']}"]
        for pair in compared
    ]
    header = ["network, input", *tools, "fastest peer", "its time / ours"]
    parts = [
        "Each cell is the time per row of a compiled search, and how many of the known fixed "
        f"points were reached. A number in brackets is how many of the {most} starts were "
        "searched, if not all.",
        table(header, lines),
        _mean_ratio([pair["ratio"] for pair in compared if pair["ratio"] is not None]),
        _missed([pair["ours"] for pair in compared]),
        "Where the rows of the default solver ended, and how many of the known fixed points "
        "`find_fixed_points` returns at its defaults:",
        table(["network, input", "rows", "returned"], ends),
        "\n".join(
            f"- {tool}: {next(row['settings'] for row in rows if row['tool'] == tool)}"
            for tool in tools
        ),
    ]
    return "\n\n".join(filter(None, parts))


def _mean_ratio(ratios: list[float]) -> str:
    if not ratios:
        return ""
    return (
        "In the geometric mean, the fastest peer takes "
        f"{_times(statistics.geometric_mean(ratios))} the time of the default solver: "
        f"at least {_times(min(ratios))}, and at most {_times(max(ratios))}."
    )


def _missed(ours: list[dict[str, Any]]) -> str:
    fewer = [row for row in ours if row["found"] < row["known"]]
    if not fewer:
        return "The default reaches every known point."
    listed = (f"{row['found']} of {row['known']} on {row['network']}" for row in fewer)
    return f"The default does not reach every known point: it reaches {'; '.join(listed)}."


def _canns_example(rows: list[dict[str, Any]], results: Results) -> str:
    methods = list(dict.fromkeys(row["method"] for row in rows))
    cells = {(row["network"], row["method"]): row for row in rows}

    def cell(network: str, method: str) -> str:
        row = cells.get((network, method))
        if row is None:
            return NONE
        counts, median = ", ".join(map(str, row["found"])), statistics.median(row["found"])
        seconds = in_seconds(statistics.median(row["seconds"]))
        return f"{counts}; median {median:g}; {seconds}"

    networks = dict.fromkeys((row["network"], row["known"]) for row in rows)
    lines = [
        [name, str(known), *(cell(name, method) for method in methods)] for name, known in networks
    ]
    parts = [
        f"Distinct fixed points found from the same {rows[0]['n_inits']:,} states, drawn as canns "
        f"draws them, for each of {len(rows[0]['found'])} seeds; and the median time of a search "
        "with all its filters.",
        table(["network", "points", *methods], lines),
        "" if "canns" in methods else "canns was not run.",
        _others(rows),
    ]
    return "\n\n".join(filter(None, parts))


def _others(rows: list[dict[str, Any]]) -> str:
    wrong = [row for row in rows if sum(row["others"])]
    if not wrong:
        return "Everything that these searches returned is a fixed point."
    listed = (f"{row['method']} {sum(row['others'])} on {row['network']}" for row in wrong)
    return (
        f"Not everything that was returned is a fixed point; over all seeds: {'; '.join(listed)}."
    )


def _full_recall(rows: list[dict[str, Any]], results: Results) -> str:
    compare = results.get("compare", {}).get("result", [])
    peers = {row["network"]: row for row in ratios(compare, rows)}
    lines = []
    for row in rows:
        counts = sorted(run["n_inits"] for run in row["runs"] if "n_inits" in run)
        states = ", ".join(map(str, counts)) if counts else "not reached"
        peer = peers.get(row["network"], {})
        lines.append(
            [
                row["network"],
                str(row["known"]),
                states,
                in_seconds(row["seconds"]),
                _peer(peer.get("all")),
                _times(peer.get("all_ratio")),
                _peer(peer.get("same")),
                _times(peer.get("same_to_full")),
            ]
        )
    header = ["network", "points", "states, by seed", "time", "package that finds all", "/ ours"]
    header += ["package with the same recall", "/ ours"]
    return (
        "The number of states is doubled until every known point is found; the time is that of "
        "the last search (median over seeds). The packages are those of the tables above, with "
        "their times divided by this one:\n\n" + table(header, lines)
    )


def _size(result: dict[str, Any], results: Results) -> str:
    lines = [
        [
            str(row["n_units"]),
            in_seconds(row["seconds_per_row"]),
            f"{row['iterations']:.1f}",
            f"{100 * row['fixed']:.0f} %",
            in_bytes(row["peak_memory"]),
            in_seconds(row["compile_seconds"]),
        ]
        for row in result["rows"]
    ]
    header = [
        "units",
        "time per row",
        "iterations",
        "rows at fixed points",
        "peak memory",
        "compile",
    ]
    return (
        f"{table(header, lines)}\n\nFrom {result['fitted_from']} units on, the time grows as "
        f"{_power('N', result['time_exponent'])}, and the memory as "
        f"{_power('N', result['memory_exponent'])}. Of the memory, "
        f"{in_bytes(result['baseline_memory'])} is what a search with 16 units takes, mostly for "
        "Python, JAX and compilation; where the rest exceeds 100 MB, it grows as "
        f"{_power('N', result['memory_above_baseline_exponent'])}."
    )


def _power(base: str, exponent: float | None) -> str:
    """Return a power as LaTeX, which the page sets as a formula."""
    return f"${base}^{{{'?' if exponent is None else f'{exponent:.2f}'}}}$"


def _inits(result: dict[str, Any], results: Results) -> str:
    lines = [
        [
            f"{row['n_inits']:,}",
            in_seconds(row["seconds"]),
            in_seconds(row["seconds"] / row["n_inits"]),
            in_bytes(row["peak_memory"]),
        ]
        for row in result["rows"]
    ]
    grid = table(["initial states", "time", "per row", "peak memory"], lines)
    return f"{grid}\n\nThe time grows as {_power('n', result['time_exponent'])}."


def _rate(result: dict[str, Any], results: Results) -> str:
    lines = [
        [
            row["network"],
            f"{row['flops_per_iteration'] / 1e3:,.0f} k",
            f"{row['iterations']:,}",
            f"{row['rate'] / 1e9:.2f} Gflop/s",
            f"{100 * row['share']:.1f} %",
        ]
        for row in result["rows"]
    ]
    size = result["matrix_size"]
    header = ["network", "flop per iteration", "iterations", "rate", "of a matrix product"]
    return (
        f"A product of two {size} x {size} matrices in float32 reaches "
        f"{result['matrix_product'] / 1e9:.0f} Gflop/s here.\n\n{table(header, lines)}"
    )


def _unique(rows: list[dict[str, Any]], results: Results) -> str:
    lines = [
        [
            f"{row['n']:,} x {row['n_states']}",
            f"{row['n_distinct']:,}",
            f"{in_seconds(row['seconds'])}, {row['found']:,}",
            f"{in_seconds(row['canns_seconds'])}, {row['canns_found']:,}"
            if "canns_seconds" in row
            else NONE,
        ]
        for row in rows
    ]
    return table(["rows x states", "distinct", "`unique`", "`get_unique` of canns"], lines)


def _from_start(rows: list[dict[str, Any]], results: Results) -> str:
    tools = list(dict.fromkeys(row["tool"] for row in rows))
    cells = {(row["network"], row["n_inits"], row["tool"]): row for row in rows}

    def cell(row: dict[str, Any] | None) -> str:
        if row is None:
            return NONE
        if row["seconds"] is None:
            return f"over {in_seconds(row['limit'])}"
        return f"{in_seconds(row['seconds'])}, {row['found']}"

    lines = [
        [network, f"{n:,}", *(cell(cells.get((network, n, tool))) for tool in tools)]
        for network, n in dict.fromkeys((row["network"], row["n_inits"]) for row in rows)
    ]
    ours = [row for row in rows if row["ours"] and row["seconds"] is not None]
    parts = [
        [row["network"], f"{row['n_inits']:,}", row["tool"].partition(", ")[2]]
        + [in_seconds(row[part]) for part in ("import", "first", "again")]
        for row in ours
    ]
    return (
        "Each cell is the time from the start of a process until a script has its points and their "
        "eigenvalues, and how many distinct points it found. The first run of the library finds no "
        "program on the disk, as on a new machine; later runs find those of the first.\n\n"
        + table(["network, input", "states", *tools], lines)
        + "\n\nWhat the library's time consists of, and the same call a second time in the same "
        "process:\n\n"
        + table(["network, input", "states", "run", "import", "first call", "second call"], parts)
    )


def _branches(rows: list[dict[str, Any]], results: Results) -> str:
    networks = list(dict.fromkeys(row["network"] for row in rows))
    tools = list(dict.fromkeys(row["tool"] for row in rows))
    cells = {(row["network"], row["tool"]): row["seconds_per_point"] for row in rows}
    sizes = {row["network"]: row for row in rows}
    lines = [
        [
            network,
            f"{sizes[network]['n_points']} on {sizes[network]['n_branches']}",
            str(sizes[network]["n_events"]),
            *(
                NONE if seconds is None else in_seconds(seconds)
                for seconds in (cells.get((network, tool)) for tool in tools)
            ),
        ]
        for network in networks
    ]
    return (
        "Time per point of a branch. The library's time includes all eigenvalues at each point "
        "and the location of the events; the loops predict and correct the same points one after "
        "another, and compute neither.\n\n"
        + table(["network", "points on branches", "events", *tools], lines)
    )


SECTIONS = {
    "from-start": ("From the start of a script", _from_start),
    "compare": ("Beside other tools", _compare),
    "field": ("Networks as laboratories train them", _field),
    "canns-example": ("The example of canns", _canns_example),
    "full-recall": ("Until every point is found", _full_recall),
    "size": ("The size of the network", _size),
    "inits": ("The number of initial states", _inits),
    "rate": ("How well the machine is used", _rate),
    "unique": ("Deduplication", _unique),
    "branches": ("Branches of fixed points", _branches),
}
"""The title of each experiment, and the function that turns its result into text."""


def section(name: str, results: Results) -> str:
    """Return the text of one experiment."""
    return SECTIONS[name][1](results[name]["result"], results)


def machine(environment: dict[str, Any]) -> str:
    """Return a sentence about what the times depend on."""
    versions = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
    load = environment["load_before"]
    busy = "" if load is None else f" Load average before: {load}."
    return (
        f"{environment['date']}, {environment['cpu']}, {environment['cores']} cores, "
        f"Python {environment['python']}, {versions}.{busy}"
    )


def page(results: Results, figures: dict[str, str], old: str = "") -> str:
    """Return all results as a part of a page.

    Args:
        results: what `results.json` holds.
        figures: the addresses of the figures that there are, by experiment.
        old: the results that the page has so far. Of these, experiments that `results` lacks stay.
    """
    before = sections(old)
    parts = []
    for name, (title, _) in SECTIONS.items():
        if name not in results:
            if title in before:
                parts.append(before[title])
            continue
        parts += [f"### {title}", section(name, results)]
        if name in figures:
            parts.append(f"![{title}]({figures[name]})")
        parts.append(f"<small>{machine(results[name]['environment'])}</small>")
    return "\n\n".join(parts) or "No results yet."


def sections(text: str) -> dict[str, str]:
    """Return the sections of a text with their headings, by title."""
    parts = re.split(r"^(?=### )", text, flags=re.MULTILINE)[1:]
    return {part.partition("\n")[0].removeprefix("### "): part.strip() for part in parts}


def write_docs(path: Path, results: Results, figures: dict[str, str]) -> None:
    """Replace the results in a page; experiments that did not run keep their old ones.

    Raises:
        ValueError: if the page does not say where they are.
    """
    text = path.read_text()
    before, start, rest = text.partition(START)
    old, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"{path} has no lines {START} and {END}.")
    path.write_text(f"{before}{START}\n\n{page(results, figures, old)}\n\n{END}{after}")
