"""Three real daemons on a real Mosquitto: the master is killed between two updates of a round."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from pneumod.demo import phantom
from pneumod.demo.cluster import DemoCluster
from pneumod.demo.federation import Federation, federate
from pneumod.demo.sites import Site
from pneumod.messages import RunSettings
from pneumod.shell.store import Store
from tests.integration.mosquitto import MOSQUITTO, Mosquitto

NODES = 3
SETTINGS = RunSettings(rounds=3, local_epochs=2, image_size=48, min_nodes=NODES, patience=10)

pytestmark = [
    pytest.mark.skipif(MOSQUITTO is None, reason="Mosquitto is not installed (apt-get install mosquitto)"),
    pytest.mark.timeout(300),
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Federation]:
    """The folder of a federation that lost its master on the way, and what it came to."""
    folder = tmp_path_factory.mktemp("federation")
    made = phantom.write_dataset(folder / "images", NODES, 0, train_images=40, val_images=20, test_images=0)
    sites = [Site(number, f"site-{number}", one / "train", one / "val") for number, one in enumerate(made, 1)]
    with DemoCluster(folder, sites, SETTINGS, Mosquitto(folder)) as cluster:
        federation = federate(cluster, kill_master=True, console=Console(quiet=True))
    return folder, federation


def test_the_round_is_completed_by_the_next_master(finished: tuple[Path, Federation]) -> None:
    _, federation = finished
    assert federation.killed is not None
    events = [(closed, t) for closed in federation.rounds if closed.summary for t in closed.summary.takeovers]
    assert events, "no round went through two masters"
    closed, takeover = events[0]
    assert takeover.old_term.node == federation.killed
    assert takeover.new_term > takeover.old_term
    assert takeover.new_term.node == min({1, 2, 3} - {federation.killed})
    assert takeover.updates_kept >= 1
    assert closed.summary is not None
    assert closed.summary.counted == NODES


def test_every_round_is_trained_once_by_every_node(finished: tuple[Path, Federation]) -> None:
    folder, _ = finished
    trained: Counter[tuple[int, int]] = Counter()
    for node in range(1, NODES + 1):
        text = (folder / f"state{node}" / "log" / "train" / "train.log").read_text()
        trained.update((node, int(number)) for number in re.findall(r"round (\d+) trained on", text))
    wanted = {(node, number) for node in range(1, NODES + 1) for number in range(1, SETTINGS.rounds + 1)}
    assert trained == dict.fromkeys(wanted, 1)


def test_all_nodes_end_with_the_same_model(finished: tuple[Path, Federation]) -> None:
    folder, federation = finished
    for node in range(1, NODES + 1):
        store = Store(folder / f"state{node}")
        _, durable, held = store.load()
        store.close()
        assert durable.closed is not None
        assert durable.closed.ended == f"all {SETTINGS.rounds} rounds done"
        assert durable.closed.model == federation.last.model
        assert durable.closed.model.digest in held
        assert store.blobs.read(durable.closed.model.digest) is not None, "its bytes have its digest"


def test_every_node_keeps_the_receipts(finished: tuple[Path, Federation]) -> None:
    folder, federation = finished
    receipts = [sorted((folder / f"state{n}" / "receipts" / federation.run).iterdir()) for n in range(1, NODES + 1)]
    names = [f"{number:05}.msgpack" for number in range(1, SETTINGS.rounds + 2)]
    for files in receipts:
        assert [file.name for file in files] == names
        assert [file.read_bytes() for file in files] == [file.read_bytes() for file in receipts[0]]


def test_predict_answers_with_that_model(finished: tuple[Path, Federation]) -> None:
    folder, federation = finished
    image = next((folder / "images" / "node0" / "val" / "PNEUMONIA").iterdir())
    command = [sys.executable, "-m", "pneumod", "predict", str(image), "--json", "--config", str(folder / "node2.yaml")]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert 0.0 <= answer["probability"] <= 1.0
    assert answer["label"] in ("NORMAL", "PNEUMONIA")
    card = json.loads((folder / "state2" / "models" / "current.json").read_text())
    assert federation.last.best is not None
    assert card["digest"] == federation.last.best.model.digest
    assert answer["threshold"] == card["threshold"]
