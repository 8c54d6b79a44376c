"""The scripts in tests/core/scripts: commands, `----`, and what has to happen then.

    pytest tests/core/test_scripts.py --rewrite     writes what happens; read the diff before you keep it

A script is made of blocks parted by empty lines. In the first block of all, `nodes 1 2 3` names the cluster.
Lines that begin with `#` are comments. script.py tells the commands.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from pneumod.core import jobs
from pneumod.sim import children, link, transfers
from tests.core.script import Script

SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.txt"))
SEPARATOR = "----"
JOB_MS: dict[type, int] = {
    jobs.Prepare: 100,
    jobs.Initialise: 1_000,
    jobs.Train: 4_000,
    jobs.Check: 10,
    jobs.Close: 100,
    jobs.Export: 500,
}


class Block(NamedTuple):
    head: list[str]  # comments and commands
    expected: list[str]

    @property
    def commands(self) -> list[str]:
        return [line for line in self.head if not line.startswith("#")]


def blocks_of(text: str) -> list[Block]:
    blocks = []
    for part in text.strip("\n").split("\n\n"):
        lines = part.split("\n")
        cut = lines.index(SEPARATOR) if SEPARATOR in lines else len(lines)
        blocks.append(Block(lines[:cut], lines[cut + 1 :]))
    return blocks


def text_of(blocks: list[Block]) -> str:
    parts = ["\n".join([*b.head, *([SEPARATOR, *b.expected] if b.commands else [])]) for b in blocks]
    return "\n\n".join(parts) + "\n"


def play(blocks: list[Block]) -> list[Block]:
    """The same blocks, with what really happens."""
    script: Script | None = None
    played = []
    for block in blocks:
        told: list[str] = []
        for command in block.commands:
            if command.startswith("nodes "):
                script = Script([int(node) for node in command.split()[1:]])
                continue
            assert script is not None, "a script begins with `nodes`"
            script.run(command)
            told += script.take()
        played.append(Block(block.head, told))
    return played


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(path: Path, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config) -> None:
    monkeypatch.setattr(children, "JOB_MS", {job: (ms, ms) for job, ms in JOB_MS.items()})
    monkeypatch.setattr(transfers, "FETCH_MS", (100, 100))
    monkeypatch.setattr(link, "RECONNECT_MS", (200, 200))
    text = path.read_text()
    played = text_of(play(blocks_of(text)))
    if pytestconfig.getoption("--rewrite"):
        path.write_text(played)
    else:
        assert played == text


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 6


def test_a_script_that_tells_something_else_fails() -> None:
    blocks = blocks_of("nodes 1\nstart 1\nadvance 5s\n----\n   1.000  1 leads, term 1")
    assert play(blocks) != blocks
