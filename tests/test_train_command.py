"""`pneumod train --detach`, `--stop` and `--follow` as scripts and people use them, from anywhere, through faults."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from pneumod.cli import main
from pneumod.demo.cluster import Broker
from pneumod.messages import LeftOut, RunSettings, RunSpec, Summary, Takeover, Term
from tests.fake_master import FakeMaster, leading
from tests.shell.parts import CLUSTER, LIMIT_S, new_broker, serving, wire

SPEC = RunSpec(4, "run-a", "op-run-ann", 0, RunSettings(rounds=9))
TAKEN_OVER = Summary(
    1,
    (LeftOut(3, "an update larger than the model"), LeftOut(5, "gone\x1b[2J"), LeftOut(7, "gone\x1b[2J")),
    4,
    0.2,
    4200,
    3000,
    1000,
    (Takeover(Term(2, -2, 1), Term(3, -1, 1), 1),),
    42_000,
)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with serving(new_broker(tmp_path / "broker")) as broker:
        yield broker


@pytest.fixture
def config(broker: Broker, tmp_path: Path) -> Path:
    return write_config(tmp_path, broker.port)


def write_config(folder: Path, *ports: int) -> Path:
    brokers = ", ".join(f"{{host: 127.0.0.1, port: {port}}}" for port in ports)
    path = folder / "node.yaml"
    path.write_text(
        f"cluster: {CLUSTER}\nnode: {{id: 9, name: north, site: s}}\nbrokers: [{brokers}]\n"
        "state_dir: state\ndata: {train: images}\n"
    )
    return path


@contextlib.asynccontextmanager
async def started(config: Path, *words: str) -> AsyncIterator[Process]:
    """`pneumod train` as a process; killed if it is still there at the end."""
    command = (sys.executable, "-m", "pneumod", "train", "--config", str(config), *words)
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def train(config: Path, *words: str) -> tuple[int | None, str, str]:
    """Exit code, stdout and stderr of `pneumod train`."""
    async with started(config, *words) as process, asyncio.timeout(60):
        out, errors = await process.communicate()
    return process.returncode, out.decode(), errors.decode()


async def line_with(process: Process, text: str) -> str:
    """The next line that has this text."""
    assert process.stdout is not None
    async with asyncio.timeout(LIMIT_S):
        while line := (await process.stdout.readline()).decode():
            if text in line:
                return line.rstrip("\n")
    raise AssertionError(f"it ended before it said {text!r}")


async def rest(process: Process) -> list[str]:
    async with asyncio.timeout(LIMIT_S):
        out, _ = await process.communicate()
    return out.decode().splitlines()


async def in_round(master: FakeMaster) -> None:
    """A run of ann's with one trained round, whose best model is the first."""
    await master.begin(SPEC)
    await master.close(0)
    await master.close(1, auc=0.75)


async def test_detach_prints_the_id_of_the_accepted_run_and_nothing_else(broker: Broker, config: Path) -> None:
    """A master that has just taken over is asked again, for the same run."""
    async with leading(broker.port, unready=2) as master:
        code, out, errors = await train(config, "--detach", "--rounds", "3", "--name", "Bob")
        assert (code, errors) == (0, "")
        assert master.spec is not None
        assert out == f"{master.spec.run}\n"
        assert (master.spec.asked_by, master.spec.settings.rounds) == ("op-run-bob", 3)
        assert {request.run for request in master.asked} == {master.spec.run}
        assert len(master.asked) == 3


async def test_detach_prints_nothing_where_another_run_is_on(broker: Broker, config: Path) -> None:
    async with leading(broker.port) as master:
        await in_round(master)
        code, out, errors = await train(config, "--detach")
    assert (code, out) == (1, "")
    assert re.fullmatch(r"pneumod: run run-a is on, asked for by op-run-ann; on since \d{4}-.*\n", errors)


