"""An operator stays with the cluster: across lost connections, and from one broker of the config to the other."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pneumod import client
from pneumod.cli import main
from pneumod.client import Operator, operator
from pneumod.demo.cluster import Broker
from pneumod.errors import BusError
from pneumod.messages import RunSettings, RunSpec, StartRun
from tests.fake_master import leading
from tests.shell.parts import LIMIT_S, new_broker, node_config, serving, wire
from tests.test_train_command import write_config


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[list[Broker]]:
    with serving(new_broker(tmp_path / "first")) as first, serving(new_broker(tmp_path / "second")) as second:
        yield [first, second]


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another broker is looked at after a second of silence, not after eight."""
    monkeypatch.setattr(client, "NO_MASTER_S", 0.5)
    monkeypatch.setattr(client, "LATE_S", 0.5)


async def hears(me: Operator, node: int | None) -> None:
    assert await me.until(lambda view: view.master(time.monotonic()) == node, LIMIT_S), f"node {node} is not heard"


@pytest.mark.usefixtures("hasty")
async def test_it_goes_where_somebody_leads(brokers: list[Broker], tmp_path: Path) -> None:
    async with (
        wire(brokers[1].port) as cable,
        operator(node_config(tmp_path, 9, *(ports := [brokers[0].port, cable.port])), "run", "ann") as me,
        me.following(),
    ):
        async with leading(brokers[1].port, node=1):
            await hears(me, 1)
            second = me.connection
            assert second.broker.port == ports[1]
            assert not await me.until(lambda view: me.connection is not second, 1.5), "it left a broker with a master"
            cable.cut()
            assert await me.until(lambda view: me.lost is not None, LIMIT_S)
            assert await me.until(lambda view: me.lost is None, LIMIT_S)
            assert me.connection.broker.port == ports[0], "the first of the config is the first to be tried again"
            await hears(me, 1)
        async with leading(ports[0], node=2, counter=4) as master:
            await hears(me, 2)
            assert me.connection.broker.port == ports[0]
            run = await me.request_run(RunSettings())
            assert [request.run for request in master.asked] == [run]
        assert me.lost is None, "a broker without a master is no lost connection"


async def test_a_broker_that_goes_leaves_the_other(brokers: list[Broker], tmp_path: Path) -> None:
    changes: list[bool] = []
    ports = [broker.port for broker in brokers]
    async with (
        operator(node_config(tmp_path, 9, *ports), "watch") as me,
        me.following(lambda: changes.append(me.lost is not None)),
    ):
        async with leading(ports[0], node=1):
            await hears(me, 1)
        brokers[0].stop()
        async with leading(ports[1], node=2, counter=4):
            await hears(me, 2)
            assert me.lost is None
    assert True in changes, "the loss was told"


async def test_status_looks_at_every_broker(
    brokers: list[Broker], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(tmp_path, *(broker.port for broker in brokers))
    async with leading(brokers[1].port, node=3):
        assert await asyncio.to_thread(main, ["status", "--json", "--config", str(path)]) == 0
    assert json.loads(capsys.readouterr().out)["master"] == 3
    assert await asyncio.to_thread(main, ["status", "--config", str(path)]) == 1
    assert capsys.readouterr().out.splitlines()[0] == "no master is heard"


async def test_one_broker_is_not_left_for_want_of_a_master(
    brokers: list[Broker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "NO_MASTER_S", 0.0)
    async with operator(node_config(tmp_path, 9, brokers[0].port), "watch") as me, me.following():
        before = me.connection
        async with leading(brokers[0].port):
            await hears(me, 1)
        assert me.connection is before


async def test_the_word_of_a_new_master_is_waited_for(brokers: list[Broker], tmp_path: Path) -> None:
    """While it gathers what the nodes know, what is retained may be of a run long past."""
    port = brokers[0].port
    async with leading(port, unready=1) as master, operator(node_config(tmp_path, 9, port), "watch") as me:
        await master.begin(RunSpec(3, "run-old", "op-run-ann", 0, RunSettings()))
        async with me.following():
            asked = asyncio.create_task(me.newest_run())
            assert await me.until(lambda view: view.spec is not None and view.beacon is not None, LIMIT_S)
            assert not asked.done()
            spec = RunSpec(4, "run-new", "op-run-ann", 0, RunSettings())
            await master.begin(spec)
            master.unready = 0
            assert await asked == spec


async def test_a_request_outlives_the_connection(brokers: list[Broker], tmp_path: Path) -> None:
    port = brokers[0].port
    async with (
        wire(port) as cable,
        leading(port) as master,
        operator(node_config(tmp_path, 9, cable.port), "run") as me,
        me.following(),
    ):
        await hears(me, 1)
        cable.cut()
        assert await me.until(lambda view: me.lost is not None, LIMIT_S)
        with pytest.raises(BusError, match="the connection to the broker is lost"):
            await me.ask(StartRun("run-x", 0, RunSettings()))
        run = await me.request_run(RunSettings())
        assert [request.run for request in master.asked] == [run]


async def test_a_cancellation_that_something_swallowed_ends_the_waiting_all_the_same(
    brokers: list[Broker], tmp_path: Path
) -> None:
    config = node_config(tmp_path, 1, brokers[0].port)
    waits = asyncio.Event()

    async def wait() -> None:
        async with operator(config, "watch") as me, me.following():
            try:
                waits.set()
                await asyncio.sleep(LIMIT_S)
            except asyncio.CancelledError:  # as wait_for does where its future ends in the same moment
                await me.until(lambda view: False, LIMIT_S)

    task = asyncio.create_task(wait())
    await waits.wait()
    task.cancel()
    started_s = time.monotonic()
    await asyncio.wait({task})
    assert task.cancelled()
    assert time.monotonic() - started_s < LIMIT_S / 2
