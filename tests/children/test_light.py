"""The light child as the daemon starts it: a process that answers jobs over its pipes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from pneumod.blobs import BlobFolder
from pneumod.children.protocol import HEADER, Done, Errand, Failed, Frame, Note, Progress, pack_frame, unpack_frame
from pneumod.core.jobs import Check, Checked, Close, Closed, Contribution, Initialise, Job, Prepare, Prepared
from pneumod.learning.aggregate import exponents_of
from pneumod.learning.checkpoint import checkpoint_document
from pneumod.learning.codec import update_document
from pneumod.learning.weights import Model, model_document, read_model
from pneumod.messages import ClassCounts, Metrics, RoundClosed, RoundOpen, RunSettings, RunSpec, Term
from pneumod.wire import encode_document

YAML = """
cluster: test
node: {id: 1, name: one, site: here}
brokers: [{host: localhost}]
state_dir: state
data: {train: train, val: val}
"""


class Child:
    """A running child and its side of the protocol."""

    def __init__(self, config: Path, start: tuple[str, ...] = ("-m", "pneumod.children.light")) -> None:
        command = [sys.executable, *start, "--config", str(config)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, job: Job | Errand) -> list[Frame]:
        """Every frame of the answer, the last of them Done or Failed."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(pack_frame(job))
        self.process.stdin.flush()
        frames: list[Frame] = []
        while not frames or isinstance(frames[-1], Progress | Note):
            (size,) = HEADER.unpack(self.process.stdout.read(HEADER.size))
            frames.append(unpack_frame(self.process.stdout.read(size)))
        return frames

    def end(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(10)


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """The folder of a node with images, two of which can't be read."""
    (tmp_path / "node.yaml").write_text(YAML)
    random = np.random.default_rng(0)
    for use, name, count in (
        ("train", "NORMAL", 5), ("train", "PNEUMONIA", 4), ("val", "NORMAL", 3), ("val", "PNEUMONIA", 2),
    ):  # fmt: skip
        folder = tmp_path / use / name
        folder.mkdir(parents=True)
        for index in range(count):
            cv2.imwrite(str(folder / f"{index}.jpg"), random.integers(0, 256, (40, 40), np.uint8))
    (tmp_path / "train" / "NORMAL" / "empty.jpg").touch()
    (tmp_path / "val" / "NORMAL" / "text.png").write_text("text")
    return tmp_path


@pytest.fixture
def child(node: Path) -> Iterator[Child]:
    child = Child(node / "node.yaml")
    yield child
    assert child.end() == 0


def test_prepare_counts_the_images_and_names_what_was_set_aside(child: Child, node: Path) -> None:
    nothing = "not a JPEG, PNG, TIFF, BMP or DICOM file"
    for first in (True, False):  # from the files, then from the cache
        *told, done = child.ask(Prepare(28))
        assert done == Done(Prepared(ClassCounts(5, 4, 3, 2), 2))
        assert [frame for frame in told if isinstance(frame, Note)] == [
            Note("preprocess", "warning", f"{node / 'train' / 'NORMAL' / 'empty.jpg'}: set aside: the file is empty"),
            Note("preprocess", "warning", f"{node / 'val' / 'NORMAL' / 'text.png'}: set aside: {nothing}"),
        ]
        progress = [frame.fraction for frame in told if isinstance(frame, Progress)]
        assert progress == sorted(progress)
        assert bool(progress) == first


def test_prepare_survives_a_file_that_kills_its_decoder(node: Path) -> None:
    (node / "train" / "NORMAL" / "x_die.png").write_bytes(b"a decoder reads this, and dies")
    wild = "from pneumod.images.pool import Pool; Pool.decoder = 'tests.images.wild'\n"
    child = Child(node / "node.yaml", ("-c", f"{wild}from pneumod.children.light import main; main()"))
    *told, done = child.ask(Prepare(28))
    assert done == Done(Prepared(ClassCounts(5, 4, 3, 2), 3))
    died = f"{node / 'train' / 'NORMAL' / 'x_die.png'}: set aside: the decoder died on it"
    assert Note("preprocess", "warning", died) in told
    assert child.end() == 0


def test_a_missing_folder_is_a_failure_with_its_reason_and_the_child_lives(child: Child, node: Path) -> None:
    (node / "val").rename(node / "elsewhere")
    (failed,) = child.ask(Prepare(28))
    assert isinstance(failed, Failed)
    assert str(node / "val") in failed.why
    (node / "elsewhere").rename(node / "val")
    assert isinstance(child.ask(Prepare(28))[-1], Done)


def test_a_job_of_the_trainer_is_refused(child: Child) -> None:
    note, failed = child.ask(Initialise(RunSpec(1, "run-a", "tester", 0, RunSettings())))
    assert isinstance(note, Note), "the traceback goes to the log"
    assert "not a job of the light child" in note.text
    assert failed == Failed("a fault of the child (AssertionError)", ends=True)


def test_updates_are_checked_and_a_round_is_closed(child: Child, node: Path) -> None:
    blobs = BlobFolder(node / "state" / "blobs")
    base = Model(28, "run-a", 0, ("kernel",), (np.ones((3, 2), np.float32),))

    model = blobs.write(encode_document(model_document(base.arrays, base.names, 28, "run-a", 0)))
    checkpoint = blobs.write(encode_document(checkpoint_document("run-a", 1, 0, model, None, [])))
    term, exponents = Term(1, -1, 1), exponents_of(base.arrays)
    before = RoundClosed("run-a", 1, 0, term, model, checkpoint, exponents)
    opened = RoundOpen(
        run="run-a", number=1, round=1, base=model, train=True, who=(1, 2), deadline_ms=1000,
        class_weights=(1.0, 1.0), exponents=exponents, settings=RunSettings(image_size=28), terms=(term,),
    )  # fmt: skip
    updates = [
        blobs.write(encode_document(update_document([np.full((3, 2), step, np.float32)], base, opened, 10)))
        for step in (1.0, 2.0, 100.0)
    ]
    assert child.ask(Check(1, updates[0], 10, opened)) == [Done(Checked())]
    assert child.ask(Check(2, updates[1], 10, opened)) == [Done(Checked())]
    assert child.ask(Check(3, updates[2], 10, opened)) == [Failed("a change of a weight is beyond ±64 or not finite")]
    contributions = (Contribution(1, updates[0], 10), Contribution(2, updates[1], 10))
    *told, done = child.ask(Close(opened, before, contributions, (), Metrics(None, None, 0), None, ()))
    assert told == [Progress("aggregating", 0.5), Progress("aggregating", 1.0)]
    assert isinstance(done, Done)
    assert isinstance(done.outcome, Closed)
    data = blobs.read(done.outcome.model.digest)
    assert data is not None
    assert read_model(data).arrays[0].tolist() == [[2.5, 2.5]] * 3
    assert {done.outcome.checkpoint.digest, done.outcome.receipt.digest} <= blobs.digests()
