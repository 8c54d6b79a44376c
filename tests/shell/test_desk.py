"""A command at the desk of a daemon: what it brings, gives and is told, over a real socket and a real disk."""

from __future__ import annotations

import asyncio
import contextlib
from errno import ENOSPC
from pathlib import Path

import pytest
from msgspec.structs import replace

from pneumod.core import events as ev
from pneumod.desk import Accepted, Bring, Came, End, Give, Need, Refused, Spent
from pneumod.shell.desk import Over
from pneumod.shell.store import Store
from pneumod.work import Offer
from tests.shell.desks import BRING, HEAD, came, command, files, front
from tests.shell.parts import LIMIT_S

NAME = BRING.batch


async def test_a_batch_from_its_offer_to_its_end(tmp_path: Path) -> None:
    async with front(tmp_path) as one, command(tmp_path, BRING) as its:
        assert await its.hear() == Accepted(1, (1, 2))
        assert one.fed.of(ev.Offered) == [ev.Offered(NAME, "preprocess", 8)]
        assert await one.files(NAME, None) == HEAD
        wanted = [asyncio.create_task(one.files(NAME, item)) for item in (3, 5, 3)]
        assert await its.hears(2) == [Need(3), Need(5)], "each is asked for once"
        its.say(Give(5, files(5)), Give(3, files(3)))
        assert await asyncio.gather(*wanted) == [files(3), files(5), files(3)]
        await one.desk.deliver(came(5))
        assert await its.hear() == Came(5, b"what came of 5", 2, None)
        one.desk.spent("worked", NAME, 3, 100, 2.5)
        assert await its.hear() == Spent("worked", 3, 100, 2.5)
        its.say(End())
        assert await its.gone()
        assert one.fed.of(ev.Withdrawn) == [ev.Withdrawn()]
        assert one.node.state.durable.batch == Offer(NAME, "preprocess", 8, b"\0", withdrawn=True)
        assert list((tmp_path / "results").iterdir()) == [], "nothing is kept of it"
        assert not one.desk.wants(NAME, 3)
        with pytest.raises(Over):
            await one.files(NAME, 3)


async def test_a_command_that_is_killed_withdraws_its_batch_and_another_may_come(tmp_path: Path) -> None:
    async with front(tmp_path) as one:
        async with command(tmp_path, BRING) as its:
            await its.hear()
            waiting = asyncio.create_task(one.files(NAME, 1))
            assert await its.hear() == Need(1)
        await one.fed.until(ev.Withdrawn)
        with pytest.raises(Over):
            await waiting
        async with command(tmp_path, replace(BRING, batch="batch-2")) as its:
            assert isinstance(await its.hear(), Accepted)


async def test_one_command_at_a_time(tmp_path: Path) -> None:
    async with front(tmp_path) as one, command(tmp_path, BRING) as first:
        await first.hear()
        async with command(tmp_path, replace(BRING, batch="batch-2")) as second:
            assert await second.hear() == Refused("this node has a batch of another command")
            assert await second.gone()
        await one.desk.deliver(came(1))
        assert isinstance(await first.hear(), Came), "the first goes on"


async def test_a_batch_that_is_over_is_not_begun_again_under_its_name(tmp_path: Path) -> None:
    async with front(tmp_path) as one:
        async with command(tmp_path, BRING) as its:
            await its.hear()
        await one.fed.until(ev.Withdrawn)
        async with command(tmp_path, BRING) as its:
            assert await its.hear() == Refused("this batch is over: what is left of it needs a name of its own")


async def test_files_that_nobody_asked_for_are_let_go_and_those_of_a_done_item_too(tmp_path: Path) -> None:
    async with front(tmp_path) as one, command(tmp_path, BRING, Give(2, b"unasked")) as its:
        await its.hear()
        wanted = asyncio.create_task(one.files(NAME, 2))
        assert await its.hear() == Need(2)
        its.say(Give(2, files(2)))
        assert await wanted == files(2)
        waiting = asyncio.create_task(one.files(NAME, 4))
        assert await its.hear() == Need(4)
        for item in (2, 4):
            await one.desk.deliver(came(item))
        with pytest.raises(Over):
            await waiting
        assert not one.desk.wants(NAME, 2)
        assert not one.desk._parcels


async def test_the_files_in_memory_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pneumod.shell.desk.CACHE_BYTES", 2_500)
    async with front(tmp_path) as one, command(tmp_path, BRING) as its:
        await its.hear()
        for item in range(4):
            wanted = asyncio.create_task(one.files(NAME, item))
            assert await its.hear() == Need(item)
            its.say(Give(item, bytes(1_000)))
            await wanted
        assert list(one.desk._parcels) == [2, 3]
        again = asyncio.create_task(one.files(NAME, 0))
        assert await its.hear() == Need(0)
        again.cancel()


async def test_while_too_much_is_used_no_more_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pneumod.shell.desk.CACHE_BYTES", 2_500)
    async with front(tmp_path) as one, command(tmp_path, BRING) as its, contextlib.AsyncExitStack() as uses:
        await its.hear()
        for item in range(3):
            using = asyncio.create_task(uses.enter_async_context(one.desk.files(NAME, item)))
            assert await its.hear() == Need(item)
            its.say(Give(item, bytes(1_000)))
            await using
        wanted = asyncio.create_task(one.files(NAME, 3))
        assert await its.hear() == Need(3)
        its.say(Give(3, bytes(1_000)))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(wanted), 0.2)
        await uses.aclose()
        assert await asyncio.wait_for(wanted, LIMIT_S) == bytes(1_000)
        assert len(one.desk._parcels) == 2
        assert not one.desk._users


# ---- which batches are spread ----


