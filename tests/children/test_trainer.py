"""The trainer as a real process: Initialise, Train and Export through the protocol of the children."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pneumod.blobs import BlobFolder
from pneumod.children import protocol
from pneumod.children.protocol import HEADER, Done, Failed, Frame, Progress
from pneumod.core.jobs import Export, Exported, Initialise, Initialised, Job, Train, Trained
from pneumod.demo.phantom import write_dataset
from pneumod.learning.codec import read_update
from pneumod.learning.predict import Predictor, find_model
from pneumod.learning.weights import read_model
from pneumod.messages import Best, BlobRef, ClassCounts, RoundOpen, RunSettings, RunSpec, Term

SETTINGS = RunSettings(image_size=28, batch_size=8, rounds=2, seed=3)
SPEC = RunSpec(1, "run-1", "test", 0, SETTINGS)

CONFIG = """
cluster: test
node: {id: 2, name: two, site: lab}
brokers: [{host: localhost}]
state_dir: state
data: {train: node0/train, val: node0/val}
threads: 1
"""


class Child:
    """A started trainer; `ask` gives its outcome and what it told on the way."""

    def __init__(self, config: Path) -> None:
        command = [sys.executable, "-m", "pneumod.children.trainer", "--config", str(config)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, job: Job) -> tuple[Frame, list[Frame]]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(protocol.pack_frame(job))
        self.process.stdin.flush()
        told: list[Frame] = []
        while True:
            (size,) = HEADER.unpack(self.process.stdout.read(HEADER.size))
            frame = protocol.unpack_frame(self.process.stdout.read(size))
            if isinstance(frame, Done | Failed):
                return frame, told
            told.append(frame)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trainer")
    write_dataset(path, nodes=1, seed=1, train_images=20, val_images=10, test_images=0)
    (path / "node.yaml").write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def child(folder: Path) -> Iterator[Child]:
    started = Child(folder / "node.yaml")
    yield started
    assert started.process.stdin is not None
    started.process.stdin.close()  # the end of its input ends a child
    assert started.process.wait(timeout=20) == 0


@pytest.fixture(scope="module")
def start(child: Child) -> Initialised:
    done, _ = child.ask(Initialise(SPEC))
    assert isinstance(done, Done)
    assert isinstance(done.outcome, Initialised)
    return done.outcome


def opened(start: Initialised, train: bool = True) -> RoundOpen:
    return RoundOpen(
        "run-1", 1, 1, start.model, train, (2,), 60_000, (1.0, 1.0), start.exponents, SETTINGS, (Term(1, -2, 1),)
    )


def test_the_first_model_depends_on_the_settings_alone(child: Child, start: Initialised, folder: Path) -> None:
    again, _ = child.ask(Initialise(SPEC))
    assert again == Done(start)
    model = read_model(BlobFolder(folder / "state" / "blobs").read(start.model.digest) or b"")
    assert (model.image_size, model.run, model.round) == (28, "run-1", 0)
    assert len(start.exponents) == len(model.arrays)


def test_a_round_scores_the_base_then_trains_it(child: Child, start: Initialised, folder: Path) -> None:
    done, told = child.ask(Train(opened(start)))
    assert isinstance(done, Done)
    trained = done.outcome
    assert isinstance(trained, Trained)
    assert trained.samples == 20
    assert sum(count for _, count in (*trained.scores.normal, *trained.scores.pneumonia)) == 10
    assert {frame.activity for frame in told if isinstance(frame, Progress)} >= {"scoring", "training"}
    blobs = BlobFolder(folder / "state" / "blobs")
    base = read_model(blobs.read(start.model.digest) or b"")
    assert trained.update is not None
    update = read_update(blobs.read(trained.update.digest) or b"", base, opened(start))
    assert update.samples == 20
    assert all(np.any(delta != 0) for delta in update.deltas)
    again, _ = child.ask(Train(opened(start)))
    assert isinstance(again, Done)
    assert isinstance(again.outcome, Trained)
    assert again.outcome.update == trained.update  # the same work gives the same bytes


def test_a_round_that_only_scores_gives_no_update(child: Child, start: Initialised) -> None:
    done, _ = child.ask(Train(opened(start, train=False)))
    assert isinstance(done, Done)
    assert isinstance(done.outcome, Trained)
    assert done.outcome.update is None
    assert done.outcome.scores.loss is not None


def test_the_best_model_is_exported_for_prediction(child: Child, start: Initialised, folder: Path) -> None:
    best = Best(0, 0.75, 0.4, start.model)
    done, _ = child.ask(Export(SPEC, best, nodes=1, images=10, train_images=ClassCounts(10, 10, 5, 5)))
    assert isinstance(done, Done)
    assert isinstance(done.outcome, Exported)
    assert Path(done.outcome.path) == folder / "state" / "models" / "run-1-r0.tflite"
    model = find_model(None, folder / "state")
    assert (model.card.digest, model.card.threshold, model.card.metrics.auc) == (start.model.digest, 0.4, 0.75)
    assert set(model.card.versions) == {"pneumod", "python", "tensorflow", "keras"}
    probability = Predictor(model).probability(np.zeros((3, 28, 28), np.uint8))
    assert probability.shape == (3,)


def test_only_the_newest_exports_are_kept(child: Child, start: Initialised, folder: Path) -> None:
    for number in range(1, 8):
        child.ask(Export(SPEC, Best(number, 0.75, 0.4, start.model), nodes=1, images=10, train_images=None))
    kept = {path.name for path in (folder / "state" / "models").glob("*.tflite")}
    assert kept == {f"run-1-r{number}.tflite" for number in range(3, 8)}
    assert find_model(None, folder / "state").card.round == 7


def test_a_missing_model_fails_the_job_and_not_the_child(child: Child, start: Initialised) -> None:
    missing = Initialised(BlobRef("0" * 64, 1), start.checkpoint, start.exponents)
    failed, _ = child.ask(Train(opened(missing)))
    assert isinstance(failed, Failed)
    assert "is not here" in failed.why
    assert child.process.poll() is None
