"""A batch on its way: a pretended daemon asks, answers in any order, dies, comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from pneumod.desk import Came
from pneumod.parcel import Head
from pneumod.spread import batch, leg
from pneumod.spread.batch import Batch
from pneumod.spread.ledger import Outcome
from pneumod.spread.leg import Task
from pneumod.spread.tally import HOME
from tests.spread.command import Command, each, outcome
from tests.spread.desk import PIXELS, PREPARATION, Talk, desk


async def test_answers_in_any_order_come_out_in_the_order_of_the_files(command: Command) -> None:
    async def backwards(talk: Talk) -> None:
        for item in reversed(each(talk)):
            await talk.do(item, node=1 + item % 3)

    await command.against(backwards)
    assert command.at_home == []
    assert command.said == []
    assert {who: share.files for who, share in command.batch.tally.shares.items()} == {1: 4, 2: 4, 3: 4}


async def test_what_is_said_twice_counts_once(command: Command) -> None:
    async def twice(talk: Talk) -> None:
        for item in each(talk):
            came = await talk.do(item, node=1)
            await talk.say(Came(came.item, came.data, 2))
            await talk.do(item, node=3)

    await command.against(twice)
    assert {who: share.files for who, share in command.batch.tally.shares.items()} == {1: 12}


async def test_a_daemon_that_was_restarted_goes_on_with_the_same_batch(command: Command) -> None:
    told: list[Came] = []

    async def dies(talk: Talk) -> None:
        told.extend([await talk.do(item) for item in range(5)])
        await talk.parcel(5)
        talk.kill()

    async def goes_on(talk: Talk) -> None:
        for came in told:
            await talk.say(came)
        for item in range(5, talk.bring.items):
            await talk.do(item, node=2)

    first, second = await command.against(dies, goes_on)
    assert first.bring == second.bring
    assert command.at_home == []
    assert {who: share.files for who, share in command.batch.tally.shares.items()} == {1: 5, 2: 7}


async def test_a_daemon_that_dies_before_it_says_anything_is_waited_for(command: Command) -> None:
    async def kill(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.close()
        command.socket.unlink()
        writer.transport.abort()
        killed.set()

    async def works(talk: Talk) -> None:
        for item in each(talk):
            await talk.do(item)

    killed = asyncio.Event()
    server = await asyncio.start_unix_server(kill, command.socket)
    running = asyncio.create_task(command.run())
    await killed.wait()
    async with desk(command.socket, [works]):
        await running
    assert command.at_home == []


async def test_a_file_is_sent_without_its_comments(command: Command) -> None:
    text = b"\0\0\0\x0ctEXtName\0Muster,M"
    data = command.paths[0].read_bytes()
    command.paths[0].write_bytes(data[:33] + text + b"\x8b\x15\x0e\x4d" + data[33:])

    async def looks(talk: Talk) -> None:
        assert b"Muster" not in (await talk.parcel(0)).files[0]
        for item in each(talk):
            await talk.do(item)

    await command.against(looks)


async def test_many_items_are_offered_batch_after_batch(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MAX_ITEMS", 5)

    async def works(talk: Talk) -> None:
        for item in each(talk):
            await talk.do(item)

    talks = await command.against(works, works, works)
    assert [talk.bring.items for talk in talks] == [5, 5, 2]
    assert len({talk.bring.batch for talk in talks}) == 3
    assert all(talk.ended.is_set() for talk in talks)


async def test_an_interrupted_command_withdraws_its_batch(command: Command) -> None:
    async def works(talk: Talk) -> None:
        for item in range(3):
            await talk.do(item)

    task = Task("preprocess", Head(PREPARATION), PIXELS, command.home)
    async with desk(command.socket, [works]) as talks:
        outcomes = Batch(command.paths, task, 3, command.socket, command.said.append).outcomes()
        got = [await asyncio.to_thread(next, outcomes) for _ in range(3)]
        await asyncio.to_thread(outcomes.close)
        await talks[0].ended.wait()
    assert got == [outcome(path) for path in command.paths[:3]]


async def test_memory_is_bounded_while_one_item_does_not_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nodes that hold items too far ahead wait; then what all wait for is done at home."""
    monkeypatch.setattr(batch, "WINDOW_BYTES", 0)
    monkeypatch.setattr(leg, "PATIENCE_S", 0.2)
    command = Command(tmp_path, 200)
    most_waiting = 0

    async def all_but_the_first(talk: Talk) -> None:
        await asyncio.gather(*(talk.do(item, node=2) for item in range(1, talk.bring.items)))

    def home(paths: Iterable[Path]) -> Iterator[Outcome]:
        nonlocal most_waiting
        most_waiting = len(command.batch.ledger._ready)
        return command.home(paths)

    task = Task("preprocess", Head(PREPARATION), PIXELS, home)
    command.batch = Batch(command.paths, task, 3, command.socket, command.said.append)
    window = command.batch.ledger.window
    async with desk(command.socket, [all_but_the_first]):
        got = await asyncio.to_thread(lambda: list(command.batch.outcomes()))
    assert got == [outcome(path) for path in command.paths]
    assert command.at_home == [command.paths[file] for file in command.batch.items[0]]
    assert 0 < most_waiting < window < len(command.paths)
    assert command.batch.tally.shares[HOME].files == len(command.at_home)


async def test_a_slow_reader_holds_the_others_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "WINDOW_BYTES", 0)
    command = Command(tmp_path, 300)

    async def all_at_once(talk: Talk) -> None:
        await asyncio.gather(*(talk.do(item) for item in each(talk)))

    task = Task("preprocess", Head(PREPARATION), PIXELS, command.home)
    command.batch = Batch(command.paths, task, 3, command.socket, command.said.append)
    async with desk(command.socket, [all_at_once]) as talks:
        outcomes = command.batch.outcomes()
        got = [await asyncio.to_thread(next, outcomes)]
        given = [item for item, future in talks[0].given.items() if future.done()]
        assert len(given) < len(command.batch.items)
        ledger = command.batch.ledger
        assert all(command.batch.items[item][0] < ledger.next + ledger.window for item in given)
        got += await asyncio.to_thread(list, outcomes)
    assert got == [outcome(path) for path in command.paths]
