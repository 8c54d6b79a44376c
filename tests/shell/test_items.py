"""Work items in a node: their files come, a real child does them, each ends as exactly one event."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from msgspec.structs import replace

from pneumod import parcel
from pneumod.core.events import JobDone, JobFailed
from pneumod.core.jobs import Work, Worked
from pneumod.demo.cluster import Broker
from pneumod.desk import Give, Need, Spent
from pneumod.parcel import Answer, Answers, Parcel
from pneumod.shell.items import ROOM, Items, room
from tests.children.test_light import YAML
from tests.shell.movers import HOME, NAME, Part, batch_at, contents, part_of
from tests.shell.parts import Events, running

_, PNG = cv2.imencode(".png", np.tile(np.arange(64, dtype=np.uint8), (64, 1)))
FILES = parcel.pack(Parcel((PNG.tobytes(), b"no picture")))


def item(number: int, owner: int = 1) -> Work:
    return Work(owner, NAME, "preprocess", number)


class Bench:
    """A node's items."""

    def __init__(self, part: Part) -> None:
        part.link.config.path.write_text(YAML)
        self.events = Events()
        self.items = Items(part.link.config, part.desk, part.parcels, self.events.emit)

    async def ends(self, count: int = 1) -> list[JobDone | JobFailed]:
        return await self.events.until(JobDone | JobFailed, count)  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def bench_of(part: Part) -> AsyncIterator[Bench]:
    bench = Bench(part)
    async with running(asyncio.create_task(bench.items.run())):
        yield bench


@pytest.fixture
async def owner(tmp_path: Path, broker: Broker) -> AsyncIterator[Part]:
    async with part_of(tmp_path, 1, broker.port, HOME) as part:
        yield part


def check(end: JobDone | JobFailed, job: Work) -> None:
    assert isinstance(end, JobDone)
    assert end.job == job
    assert isinstance(end.outcome, Worked)
    picture, text = parcel.unpack(end.outcome.data, Answers).files
    assert isinstance(picture, Answer)
    assert picture.pixels is not None
    assert len(picture.pixels) == 32**2
    assert isinstance(text, str)


async def test_a_nodes_own_item_is_done_and_its_command_hears_what_it_took(owner: Part) -> None:
    async with bench_of(owner) as bench, batch_at(owner) as its:
        bench.items.start(item(3))
        assert await its.hear() == Need(3)
        its.say(Give(3, FILES))
        check((await bench.ends())[0], item(3))
        spent = await its.hear()
        assert isinstance(spent, Spent)
        assert (spent.how, spent.item, spent.parcel_bytes) == ("worked", 3, len(FILES))
        assert 0 < spent.ms < 60_000


async def test_another_nodes_item_is_done_and_nothing_of_it_stays(tmp_path: Path, broker: Broker, owner: Part) -> None:
    async with part_of(tmp_path, 2, broker.port, HOME) as worker, bench_of(worker) as bench, batch_at(owner) as its:
        for number in (3, 4):
            bench.items.start(item(number))
            assert await its.hear() == Need(number)
            its.say(Give(number, FILES))
            spent = await its.hear()
            assert isinstance(spent, Spent)
            assert spent.how == "sent"
        for end, number in zip(await bench.ends(2), (3, 4), strict=True):
            check(end, item(number))
        assert not bench.items._coming
        assert not bench.items._given
    assert not any(PNG.tobytes()[20:60] in data for data in contents(worker.store.folder))


async def test_an_item_that_is_cancelled_while_its_files_come_fails_once(owner: Part) -> None:
    async with bench_of(owner) as bench, batch_at(owner) as its:
        bench.items.start(item(3))
        assert await its.hear() == Need(3)
        bench.items.cancel(item(3))
        assert await bench.ends() == [JobFailed(item(3), "cancelled")]
        bench.items.start(item(3))  # granted again
        its.say(Give(3, FILES))
        check((await bench.ends(2))[1], item(3))
        bench.items.cancel(item(3))  # too late: of no effect
        await asyncio.sleep(0)
        assert len(await bench.ends(2)) == 2


async def test_an_item_that_waits_for_the_child_is_cancelled_and_the_one_at_it_goes_on(
    owner: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench_of(owner) as bench, batch_at(owner) as its:
        (worker,) = bench.items._workers
        submit, submitted = worker.submit, asyncio.Semaphore(0)
        monkeypatch.setattr(worker, "submit", lambda *its: (submit(*its), submitted.release()))
        for number in (1, 2):
            bench.items.start(item(number))
            assert await its.hear() == Need(number)
            its.say(Give(number, FILES))
            await submitted.acquire()  # the first has the child start, the second waits
        for number in (1, 2):
            bench.items.cancel(item(number))
        first, second = await bench.ends(2)
        assert first == JobFailed(item(2), "cancelled")
        check(second, item(1))


async def test_the_end_of_a_batch_fails_its_items(owner: Part) -> None:
    async with bench_of(owner) as bench:
        async with batch_at(owner) as its:
            bench.items.start(item(3))
            assert await its.hear() == Need(3)
        (failed,) = await bench.ends()
        assert failed == JobFailed(item(3), "the batch is over, or the item is done")


async def test_a_machine_of_two_cores_does_two_items_at_a_time(tmp_path: Path, broker: Broker) -> None:
    async with part_of(tmp_path, 1, broker.port, HOME) as owner:
        owner.link.config = replace(owner.link.config, threads=2)
        async with bench_of(owner) as bench, batch_at(owner) as its:
            assert room(owner.link.config) == 2 * ROOM
            for number in range(4):
                bench.items.start(item(number))
                assert await its.hear() == Need(number)
            for number in range(4):
                its.say(Give(number, FILES))
            for end in await bench.ends(4):
                assert isinstance(end.job, Work)
                check(end, item(end.job.item))
            assert len({worker._process.pid for worker in bench.items._workers if worker._process}) == 2


async def test_a_child_without_work_ends_and_the_next_item_gets_another(
    owner: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pneumod.shell.items.IDLE_S", 0.2)
    async with bench_of(owner) as bench, batch_at(owner) as its:
        for number in (1, 2):  # the second gets another child
            bench.items.start(item(number))
            assert await its.hear() == Need(number)
            its.say(Give(number, FILES))
            check((await bench.ends(number))[-1], item(number))
            assert isinstance(await its.hear(), Spent)
            process = bench.items._workers[0]._process
            assert process is not None
            assert await process.wait() == 0
