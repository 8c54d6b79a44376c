"""`pneumod run`, `train` and `status` as an operator uses them, on two real daemons and a real broker."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pneumod.client import operator
from pneumod.config import NodeConfig
from pneumod.demo import phantom
from pneumod.demo.cluster import DemoCluster
from pneumod.demo.sites import Site
from pneumod.errors import BusError, RefusedError
from pneumod.messages import StartRun
from pneumod.settings import RunSettings
from pneumod.view import ClusterView
from tests.integration.test_demo import processes_that_name
from tests.shell.parts import new_broker, node_config, serving

SETTINGS = RunSettings(rounds=5000, patience=5000, image_size=28, batch_size=4, min_nodes=2)
READY_S = 60.0
STOP_S = 5.0


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "pneumod", *words]


def pneumod(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*words), capture_output=True, text=True, timeout=60)


def status_json(config: Path) -> dict[str, Any]:
    done = pneumod("status", "--json", "--config", str(config))
    assert done.stderr == ""
    told: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if told["master"] is not None else 1)
    return told


def watch_until(config: NodeConfig, condition: Callable[[ClusterView], bool]) -> ClusterView:
    """What a watcher sees when `condition` holds."""

    async def watch() -> ClusterView:
        async with operator(config, "watch", "test") as me, me.following():
            assert await me.until(condition, READY_S), "it did not come to this"
            return me.view

    return asyncio.run(watch())


def ready(view: ClusterView) -> bool:
    prepared = [n.id for n in view.nodes.values() if n.card is not None and n.card.counts is not None]
    return (
        view.master(time.monotonic()) == 1 and len(prepared) == 2 and view.beacon is not None and view.beacon.live == 2
    )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoCluster]:
    """Two daemons of which node 1 leads; their images are counted."""
    folder = tmp_path_factory.mktemp("cluster")
    made = phantom.write_dataset(folder / "images", 2, 0, train_images=8, val_images=4, test_images=0)
    sites = [Site(number, f"site-{number}", one / "train", one / "val") for number, one in enumerate(made, 1)]
    with DemoCluster(folder, sites, SETTINGS, new_broker(folder)) as cluster:
        watch_until(cluster.config(1), ready)
        yield cluster


@pytest.fixture(scope="module")
def short_run(cluster: DemoCluster) -> subprocess.CompletedProcess[str]:
    """A run of one round that was followed to its end."""
    return pneumod("train", "--rounds", "1", "--name", "Ann B.", "--config", str(cluster.config_path(2)))


@pytest.fixture(scope="module")
def long_run(cluster: DemoCluster, short_run: object) -> str:
    """A run that goes on for longer than the tests; whoever asked for it has stopped following with Ctrl-C."""
    words = command("train", "--name", "Bob", "--config", str(cluster.config_path(1)))
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        first = following.stdout.readline()
        match = re.match(r"run (\S+) is on; Ctrl-C stops following", first)
        assert match, first
        following.send_signal(signal.SIGINT)
        rest, errors = following.communicate(timeout=30)
    assert following.returncode == 130
    assert errors == ""
    assert re.search(r"^No longer following\. A run that was accepted goes on", rest, re.MULTILINE)
    return match[1]


def test_status_before_any_run(cluster: DemoCluster) -> None:
    told = status_json(cluster.config_path(2))
    assert told["master"] == 1
    assert told["term"] >= 1
    assert told["run"] is told["asked_by"] is told["best"] is told["ended"] is None
    assert [node["id"] for node in told["nodes"]] == [1, 2]
    for node in told["nodes"]:
        assert node["name"] == f"site-{node['id']}"
        assert node["live"] is True
        assert node["state"] == "idle"
        assert node["progress"] == 0.0
        assert 0.0 <= node["beat_age_s"] < 2.5
        assert node["images"]["normal"] + node["images"]["pneumonia"] == 8
        assert node["model"] is None


def test_train_follows_a_run_to_its_end(cluster: DemoCluster, short_run: subprocess.CompletedProcess[str]) -> None:
    assert short_run.returncode == 0, short_run.stderr
    assert re.search(r"^\S+ has ended: all 1 rounds done\.$", short_run.stdout, re.MULTILINE)
    assert "not for diagnosis" in " ".join(short_run.stdout.split())
    told = status_json(cluster.config_path(1))
    assert told["ended"] == "all 1 rounds done"
    assert told["asked_by"] == "op-run-ann-b."
    assert told["rounds"] == 1
    assert 0.0 <= told["best"]["auc"] <= 1.0
    assert {node["round"] for node in told["nodes"]} == {told["round"]} == {2}
    assert len({node["model"] for node in told["nodes"]}) == 1


def test_ctrl_c_stops_following_only(cluster: DemoCluster, long_run: str) -> None:
    view = watch_until(cluster.config(1), lambda view: view.closed is not None and view.closed.run == long_run)
    assert view.closed is not None
    reached = view.closed.round
    view = watch_until(cluster.config(1), lambda view: view.closed is not None and view.closed.round > reached)
    assert view.closed is not None
    assert (view.closed.run, view.closed.ended) == (long_run, None)


def test_status_in_a_run(cluster: DemoCluster, long_run: str) -> None:
    told = status_json(cluster.config_path(1))
    assert (told["run"], told["asked_by"], told["rounds"], told["ended"]) == (long_run, "op-run-bob", 5000, None)
    assert told["phase"] in ("gathering", "waiting", "preparing", "collecting", "closing", "handing")
    shown = pneumod("status", "--config", str(cluster.config_path(2)))
    assert shown.returncode == 0
    assert re.search(
        rf"master: node 1 \(term \d+\), 2 live · {long_run}, round \d+ of 5000", shown.stdout.replace("\n", " ")
    )
    assert "site-1" in shown.stdout
    assert "site-2" in shown.stdout


def test_a_second_run_is_refused_with_who_and_since_when(cluster: DemoCluster, long_run: str) -> None:
    done = pneumod("train", "--rounds", "3", "--name", "eve", "--config", str(cluster.config_path(2)))
    assert done.returncode == 1
    assert re.fullmatch(
        rf"pneumod: run {long_run} is on, asked for by op-run-bob.*; on since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\n",
        done.stderr,
    )
    assert done.stdout == ""


def test_only_an_operator_with_the_role_run_may_start_one(cluster: DemoCluster) -> None:
    async def ask() -> None:
        async with operator(cluster.config(1), "watch", "eve") as me, me.following():
            await me.until(lambda view: view.master(time.monotonic()) is not None, READY_S)
            await me.ask(StartRun("run-x", 0, SETTINGS))

    with pytest.raises(RefusedError, match="role run"):
        asyncio.run(ask())


def test_each_component_has_its_log(cluster: DemoCluster, long_run: str) -> None:
    for node in (1, 2):
        folder = cluster.folder / f"state{node}" / "log"
        assert {p.name for p in folder.iterdir()} == {"master", "worker", "train", "predict", "preprocess", "broker"}
        assert "connected to the broker" in (folder / "broker" / "broker.log").read_text()
        assert re.search(r"round \d+ trained on", (folder / "train" / "train.log").read_text())
    assert long_run in (cluster.folder / "state1" / "log" / "master" / "master.log").read_text()


@contextlib.contextmanager
def following(cluster: DemoCluster, node: int, run: str) -> Iterator[Iterator[str]]:
    """The lines of `train --follow` on another node's machine."""
    words = command("train", "--follow", run, "--config", str(cluster.config_path(node)))
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield iter(process.stdout.readline, "")
        process.terminate()


