"""`--cluster`: three nodes of a site do one node's folder together; those who die lose and repeat nothing."""

from __future__ import annotations

import asyncio
import re
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.images.dicoms import PATIENT
from tests.integration.mosquitto import MOSQUITTO
from tests.integration.site import SiteCluster, Spy, begin, killed, run_alone, slowed, spying, write_images

IMAGES = 96
RESTART_S = 2.0  # a killed daemon comes back, as under systemd

pytestmark = [
    pytest.mark.skipif(MOSQUITTO is None, reason="Mosquitto is not installed (apt-get install mosquitto)"),
    pytest.mark.timeout(120),
]


class Stage(NamedTuple):
    cluster: SiteCluster
    images: Path
    alone: bytes  # what the command prints on one machine alone


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("site")
    images = write_images(folder / "images", IMAGES)
    with SiteCluster(folder) as cluster:
        alone = run_alone("predict", images, "--json", "--config", cluster.config_path(2))
        assert len(alone.splitlines()) == IMAGES + 1
        yield Stage(cluster, images, alone)


def shares(err: str) -> dict[str, int]:
    """Who did how many images, as the command says in the end."""
    return {who: int(count) for who, count in re.findall(r"^  (node \d+|here): (\d+) images?,", err, re.MULTILINE)}


async def test_the_nodes_of_the_site_share_the_work_and_no_other_node_hears_of_it(stage: Stage) -> None:
    async with spying(stage.cluster, files=True) as spy:
        await spy.all_up()
        command = await begin("predict", stage.images, "--cluster", "--json", "--config", stage.cluster.config_path(2))
        said = await command.end()
    assert said.out == stage.alone
    assert said.code == 1, "one file is no image"
    done = shares(said.err)
    assert sum(done.values()) == IMAGES + 1
    assert all(done[f"node {node}"] > 0 for node in (1, 2, 3)), said.err
    _check_privacy(spy, stage.images)


