"""What is done at home: where nobody helps, where it must not travel, where others failed, where it costs less."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from pneumod import parcel
from pneumod.desk import Came, Refused, Spent
from pneumod.errors import DataError
from pneumod.images.travel import for_travel
from pneumod.parcel import Answer, Answers, Head
from pneumod.spread import counter, leg
from pneumod.spread.batch import Batch
from pneumod.spread.ledger import Outcome
from pneumod.spread.leg import Task
from pneumod.spread.plan import TRAVEL_BYTES
from pneumod.spread.worth import LEAST
from tests.spread.command import Command, each, outcome
from tests.spread.desk import PIXELS, PREPARATION, Talk, answer


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
        for item in (len(bad), len(bad) + 1):
            await talk.say(Came(item, b"", 2, failed="its disk is\x1b[1m full"))
        for item in range(len(bad) + 2, talk.bring.items):
            await talk.do(item)

    await command.against(fails)
    assert sorted(command.at_home) == command.paths[:7]
    assert command.said == ["node 2 could not do its part: its disk is?[1m full; what it leaves is done here"]


async def test_what_must_not_travel_stays_at_home(command: Command) -> None:
    """An empty place in the parcel tells nothing of it."""
    command.paths[0].unlink()
    command.paths[1].write_bytes(b"no image")
    with command.paths[2].open("wb") as large:
        large.truncate(TRAVEL_BYTES + 1)

    async def looks(talk: Talk) -> None:
        command.paths[3].unlink()
        os.mkfifo(command.paths[3])
        for item in (0, 1):
            assert (await talk.parcel(item)).files == (b"",)
        for item in each(talk):
            await talk.do(item)

    (talk,) = await command.against(looks)
    assert talk.bring.items == 10, "neither what isn't there nor what is too large is offered"
    assert sorted(command.at_home) == command.paths[:4]
    assert command.said == []


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
    (said,) = command.said
    figures = r"sending doesn't pay: an image of 1 kB costs ([\d.]+) ms to send, and 2.0 ms to work on here; "
    found = re.fullmatch(figures + "8 of 12 images are done here", said)
    assert found is not None, said
    assert 3.0 <= float(found[1]) < 6.0


async def test_what_it_costs_to_make_a_file_fit_for_travel_counts_as_sending(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here 20 ms of a core; the line alone would be ten times as fast as the work."""

    def slowly(data: bytes) -> bytes:
        end_s = time.thread_time() + 0.02
        while time.thread_time() < end_s:
            pass
        return for_travel(data)

    async def measures(talk: Talk) -> None:
        for item in range(LEAST):
            await talk.do(item)
            await talk.say(Spent("worked", item, 1000, 10.0))
            await talk.say(Spent("sent", item, 1000, 1.0))

    monkeypatch.setattr(leg, "for_travel", slowly)
    await command.against(measures)
    assert command.at_home == command.paths[LEAST:]
    (said,) = command.said
    assert said.startswith("sending doesn't pay: an image of 1 kB costs 2")


def test_a_fault_at_home_ends_the_command(command: Command) -> None:
    def home(paths: Iterable[Path]) -> Iterator[Outcome]:
        raise DataError("no model")

    task = Task("preprocess", Head(PREPARATION), PIXELS, home)
    with pytest.raises(DataError, match="no model"):
        list(Batch(command.paths, task, 3, command.socket, command.said.append).outcomes())