def test_a_run_waits_for_nodes_says_for_whom_and_goes_on_by_itself(cluster: DemoCluster, long_run: str) -> None:
    with following(cluster, 1, long_run) as lines:
        assert any(re.match(r"round \d+ closed: 2 nodes in ", line) for line in lines)
        cluster.kill(2)
        gone = r".*\bwaiting for node 2 \(gone\)"
        assert any(re.match(f"waiting: {gone}", line) for line in lines)
        told = status_json(cluster.config_path(1))
        assert (told["phase"], told["ended"]) == ("waiting", None)
        assert re.match(gone, told["note"])
        cluster.start(2)
        assert any(re.match(r"round \d+ closed: 2 nodes in ", line) for line in lines)


def test_a_run_is_followed_and_stopped_from_elsewhere(cluster: DemoCluster, long_run: str) -> None:
    with following(cluster, 2, long_run) as lines:
        assert next(lines).startswith(f"run {long_run}, asked for by op-run-bob since ")
        stopped = pneumod("train", "--stop", "--name", "Eve", "--config", str(cluster.config_path(1)))
        assert (stopped.returncode, stopped.stderr) == (0, "")
        ending, kept = stopped.stdout.splitlines()
        assert ending == f"{long_run} has ended: stopped by op-run-eve."
        assert re.match(r"Best: the model of round \d+, pooled validation AUC [01]\.\d{3}\.", kept)
        assert list(lines)[-2] == f"{ending}\n"
    told = status_json(cluster.config_path(2))
    assert told["ended"] == "stopped by op-run-eve"
    assert (told["left_out"], told["takeovers"]) == ([], [])
    assert told["deadline_ms"] > 0
    watch_until(cluster.config(1), lambda v: all(n.beat and n.beat.activity == "idle" for n in v.nodes.values()))


