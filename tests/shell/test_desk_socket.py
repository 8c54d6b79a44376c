"""The desk's socket: who may come, and what becomes of those who don't behave."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from msgspec.structs import replace

from pneumod import desk
from pneumod.core import events as ev
from pneumod.desk import Accepted, End, Need
from pneumod.shell.results import READ_BYTES
from tests.shell.desks import BRING, came, command, front


async def test_the_socket_is_for_user_and_group_and_one_left_behind_is_replaced(tmp_path: Path) -> None:
    deep = tmp_path / ("long" * 30)  # more than an address of a socket may have
    deep.mkdir()
    (deep / desk.SOCKET).write_text("left behind")
    async with front(deep):
        mode = (deep / desk.SOCKET).lstat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o660, "nobody else"
        async with command(deep, BRING) as its:
            assert isinstance(await its.hear(), Accepted)
    assert not (deep / desk.SOCKET).exists()


@pytest.mark.parametrize(
    "wrong",
    [
        b"\xff\xff\xff\xff",
        b"\x05\x00\x00\x00noise",
        desk.pack_frame(End()),
        desk.pack_frame(Need(1)),
        desk.pack_frame(replace(BRING, items=0)),
        desk.pack_frame(replace(BRING, batch="../../etc/passwd")),
    ],
)
async def test_what_is_no_batch_closes_the_connection_and_nothing_more(tmp_path: Path, wrong: bytes) -> None:
    async with front(tmp_path) as one:
        async with command(tmp_path) as its:
            its.writer.write(wrong)
            assert await its.gone()
        assert one.fed.seen == []
        async with command(tmp_path, BRING) as its:
            assert isinstance(await its.hear(), Accepted)


@pytest.mark.parametrize("wrong", [desk.pack_frame(BRING), b"\x05\x00\x00\x00noise"])
async def test_a_wrong_frame_in_a_batch_ends_it(tmp_path: Path, wrong: bytes) -> None:
    async with front(tmp_path) as one, command(tmp_path, BRING) as its:
        await its.hear()
        its.writer.write(wrong)
        assert await its.gone()
        assert one.fed.of(ev.Withdrawn)


async def test_who_brings_nothing_is_sent_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pneumod.shell.command.BRING_S", 0.1)
    async with front(tmp_path), command(tmp_path) as its:
        assert await its.gone()


async def test_a_command_that_reads_nothing_is_dropped_and_costs_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pneumod.shell.command.UNREAD_S", 0.5)
    async with front(tmp_path) as one, command(tmp_path, replace(BRING, items=1000)) as its:
        await its.hear()
        its.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for item in range(100):
            await one.desk.deliver(replace(came(item), data=bytes(190_000)))
        assert one.desk._command is not None
        unread = one.desk._command._writer.transport.get_write_buffer_size()
        assert unread < 2 * READ_BYTES < 100 * 190_000
        await one.fed.until(ev.Withdrawn)


async def test_what_is_said_without_waiting_is_bounded_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pneumod.shell.command.UNREAD_BYTES", 10_000)
    async with front(tmp_path) as one, command(tmp_path, BRING) as its:
        await its.hear()
        its.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(20_000):
            one.desk.spent("sent", BRING.batch, 1, 1, 1.0)
        await one.fed.until(ev.Withdrawn)
