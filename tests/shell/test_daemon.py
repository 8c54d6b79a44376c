"""The daemon as a process: it waits for its broker, stops when told to, and says what it can't do."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from msgspec.structs import replace

from pneumod.broker.embedded import HOST, free_port
from pneumod.bus import Incoming
from pneumod.config import NodeConfig, load
from pneumod.core import events as ev
from pneumod.core.actions import Action, Durable, Halt, Persist
from pneumod.demo import phantom
from pneumod.demo.cluster import Broker
from pneumod.errors import PneumodError
from pneumod.messages import NO_TERM, BlobRef, BlobWant, Card, Envelope, Gone, Term
from pneumod.shell.daemon import Daemon, run_daemon
from pneumod.shell.store import Store
from pneumod.topics import KINDS, Address
from tests.core.pair import beacon, result_of
from tests.examples import OPENED
from tests.integration.test_demo import processes_that_name
from tests.shell.parts import CLUSTER, LIMIT_S, Events, connection, first, new_broker, running, serving

STOP_S = 5.0


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (folder,) = phantom.write_dataset(tmp_path_factory.mktemp("images"), 1, 0, 8, 4, 0)
    return folder


def written(folder: Path, images: Path, port: int, **changes: object) -> NodeConfig:
    """A node's YAML in `folder`."""
    document = {
        "cluster": CLUSTER,
        "node": {"id": 3, "name": "north", "site": "s"},
        "brokers": [{"host": HOST, "port": port}],
        "state_dir": "state",
        "data": {"train": str(images / "train"), "val": str(images / "val")},
        **changes,
    }
    path = folder / "node.yaml"
    path.write_text(yaml.safe_dump(document))
    return load(path, need_data=False)


@contextlib.contextmanager
def daemon_process(config: NodeConfig) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "pneumod", "run", "--config", str(config.path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


async def line_with(process: subprocess.Popen[str], text: str) -> str:
    """The next line of its stderr that holds `text`."""
    assert process.stderr is not None
    lines = process.stderr

    def read() -> str:
        return next((line for line in lines if text in line), "")

    line = await asyncio.get_running_loop().run_in_executor(None, read)
    assert line, f"it ended without {text!r}"
    return line


def stopped(daemon: Daemon) -> None:
    """End a daemon that was never run."""
    daemon.store.close()
    if daemon._timer is not None:
        daemon._timer.cancel()


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
async def test_it_waits_for_its_broker_and_stops_cleanly(tmp_path: Path, images: Path, name: signal.Signals) -> None:
    broker = new_broker(tmp_path / "broker")
    config = written(tmp_path, images, broker.port)
    with daemon_process(config) as process:
        assert f"no broker at {HOST}:{broker.port}" in await line_with(process, "trying again")
        with serving(broker):
            await line_with(process, "connected to the broker")
            async with connection(broker.port, "op-watch-test") as watcher:
                await watcher.subscribe(["card", "gone"])
                while True:  # until its child has prepared the images
                    card = (await first(watcher, "card")).envelope.message
                    assert isinstance(card, Card)
                    if card.counts is not None:
                        break
                assert (card.name, card.counts.train) == ("north", 8)
                assert any("children.light" in line for line in processes_that_name(str(config.path)))
                process.send_signal(name)
                started_s = time.monotonic()
                gone = (await first(watcher, "gone")).envelope.message
                assert isinstance(gone, Gone)
                assert (gone.connection, gone.why) == (1, "stopped")
                await line_with(process, "stopped")
                assert process.wait(STOP_S) == 0
                assert time.monotonic() - started_s < STOP_S
    assert processes_that_name(str(config.path)) == []


async def test_it_stops_within_the_limit_while_it_has_no_broker(tmp_path: Path, images: Path) -> None:
    config = written(tmp_path, images, free_port())
    with daemon_process(config) as process:
        await line_with(process, "trying again")
        process.terminate()
        assert process.wait(STOP_S) == 0
    assert processes_that_name(str(config.path)) == []


def run_once(config: NodeConfig) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pneumod", "run", "--config", str(config.path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


def test_a_second_daemon_on_the_same_directory_is_one_line(tmp_path: Path, images: Path) -> None:
    config = written(tmp_path, images, free_port())
    store = Store(config.state_dir)
    done = run_once(config)
    store.close()
    assert done.returncode == 1
    assert done.stderr == (f"pneumod: {config.state_dir}: another daemon uses this state directory; stop it first\n")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"data": {"train": "nowhere"}}, "data.train: no such folder"),
        ({"state_dir": "node.yaml/below"}, "state_dir: "),
        ({"brokers": []}, "brokers: "),
    ],
)
def test_a_wrong_configuration_is_one_line(
    tmp_path: Path, images: Path, changes: dict[str, object], complaint: str
) -> None:
    config = written(tmp_path, images, free_port())
    config.path.write_text(yaml.safe_dump({**yaml.safe_load(config.path.read_text()), **changes}))
    done = run_once(config)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"pneumod: {config.path}: {complaint}")


