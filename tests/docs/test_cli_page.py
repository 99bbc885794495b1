"""The page about the command line is true: its files are written, and its commands run in order."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from slowpoints import FixedPoints
from slowpoints._cli import main

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "command_line.md"
TEXT = PAGE.read_text() if PAGE.is_file() else ""  # docs may be left out of an installation


class Block(NamedTuple):
    kind: str
    title: str
    text: str


BLOCKS = [
    Block(*match)
    for match in re.findall(r'^```(\S+)(?: title="(.*?)")?\n(.*?)^```$', TEXT, re.M | re.S)
]
FILES = [block for block in BLOCKS if block.title.endswith(".py")]


def run(line):
    """Run a line of the shell, as far as this page uses it; return what it prints.

    In a process of its own, which compiles as users do: numbers depend on it after training.
    """
    line, _, file = line.partition(" > ")
    program, *args = shlex.split(line)
    run_main = "from slowpoints._cli import main; main.main(prog_name='slowpoints')"
    code = {"python": [], "slowpoints": ["-c", run_main]}[program]
    command = [sys.executable, *code, *args]
    done = subprocess.run(
        command, env=os.environ | {"XLA_FLAGS": ""}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    if file:
        Path(file).write_text(done.stdout)
    return done.stdout


def lines(text):
    """Return the lines that are not empty, with single spaces between their words."""
    # Of a program that was compiled before, nothing is said.
    text = text.replace("\tSearched in", "\tCompiled in 0 s and searched in")
    # Which row a point is in depends on the rounding of its q, to the last bit.
    text = re.sub(r"(?m)^ +\d+(?=  (attractor|saddle))", "a row", text)
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def is_shown(shown, printed):
    """Return whether a line is what the page shows, where … stands for any words."""
    return re.fullmatch(re.escape(shown).replace("…", ".+"), printed) is not None


@pytest.mark.slow
def test_its_commands_run_and_print_what_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for block in FILES:
        Path(block.title).write_text(block.text)
    printed, n_commands, n_shown = "", 0, 0
    for block in BLOCKS:
        if block.kind == "sh":
            for line in block.text.replace("\\\n", " ").splitlines():
                printed = run(line)
                n_commands += 1
        elif block.kind == "text":  # all that the last command printed
            shown, printed = lines(block.text), lines(printed)
            differ = [pair for pair in zip(shown, printed, strict=True) if not is_shown(*pair)]
            assert differ == []
            n_shown += 1
    assert n_commands > 8 and n_shown == 2
    assert FixedPoints.load("decision.npz").n == 3
    assert Path("decision.pdf").read_bytes().startswith(b"%PDF")
    told = json.loads(Path("decision.json").read_text())
    assert len([point for point in told["points"] if point["is_stable"]]) == 2


def test_its_network_of_pytorch_is_found(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch", reason="torch is not installed (see the extras)")
    from slowpoints._cli.model import importable, load_model

    (file,) = (block for block in FILES if block.title == "gru.py")
    (end,) = (block for block in BLOCKS if "training script" in block.title)
    monkeypatch.chdir(tmp_path)
    Path(file.title).write_text(file.text)
    gru, inputs = torch.nn.GRU(3, 64, batch_first=True), torch.zeros(2, 5, 3)
    namespace = {"torch": torch, "np": pytest.importorskip("numpy"), "gru": gru, "inputs": inputs}
    exec(compile(end.text, str(PAGE), "exec"), namespace)
    with importable("gru.py:net") as (source, name):
        F = load_model(source, name, None, None)
    assert (F.n_states, F.n_inputs) == (64, 3)
    assert namespace["states"].shape == (2, 5, 64) and Path("states.npy").is_file()


@pytest.mark.parametrize("option", sorted(set(re.findall(r"`(--[\w-]+)", TEXT))))
def test_it_names_only_options_that_exist(option):
    names = {
        name
        for command in main.commands.values()
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
    }
    assert option in names | {"--help"}
