"""The command that measures scaling computes and shows the right ratios."""

import json

import pytest
from click.testing import CliRunner

from . import scaling

ROW = {"search_seconds": 1.0, "n_points": 27.0, "bytes_sent": 0}


def efficiencies(seconds, weak):
    rows = [
        ROW | {"count": count, "n_rows": 64, "seconds": s}
        for count, s in zip((1, 2, 4), seconds, strict=True)
    ]
    lines = scaling.as_table("devices", rows, weak).split("\n")
    assert lines[0].split("|")[5].strip() == "efficiency"
    return [line.split("|")[5].strip() for line in lines[2:]]


def test_strong_scaling_is_perfect_where_twice_the_devices_take_half_the_time():
    assert efficiencies((8.0, 4.0, 4.0), weak=False) == ["100%", "100%", "50%"]


def test_weak_scaling_is_perfect_where_twice_the_work_takes_the_same_time():
    assert efficiencies((8.0, 8.0, 16.0), weak=True) == ["100%", "100%", "50%"]


@pytest.mark.exhaustive
@pytest.mark.slow
def test_the_command_measures_both_kinds_and_writes_the_page(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{scaling.START}\nold\n{scaling.END}\nafter\n")
    monkeypatch.setattr(scaling, "_PAGE", page)
    arguments = ["--out", str(tmp_path), "--network", "tanh 16", "--counts", "1,2"]
    arguments += ["--rows", "256", "--rows-each", "128", "--n-runs", "1", "--write-docs"]
    result = CliRunner().invoke(scaling.main, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    results = json.loads((tmp_path / "scaling.json").read_text())
    for kind in ("processes", "devices"):
        strong, weak = results["strong"][kind], results["weak"][kind]
        assert [row["n_rows"] for row in strong] == [256, 256]
        assert [row["n_rows"] for row in weak] == [128, 256]
        for row in strong + weak:
            assert 8 <= row["n_points"] <= 27 and row["seconds"] > 0
            assert (row["bytes_sent"] > 0) == (kind == "processes" and row["count"] == 2)
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert text.count("| processes |") == text.count("| devices |") == 2