async def test_a_broker_of_another_site_spreads_nothing(tmp_path: Path) -> None:
    async with front(tmp_path) as one:
        one.desk.moved(False)
        async with command(tmp_path, BRING) as its:
            refused = await its.hear()
            assert isinstance(refused, Refused)
            assert "not marked as one of this site" in refused.why
        assert one.fed.seen == []


async def test_going_to_a_broker_of_another_site_ends_a_batch(tmp_path: Path) -> None:
    async with front(tmp_path) as one, command(tmp_path, BRING) as its:
        await its.hear()
        one.desk.moved(None)
        one.desk.moved(False)
        assert isinstance(await its.hear(), Refused)
        assert await its.gone()
        assert one.fed.of(ev.Withdrawn)


async def test_a_broker_that_stays_away_ends_a_batch_and_a_short_absence_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pneumod.shell.desk.LOOK_S", 0.05)
    async with front(tmp_path) as one, command(tmp_path, BRING) as its:
        await its.hear()
        one.desk.moved(None)
        await asyncio.sleep(0.2)
        one.desk.moved(True)
        await one.desk.deliver(came(1))
        assert isinstance(await its.hear(), Came)
        monkeypatch.setattr("pneumod.shell.desk.LOST_S", 0.2)
        one.desk.moved(None)
        assert await its.hear() == Refused("this node is on no broker")


# ---- what came, over the end of a daemon ----


async def test_the_next_daemon_tells_all_that_came_and_goes_on(tmp_path: Path) -> None:
    async with front(tmp_path) as one, command(tmp_path, BRING) as its:
        await its.hear()
        await one.count(6, 1)
        await one.desk.deliver(came(4))  # its bit is not written yet
        await its.items(3)
        await one.dies()
    async with front(tmp_path) as two:
        async with command(tmp_path, BRING) as its:
            assert await its.hear() == Accepted(1, (1, 2))
            assert await its.items(3) == [6, 1, 4]
            assert not two.desk.wants(NAME, 4)
            await two.desk.deliver(came(4, node=1))  # once more: the first stays
            await two.desk.deliver(came(0))
            assert await its.items(1) == [0]
            its.say(End())
            assert await its.gone()
        assert two.fed.of(ev.Withdrawn)


async def test_a_batch_that_was_done_when_its_daemon_was_killed_is_told_by_the_next(tmp_path: Path) -> None:
    async with front(tmp_path) as one, command(tmp_path, BRING) as its:
        await its.hear()
        await one.count(*range(8))
        await one.dies()
    async with front(tmp_path), command(tmp_path, BRING) as its:
        await its.hear()
        assert await its.items(8) == list(range(8))


async def test_who_brings_another_batch_after_a_restart_hears_nothing_of_the_old_one(tmp_path: Path) -> None:
    async with front(tmp_path) as one, command(tmp_path, BRING) as its:
        await its.hear()
        await one.count(1)
        await one.dies()
    other = Bring("batch-2", "predict", 3, HEAD)
    async with front(tmp_path) as two, command(tmp_path, other) as its:
        await its.hear()
        await two.desk.deliver(came(1))  # late
        await two.desk.deliver(came(2, "batch-2"))
        assert await its.items(1) == [2]
        assert [path.name for path in (tmp_path / "results").iterdir()] == ["batch-2"]


async def test_a_batch_whose_command_does_not_come_back_is_withdrawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with front(tmp_path) as one, command(tmp_path, BRING) as its:
        await its.hear()
        await one.count(1)
        await one.dies()
    monkeypatch.setattr("pneumod.shell.desk.RETURN_S", 0.2)
    async with front(tmp_path) as two:
        assert two.desk.wants(NAME, 2)
        await two.fed.until(ev.Withdrawn)
        assert not two.desk.wants(NAME, 2)
    async with front(tmp_path) as three:
        assert three.node.state.durable.batch == Offer(NAME, "preprocess", 8, b"\2", withdrawn=True)
        assert list((tmp_path / "results").iterdir()) == []


async def test_a_batch_whose_results_are_lost_is_not_taken_up(tmp_path: Path) -> None:
    async with front(tmp_path) as one, command(tmp_path, BRING) as its:
        await its.hear()
        await one.count(1)
        await one.dies()
    (tmp_path / "results" / NAME).unlink()
    async with front(tmp_path), command(tmp_path, BRING) as its:
        assert isinstance(await its.hear(), Refused)


async def test_a_disk_without_room_ends_the_batch_and_not_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with front(tmp_path) as one, command(tmp_path, BRING) as its:
        await its.hear()
        monkeypatch.setattr("pneumod.shell.store.LEAST_FREE_BYTES", 2**60)
        await one.desk.deliver(came(1))
        refused = await its.hear()
        assert isinstance(refused, Refused)
        assert "free space" in refused.why
        await one.fed.until(ev.Withdrawn)
        assert not one.desk.wants(NAME, 2)


async def test_a_batch_that_the_disk_does_not_take_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(batch: str, anew: bool) -> frozenset[int]:
        raise OSError(ENOSPC, "No space left on device")

    async with front(tmp_path) as one:
        monkeypatch.setattr(one.store.results, "begin", full)
        async with command(tmp_path, BRING) as its:
            refused = await its.hear()
            assert isinstance(refused, Refused)
            assert "No space left" in refused.why
        assert one.fed.of(ev.Offered) == []
        monkeypatch.undo()
        async with command(tmp_path, BRING) as its:
            assert isinstance(await its.hear(), Accepted)


async def test_what_is_left_of_a_batch_that_the_state_does_not_know_goes(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.results.begin("batch-9", anew=True)
    store.close()
    async with front(tmp_path) as one:
        assert one.desk.batch is None
        assert list((tmp_path / "results").iterdir()) == []