def _check_privacy(spy: Spy, images: Path) -> None:
    """Files go from node 2 to nodes 1 and 3, and what came of them back; node 4 has no part in it."""
    assert {(one.sender, one.dest) for one in spy.heard if one.kind == "parcel"} == {("2", "1"), ("2", "3")}
    assert {(one.sender, one.dest) for one in spy.heard if one.kind == "done"} == {("1", "2"), ("3", "2")}
    assert spy.count("pull", sender=4) > 0, "node 4 asks for work"
    assert spy.count("grant", dest=4) == 0
    pieces = [data[place : place + 64] for data in map(Path.read_bytes, sorted(images.rglob("*.*"))) if
              (place := len(data) // 2) > 64]  # fmt: skip
    assert len(pieces) == IMAGES
    parcels = b"".join(one.payload for one in spy.heard if one.kind == "parcel")
    others = b"".join(one.payload for one in spy.heard if one.kind != "parcel")
    assert sum(piece in parcels for piece in pieces) > IMAGES // 2, "the pieces are looked for rightly"
    assert PATIENT.encode() not in parcels + others
    assert not any(piece in others for piece in pieces)


async def test_nodes_of_different_speeds_finish_together(stage: Stage) -> None:
    """Node 1 has a quarter of the time that node 2 has, node 3 the half. (benchmarks/spread.py measures it.)"""
    cluster = stage.cluster
    async with spying(cluster) as spy:
        await spy.all_up()
        async with slowed(lambda: cluster.tree(1), 0.25), slowed(lambda: cluster.tree(3), 0.5):
            command = await begin("predict", stage.images, "--cluster", "--json", "--config", cluster.config_path(2))
            said = await command.end()
    assert said.out == stage.alone
    done, ends_s = shares(said.err), [float(end) for end in re.findall(r"node .* after ([\d.]+) s", said.err)]
    assert len(ends_s) == 3
    assert min(ends_s) > 0.75 * max(ends_s), said.err
    assert done["node 1"] < done["node 2"], said.err


async def test_other_forms_of_output_are_the_same_too(stage: Stage) -> None:
    options = stage.images, "--csv", "-", "--threshold", "0.9", "--config", stage.cluster.config_path(2)
    async with spying(stage.cluster) as spy:
        await spy.all_up()
        said = await (await begin("predict", "--cluster", *options)).end()
    assert said.out == run_alone("predict", *options)
    assert said.out.count(b"\n") == IMAGES + 2


async def test_a_killed_worker_loses_and_repeats_nothing(stage: Stage) -> None:
    async with spying(stage.cluster) as spy:
        await spy.all_up()
        command = await begin("predict", stage.images, "--cluster", "--json", "--config", stage.cluster.config_path(2))
        await spy.until(lambda: spy.count("done", 3) >= 2, "node 3 has done two items")
        with killed(stage.cluster, 3):
            assert command.is_on
            said = await command.end()
    assert said.out == stage.alone
    done = shares(said.err)
    assert done["node 3"] >= 2
    assert sum(done.values()) == IMAGES + 1


async def test_a_killed_master_loses_and_repeats_nothing(stage: Stage) -> None:
    async with spying(stage.cluster) as spy:
        await spy.all_up()
        command = await begin("predict", stage.images, "--cluster", "--json", "--config", stage.cluster.config_path(2))
        await spy.until(lambda: spy.count("done") >= 4, "four items are done elsewhere")
        with killed(stage.cluster, 1):
            assert command.is_on
            said = await command.end()
        assert spy.count("grant", 2) > 0, "the next master grants items"
    assert said.out == stage.alone
    assert sum(shares(said.err).values()) == IMAGES + 1


async def test_the_node_with_the_files_leads_dies_and_comes_back(stage: Stage) -> None:
    async with spying(stage.cluster) as spy:
        await spy.all_up()
        command = await begin("predict", stage.images, "--cluster", "--json", "--config", stage.cluster.config_path(1))
        await spy.until(lambda: spy.count("done") >= 4, "four items are done elsewhere")
        with killed(stage.cluster, 1):
            assert command.is_on
            await asyncio.sleep(RESTART_S)
            before = spy.count("done")
        said = await command.end()
        assert spy.count("done") > before, "it goes on with the same batch"
    assert said.out == stage.alone
    done = shares(said.err)
    assert done["here"] == 1, "only the file that is no image is done by the command"
    assert sum(done.values()) == IMAGES + 1


def prepared(folder: Path, images: Path) -> list[tuple[object, ...]]:
    """What a cache has of each image; the checksum is of its pixels."""
    with closing(sqlite3.connect(folder / "48.sqlite")) as index:
        entries = index.execute("SELECT path, size, mtime_ns, crc, reason FROM file ORDER BY path").fetchall()
    return [entry for entry in entries if entry[0].startswith(bytes(images))]


async def test_an_interrupted_preparation_goes_on_where_it_stood(stage: Stage, tmp_path: Path) -> None:
    run_alone("preprocess", stage.images, "--image-size", "48", "--out", tmp_path)
    command = "preprocess", stage.images, "--cluster", "--config", stage.cluster.config_path(2)
    async with spying(stage.cluster) as spy:
        await spy.all_up()
        first = await begin(*command)
        await spy.until(lambda: spy.count("done") >= 12, "a dozen items are done elsewhere")
        first.process.send_signal(signal.SIGINT)
        stopped = await first.end()
        assert stopped.code == 130
        second = await (await begin(*command)).end()
    assert second.code == 1, "one file is no image"
    already = re.search(rf"{IMAGES + 1} images: (\d+) prepared .*, (\d+) already there", second.out.decode())
    assert already is not None
    assert int(already[1]) + int(already[2]) == IMAGES
    assert int(already[2]) > 0
    kept = prepared(stage.cluster.folder / "state2" / "cache", stage.images)
    assert len(kept) == IMAGES + 1
    assert kept == prepared(tmp_path, stage.images)


async def test_an_interrupted_command_leaves_nothing_behind(stage: Stage) -> None:
    """Its batch is withdrawn: nobody works on it any more, and the next one is taken."""
    async with spying(stage.cluster) as spy:
        await spy.all_up()
        command = await begin("predict", stage.images, "--cluster", "--json", "--config", stage.cluster.config_path(2))
        await spy.until(lambda: spy.count("done") >= 2, "two items are done elsewhere")
        command.process.send_signal(signal.SIGINT)
        said = await command.end()
        assert said.code == 130
        assert stage.alone.startswith(said.out)
        assert "Traceback" not in said.err
        command = await begin("predict", stage.images, "--cluster", "--json", "--config", stage.cluster.config_path(2))
        said = await command.end()
    assert said.out == stage.alone
    assert set(shares(said.err)) >= {"node 1", "node 3"}