async def test_a_disk_that_refuses_ends_the_daemon_with_one_line(tmp_path: Path, images: Path, broker: Broker) -> None:
    config = written(tmp_path, images, broker.port, cluster="full-disk")
    with daemon_process(config) as process:
        await line_with(process, "connected to the broker")
        state = config.state_dir / "state.msgpack"
        state.unlink()
        state.mkdir()  # as it takes the lead, it writes its term
        line = await line_with(process, "pneumod: ")
        assert process.wait(STOP_S) == 1
        assert "state.msgpack" in line
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert processes_that_name(str(config.path)) == []


async def test_a_broken_invariant_ends_the_daemon_also_when_a_timer_finds_it(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = Daemon(written(tmp_path, images, free_port()))
    step, ticks = daemon.node.step, 0

    def broken(event: ev.Event, now_ms: int) -> list[Action]:
        nonlocal ticks
        if isinstance(event, ev.Tick):
            ticks += 1
            assert ticks < 2, "an invariant"  # the first is no timer's
        return step(event, now_ms)

    monkeypatch.setattr(daemon.node, "step", broken)
    async with asyncio.timeout(20):
        with pytest.raises(AssertionError, match="an invariant"):
            await daemon.run()


async def test_a_slow_disk_is_told_while_what_follows_the_write_waits(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pneumod.shell.daemon.DISK_SLOW_S", 0.05)
    daemon = Daemon(written(tmp_path, images, free_port()))
    fed, released = Events(), threading.Event()

    def step(event: ev.Event, now_ms: int) -> list[Action]:
        fed.emit(event)
        return []

    monkeypatch.setattr(daemon.node, "step", step)
    blocked = asyncio.create_task(daemon.store.in_writer(released.wait))
    term = Term(4, -3, 1)
    for action in (Persist(Durable(term)), Halt()):
        daemon._actions.put_nowait(action)
    async with running(asyncio.create_task(daemon._act())):
        try:
            await fed.until(ev.DiskSlow)
            assert not daemon._halted.done()
        finally:
            released.set()  # the writer thread would keep the process alive
        await asyncio.wait_for(daemon._halted, LIMIT_S)
    await blocked
    assert len(fed.of(ev.DiskSlow)) == 1
    assert daemon.store.load()[1].term == term
    daemon.store.close()
    assert daemon._timer is not None
    daemon._timer.cancel()


def test_an_unusable_state_directory_is_a_pneumod_error(tmp_path: Path, images: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PneumodError, match="file"):
        run_daemon(replace(written(tmp_path, images, free_port()), state_dir=tmp_path / "file" / "below"))


async def test_who_has_gone_is_sent_nothing_more(tmp_path: Path, images: Path) -> None:
    daemon = Daemon(written(tmp_path, images, free_port()))
    try:
        daemon.jobs.transfers.may_have = lambda *_: True
        for node in ("1", "2"):
            daemon.jobs.transfers.hear_want(node, BlobWant("f" * 64, (0,)))
        gone = Envelope("2", NO_TERM, Gone(1, 1))
        daemon._received(Incoming(Address("2", KINDS["gone"]), gone, False, b""))
        assert daemon.jobs.transfers._waiting == {("f" * 64, "1")}
    finally:
        stopped(daemon)


async def test_an_update_is_served_to_the_master_only(tmp_path: Path, images: Path) -> None:
    config = written(tmp_path, images, free_port())
    term = Term(9, -1, 50)
    store = Store(config.state_dir)
    update, model = store.blobs.write(b"an update"), store.blobs.write(b"a model")
    _, durable, _ = store.load()
    mine, opened = replace(result_of(3, OPENED), update=update), replace(OPENED, base=model)
    await store.persist(replace(durable, term=term, opened=opened, result=mine))
    store.close()

    daemon = Daemon(config)
    try:
        may_have = daemon.jobs.transfers.may_have
        assert not may_have("1", update.digest), "nobody leads yet"
        daemon.feed(ev.Connected(1))
        daemon.feed(ev.Received("beacon", Envelope("1", term, beacon(3))))
        assert may_have("1", update.digest)
        assert not may_have("2", update.digest)
        assert not may_have("op-watch-eve", update.digest)
        assert may_have("2", model.digest)
        assert not may_have("op-watch-eve", model.digest)
        assert not may_have("1", BlobRef("f" * 64, 1).digest)
    finally:
        stopped(daemon)
