"""The command's side of a batch: a pretended daemon asks, answers in any order, dies, refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from pneumod import parcel
from pneumod.desk import Came, Refused, Spent
from pneumod.errors import DataError
from pneumod.parcel import Answer, Answers, Head
from pneumod.spread import batch, counter, leg
from pneumod.spread.batch import Batch
from pneumod.spread.ledger import Outcome
from pneumod.spread.leg import Task
from pneumod.spread.plan import TRAVEL_BYTES
from pneumod.spread.tally import HOME
from pneumod.spread.worth import LEAST
from tests.spread.desk import PIXELS, PREPARATION, Script, Talk, answer, desk


class Command:
    """What the command did: which files at home, what it said."""

    def __init__(self, folder: Path, files: int) -> None:
        self.paths = [folder / f"{number:03}.png" for number in range(files)]
        for number, path in enumerate(self.paths):
            cv2.imwrite(str(path), np.full((40, 30), number % 256, np.uint8))
        self.socket = folder / "desk.sock"
        self.said: list[str] = []
        self.at_home: list[Path] = []
        self.batch: Batch

    def home(self, paths: Iterable[Path]) -> Iterator[Outcome]:
        for path in paths:
            self.at_home.append(path)
            yield outcome(path)

    async def run(self) -> list[Outcome]:
        task = Task("preprocess", Head(PREPARATION), PIXELS, self.home)
        self.batch = Batch(self.paths, task, 3, self.socket, self.said.append)
        return await asyncio.to_thread(lambda: list(self.batch.outcomes()))

    async def against(self, *scripts: Script) -> list[Talk]:
        """Run against a daemon; what comes of the files is what would come of them at home."""
        async with desk(self.socket, scripts) as talks:
            assert await self.run() == [outcome(path) for path in self.paths]
        return talks


def outcome(path: Path) -> Outcome:
    try:
        return answer(path)
    except DataError as error:
        return str(error)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path, 12)


def each(talk: Talk) -> range:
    return range(talk.bring.items)


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


async def test_without_a_daemon_all_is_done_at_home(command: Command) -> None:
    assert await command.run() == [outcome(path) for path in command.paths]
    assert command.said == ["the daemon of this node isn't running; 12 of 12 images are done here"]


async def test_a_socket_that_nobody_serves_is_no_daemon(command: Command) -> None:
    server = await asyncio.start_unix_server(lambda _, __: None, command.socket)
    server.close()
    await server.wait_closed()
    assert len(await command.run()) == 12
    assert command.said == ["the daemon of this node isn't running; 12 of 12 images are done here"]


def test_a_site_of_one_node_has_nobody_to_spread_to(command: Command) -> None:
    task = Task("preprocess", Head(PREPARATION), PIXELS, command.home)
    assert len(list(Batch(command.paths, task, 1, command.socket, command.said.append).outcomes())) == 12
    assert command.said == ["the roster names no other node of this site; 12 of 12 images are done here"]


async def test_a_refusal_in_the_middle_keeps_the_rest_at_home(command: Command) -> None:
    async def refuses(talk: Talk) -> None:
        for item in range(4):
            await talk.do(item)
        await talk.say(Refused("this broker is not of the site"))

    await command.against(refuses)
    assert command.at_home == command.paths[4:]
    assert command.said == ["this broker is not of the site; 8 of 12 images are done here"]


async def test_a_daemon_that_stays_away_is_given_up(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counter, "RETURN_S", 0.5)

    async def dies(talk: Talk) -> None:
        await talk.do(0)
        command.socket.unlink()
        talk.kill()

    await command.against(dies)
    assert command.at_home == command.paths[1:]
    assert command.said == ["the daemon of this node isn't running; 11 of 12 images are done here"]


async def test_a_site_that_answers_nothing_is_given_up(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leg, "STALL_S", 1)

    async def sleeps(talk: Talk) -> None:
        await talk.parcel(0)

    await command.against(sleeps)
    assert command.said == ["no node answered for 1 s; 12 of 12 images are done here"]


async def test_what_other_nodes_could_not_do_is_done_at_home(command: Command) -> None:
    """A reason, an answer of another size, bytes that are no answers, too few of them, a failure."""
    good = answer(command.paths[0])
    small = Answer(good.facts, pixels=b"\0" * (PIXELS - 1))
    scored = Answer(good.facts, probability=0.5)
    bad = [
        *(parcel.pack(Answers((one,))) for one in ("the decoder hung", small, scored)),
        parcel.pack(Answers((good, good))),
        b"nonsense",
    ]

    async def fails(talk: Talk) -> None:
        for item, data in enumerate(bad):
            await talk.say(Came(item, data, 2))
        await talk.say(Came(len(bad), b"", 2, failed="its disk is full"))
        for item in range(len(bad) + 1, talk.bring.items):
            await talk.do(item)

    await command.against(fails)
    assert sorted(command.at_home) == command.paths[:6]


async def test_what_must_not_travel_stays_at_home(command: Command) -> None:
    """An empty place in the parcel tells nothing of it."""
    command.paths[0].unlink()
    command.paths[1].write_bytes(b"no image")
    with command.paths[2].open("wb") as large:
        large.truncate(TRAVEL_BYTES + 1)

    async def looks(talk: Talk) -> None:
        assert [(await talk.parcel(item)).files for item in range(1)] == [(b"",)]
        for item in each(talk):
            await talk.do(item)

    (talk,) = await command.against(looks)
    assert talk.bring.items == 10, "neither what isn't there nor what is too large is offered"
    assert sorted(command.at_home) == command.paths[:3]
    assert command.said == []


async def test_a_file_is_sent_without_its_comments(command: Command) -> None:
    text = b"\0\0\0\x0ctEXtName\0Muster,M"
    data = command.paths[0].read_bytes()
    command.paths[0].write_bytes(data[:33] + text + b"\x8b\x15\x0e\x4d" + data[33:])

    async def looks(talk: Talk) -> None:
        assert b"Muster" not in (await talk.parcel(0)).files[0]
        for item in each(talk):
            await talk.do(item)

    await command.against(looks)


async def test_the_rest_stays_at_home_when_sending_costs_more_than_doing(command: Command) -> None:
    async def measures(talk: Talk) -> None:
        for item in range(LEAST):
            await talk.do(item)
        for item in range(LEAST):
            await talk.say(Spent("worked", item, 1000, 2.0))
            await talk.say(Spent("sent", item, 1000, 3.0))

    (talk,) = await command.against(measures)
    assert talk.ended.is_set()
    assert command.at_home == command.paths[LEAST:]
    assert command.said == [
        "sending doesn't pay: an image of 1 kB costs 3.0 ms to send, and 2.0 ms to work on here; "
        "8 of 12 images are done here"
    ]


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


def test_a_fault_at_home_ends_the_command(command: Command) -> None:
    def home(paths: Iterable[Path]) -> Iterator[Outcome]:
        raise DataError("no model")

    task = Task("preprocess", Head(PREPARATION), PIXELS, home)
    with pytest.raises(DataError, match="no model"):
        list(Batch(command.paths, task, 3, command.socket, command.said.append).outcomes())