def test_a_daemon_that_trains_stops_within_the_limit_with_its_children(cluster: DemoCluster, long_run: str) -> None:
    """The last of this module: it stops the cluster's daemons, the master first."""
    detached = pneumod("train", "--detach", "--config", str(cluster.config_path(1)))
    assert re.fullmatch(r"[a-z0-9-]+\n", detached.stdout), detached.stderr
    watch_until(cluster.config(1), lambda v: any(n.beat and n.beat.activity == "training" for n in v.nodes.values()))
    assert any("children.trainer" in line for line in processes_that_name(str(cluster.folder)))
    for node, process in cluster.processes.items():
        process.terminate()
        assert process.wait(STOP_S) == 0
        assert (cluster.folder / f"node{node}.log").read_text().rstrip().endswith("stopped")
        assert processes_that_name(str(cluster.config_path(node))) == []


def test_status_and_train_without_a_master_or_a_broker(tmp_path: Path) -> None:
    broker = new_broker(tmp_path / "broker")
    config = tmp_path / "node.yaml"
    config.write_text(
        f"cluster: empty\nnode: {{id: 1, name: north, site: s}}\nbrokers: [{{host: 127.0.0.1, port: {broker.port}}}]\n"
        "state_dir: state\ndata: {train: images}\n"
    )
    with serving(broker):
        shown = pneumod("status", "--config", str(config))
        assert (shown.returncode, shown.stdout.splitlines()[0], shown.stderr) == (1, "no master is heard", "")
        told = status_json(config)
        assert (told["master"], told["nodes"]) == (None, [])
    for words in (["status"], ["status", "--json"], ["train"]):
        done = pneumod(*words, "--config", str(config))
        assert (done.returncode, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"pneumod: no broker at 127.0.0.1:{broker.port}: ")
        assert "is the broker running" in line


async def test_a_request_without_a_master_says_so(tmp_path: Path) -> None:
    with serving(new_broker(tmp_path / "broker")) as broker:
        async with operator(node_config(tmp_path, 1, broker.port), "run", "ann") as me, me.following():
            with pytest.raises(BusError, match="no master is heard"):
                await me.ask(StartRun("run-x", 0, SETTINGS))


def test_more_nodes_than_the_roster_has_are_not_asked_for() -> None:
    example = Path(__file__).parents[1] / "configs" / "node.example.yaml"
    asked = pneumod("train", "--config", str(example), "--min-nodes", "4")
    assert asked.returncode == 2
    assert asked.stderr == "pneumod: --min-nodes 4: the roster has 3 nodes; ask for fewer\n"