@pytest.mark.parametrize("named", [True, False])
async def test_stop_ends_the_run_and_says_what_is_kept(broker: Broker, config: Path, named: bool) -> None:
    async with leading(broker.port) as master:
        await in_round(master)
        code, out, errors = await train(config, "--stop", *(["run-a"] if named else []), "--name", "Bob")
        assert (code, errors) == (0, "")
        assert master.closed is not None
        assert master.closed.ended == "stopped by op-run-bob"
    ending, kept = out.splitlines()
    assert ending == "run-a has ended: stopped by op-run-bob."
    assert kept.startswith("Best: the model of round 0, pooled validation AUC 0.750.")


async def test_stop_where_nothing_is_on_is_one_line(broker: Broker, config: Path) -> None:
    async with leading(broker.port) as master:
        assert await train(config, "--stop") == (1, "", "pneumod: no run is on\n")
        await in_round(master)
        told = "pneumod: no run run-x is on; run run-a is\n"
        assert await train(config, "--stop", "run-x") == (1, "", told)
        await master.end("all 1 rounds done")
        told = "pneumod: no run is on; run-a has ended: all 1 rounds done.\n"
        assert await train(config, "--stop") == (1, "", told)


async def test_a_run_without_a_model_is_stopped_and_followed_to_its_end(broker: Broker, config: Path) -> None:
    async with leading(broker.port) as master:
        await master.begin(SPEC)
        async with started(config, "--follow") as process:
            await line_with(process, "is on")
            told = ["run-a has ended: stopped by op-run-bob.", "No model of it was scored."]
            code, out, errors = await train(config, "--stop", "--name", "bob")
            assert (code, out.splitlines(), errors) == (0, told, "")
            assert (await rest(process))[-2:] == told
        assert process.returncode == 0
        refusal = "pneumod: no run is on; run-a has ended: stopped by op-run-bob.\n"
        assert await train(config, "--stop") == (1, "", refusal)


async def test_a_run_is_followed_from_elsewhere_one_line_an_event(broker: Broker, config: Path) -> None:
    async with leading(broker.port) as master:
        await in_round(master)
        async with started(config, "--follow") as process:
            first = await line_with(process, "run-a")
            assert re.fullmatch(r"run run-a, asked for by op-run-ann since \d{4}-\d\d-\d\d [\d:]{8}, is on; .*", first)
            await line_with(process, "node 1 leads (term 3)")
            master.note = "2 of 3 nodes are ready; waiting for node 4 (gone), node 5 (never heard)"
            assert await line_with(process, "node 4") == f"waiting: {master.note}"
            await master.close(2, auc=0.875, summary=TAKEN_OVER)
            assert await line_with(process, "round 2 closed") == (
                "round 2 closed: 1 node in 4.2 s, deadline 42 s; AUC of the model of round 1: 0.875, the best so far"
            )
            await master.end("no better AUC in 5 rounds")
            assert await rest(process) == [
                "round 2: taken over by node 1 from node 2, 1 update kept",
                "round 2: without node 3: an update larger than the model",
                "round 2: without nodes 5, 7: gone�[2J",
                "round 2: without 1 more node",
                "run-a has ended: no better AUC in 5 rounds.",
                "Best: the model of round 1, pooled validation AUC 0.875. For research only, not for diagnosis.",
            ]
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("ended", "code"),
    [("all 9 rounds done", 0), ("stopped by op-run-bob", 0), ("given up after 3 failures: close failed", 1)],
)
@pytest.mark.parametrize("over", [True, False])
async def test_the_exit_code_is_that_of_the_run(
    broker: Broker, config: Path, ended: str, code: int, over: bool
) -> None:
    """Whether it ended before it was followed or while it was."""
    async with leading(broker.port) as master:
        await in_round(master)
        if over:
            await master.end(ended)
        async with started(config, "--follow", "run-a") as process:
            first = await line_with(process, "asked for by op-run-ann")
            assert first.endswith(", is over") is over
            await master.end(ended)
            assert f"run-a has ended: {ended}." in await rest(process)
    assert process.returncode == code


async def test_follow_where_there_is_nothing_to_follow_is_one_line(broker: Broker, config: Path) -> None:
    async with leading(broker.port) as master:
        assert await train(config, "--follow") == (1, "", "pneumod: no run was asked for yet\n")
        await in_round(master)
        told = "pneumod: no run run-x is known here; the newest is run-a\n"
        assert await train(config, "--follow", "run-x") == (1, "", told)


async def test_a_run_that_is_replaced_is_not_waited_for(broker: Broker, config: Path) -> None:
    async with leading(broker.port) as master:
        await in_round(master)
        async with started(config, "--follow") as process:
            await line_with(process, "is on")
            await master.begin(RunSpec(5, "run-b", "op-run-bob", 0, RunSettings()))
            _, errors = await process.communicate()
    assert (process.returncode, errors) == (1, b"pneumod: run run-a was replaced by another\n")


async def test_following_outlives_the_connection_and_the_master(broker: Broker, tmp_path: Path) -> None:
    async with wire(broker.port) as cable, leading(broker.port, node=2) as first:
        await in_round(first)
        async with started(write_config(tmp_path, cable.port), "--follow") as process:
            await line_with(process, "node 2 leads")
            cable.cut()
            await line_with(process, "the connection is lost; trying again")
            await line_with(process, "connected again")
            async with leading(broker.port, node=1, counter=4) as second:
                assert first.closed is not None
                await second.repeat(SPEC, first.closed)
                await line_with(process, "node 1 leads (term 4)")
                await second.close(2, auc=0.875)
                await line_with(process, "round 2 closed")
                await second.end("all 9 rounds done")
                out, errors = await process.communicate()
                assert "run-a has ended: all 9 rounds done.\n" in out.decode()
    assert (process.returncode, errors) == (0, b"")


async def test_on_a_terminal_the_tables_say_it_at_once(broker: Broker, tmp_path: Path) -> None:
    """The newest closed round, whose model isn't scored yet; a lost connection is told above."""
    far, near = os.openpty()
    command = (sys.executable, "-m", "pneumod", "train", "--follow", "--config")
    async with wire(broker.port) as cable, leading(broker.port) as master:
        await in_round(master)
        await master.close(2, summary=TAKEN_OVER)
        environment = os.environ | {"COLUMNS": "200", "LINES": "60", "TERM": "xterm"}
        path = str(write_config(tmp_path, cable.port))
        process = await asyncio.create_subprocess_exec(*command, path, stdout=near, stderr=near, env=environment)
        os.close(near)
        for text in ("without nodes 5, 7: gone\ufffd[2J", "the connection is lost; trying again", "connected again"):
            await asyncio.wait_for(asyncio.to_thread(read_until, far, text), LIMIT_S)
            cable.cut()
        process.send_signal(signal.SIGINT)
        await asyncio.wait_for(asyncio.to_thread(read_until, far, "No longer following"), LIMIT_S)
        assert await process.wait() == 130
    os.close(far)


def read_until(terminal: int, text: str) -> None:
    """Read what is written to a terminal until this text comes."""
    shown = b""
    while text not in shown.decode(errors="ignore"):
        shown += os.read(terminal, 65536)


async def test_a_run_is_asked_for_on_the_broker_where_somebody_leads(broker: Broker, tmp_path: Path) -> None:
    with serving(new_broker(tmp_path / "first")) as first:
        config = write_config(tmp_path, first.port, broker.port)
        async with leading(broker.port) as master:
            code, out, errors = await train(config, "--detach")
            assert (code, errors) == (0, "")
            assert [out.strip()] == [request.run for request in master.asked]


MISTAKES = {
    "--stop --follow": "argument --follow: not allowed with argument --stop",
    "--detach --stop run-a": "argument --stop: not allowed with argument --detach",
    "--stop ''": "argument --stop: '' is not the id of a run",
    "--follow Run_A": "argument --follow: 'Run_A' is not the id of a run",
    "--stop --rounds 3": "--rounds: --stop asks for no run; leave it out",
    "--follow --learning-rate 0.1": "--learning-rate: --follow asks for no run; leave it out",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_options_that_exclude_each_other_are_one_line(
    line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--config", str(write_config(tmp_path, 1)), *[part.strip("'") for part in line.split()]]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert MISTAKES[line] in error
