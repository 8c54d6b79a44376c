"""The child that does work items, as the daemon starts it: files in, pixels or probabilities out, nothing kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from pneumod import parcel
from pneumod.children.protocol import Done, Errand, Failed, Frame, Progress
from pneumod.core.jobs import Work, Worked
from pneumod.learning.card import load_model
from pneumod.parcel import RELEASE, Answer, Answers, Head, Parcel
from pneumod.settings import Preparation
from pneumod.work import DATA_BYTES
from tests.children.test_light import YAML, Child
from tests.learning.conftest import SIZE, brightness_model

__all__ = ["brightness_model"]

PREPARE = parcel.pack(Head(Preparation(28)))


def png(grey: int, side: int = 64) -> bytes:
    _, data = cv2.imencode(".png", np.full((side, side), grey, np.uint8))
    return data.tobytes()


def errand(head: bytes, *files: bytes, skill: str = "preprocess") -> Errand:
    return Errand(Work(2, "batch-1", skill, 5), head, parcel.pack(Parcel(files)))  # type: ignore[arg-type]


def answers(frames: list[Frame]) -> tuple[Answer | str, ...]:
    done = frames[-1]
    assert isinstance(done, Done), done
    assert isinstance(done.outcome, Worked)
    return parcel.unpack(done.outcome.data, Answers).files


def why(frames: list[Frame]) -> str:
    (failed,) = frames
    assert isinstance(failed, Failed), failed
    assert not failed.ends
    return failed.why


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    (tmp_path / "node.yaml").write_text(YAML)
    child = Child(tmp_path / "node.yaml", ("-m", "pneumod.children.items"))
    yield child
    assert child.end() == 0
    assert [path.name for path in tmp_path.rglob("*")] == ["node.yaml"], "nothing touches the disk"


@pytest.fixture
def model_head(brightness_model: Path) -> Head:
    file = load_model(brightness_model)
    return Head(Preparation(SIZE), card=msgspec.json.encode(file.card), model=file.data)


def test_pictures_become_pixels_and_what_is_none_a_reason_in_their_order(child: Child) -> None:
    frames = child.ask(errand(PREPARE, png(10), b"no picture", b"", png(200, 99)))
    first, text, empty, last = answers(frames)
    assert isinstance(first, Answer)
    assert isinstance(last, Answer)
    assert (first.pixels, last.pixels) == (bytes([10]) * 28**2, bytes([200]) * 28**2)
    assert (last.facts.height, last.facts.width, first.probability) == (99, 99, None)
    assert text == "not a JPEG, PNG, TIFF, BMP or DICOM file"
    assert isinstance(empty, str)
    assert isinstance(frames[0], Progress), "it says that it lives"


def test_pictures_are_classified_by_the_model_of_their_batch(child: Child, model_head: Head) -> None:
    head = parcel.pack(model_head)
    for grey in (128, 144):  # the second item has the model from the first
        dark, text, bright = answers(child.ask(errand(head, png(112), b"none", png(grey), skill="predict")))
        assert isinstance(dark, Answer)
        assert isinstance(bright, Answer)
        assert isinstance(text, str)
        assert dark.probability == pytest.approx(1 / (1 + np.exp(1)), abs=1e-3)
        assert bright.probability == pytest.approx(1 / (1 + np.exp((128 - grey) / 16)), abs=1e-3)
        assert dark.pixels is None, "no picture goes back"


def test_one_batch_after_another(child: Child, model_head: Head) -> None:
    assert isinstance(answers(child.ask(errand(PREPARE, png(1))))[0], Answer)
    (scored,) = answers(child.ask(errand(parcel.pack(model_head), png(1), skill="predict")))
    assert isinstance(scored, Answer)
    assert scored.probability is not None
    other = parcel.pack(Head(Preparation(40)))
    (answer,) = answers(child.ask(errand(other, png(3))))
    assert isinstance(answer, Answer)
    assert answer.pixels == bytes([3]) * 40**2


def test_two_batches_by_turns_keep_their_decoders_and_a_third_ends_those_of_the_first(child: Child) -> None:
    heads = [parcel.pack(Head(Preparation(28 + number))) for number in range(3)]

    def decoders() -> set[str]:
        return set(Path(f"/proc/{child.process.pid}/task/{child.process.pid}/children").read_text().split())

    for head in heads[:2]:
        child.ask(errand(head, png(1)))
    both = decoders()
    assert len(both) == 2
    for _ in range(3):
        for head in heads[:2]:
            child.ask(errand(head, png(1)))
    assert decoders() == both
    child.ask(errand(heads[2], png(1)))
    assert len(decoders()) == 2
    assert len(decoders() & both) == 1


def test_as_many_pixels_as_an_item_may_have_fit_into_what_comes_of_it(child: Child) -> None:
    head = parcel.pack(Head(Preparation(224)))
    *_, done = child.ask(errand(head, *[png(grey) for grey in range(3)]))
    assert isinstance(done, Done)
    assert isinstance(done.outcome, Worked)
    assert 3 * 224**2 < len(done.outcome.data) < DATA_BYTES


def test_what_is_no_parcel_or_no_model_fails_its_item_alone(child: Child, model_head: Head) -> None:
    item = Work(2, "batch-1", "preprocess", 5)
    assert why(child.ask(Errand(item, b"noise", parcel.pack(Parcel((png(1),)))))) == "not msgpack"
    assert why(child.ask(Errand(item, PREPARE, PREPARE))).startswith("bad Parcel")
    assert why(child.ask(errand(PREPARE, png(1), skill="predict"))) == "the batch has no model"
    assert model_head.model is not None
    changed = msgspec.structs.replace(model_head, model=model_head.model[:-1])
    assert "not that of its card" in why(child.ask(errand(parcel.pack(changed), png(1), skill="predict")))
    wrong_size = msgspec.structs.replace(model_head, preparation=Preparation(SIZE * 2))
    assert "another size" in why(child.ask(errand(parcel.pack(wrong_size), png(1), skill="predict")))
    other = parcel.pack(msgspec.structs.replace(model_head, version="0.0.9/1"))
    told = f"it has pneumod {RELEASE}, and the command has 0.0.9/1; install the same on all nodes"
    assert why(child.ask(errand(other, png(1), skill="predict"))) == told
    uncarded = msgspec.structs.replace(model_head, card=b"{}")
    assert why(child.ask(errand(parcel.pack(uncarded), png(1), skill="predict"))) == "the batch's model has no card"
    noise = hashlib.blake2b(b"x").digest() * 100
    card = msgspec.json.decode(model_head.card or b"")
    card["file_digest"] = hashlib.blake2b(noise, digest_size=32).hexdigest()
    hostile = msgspec.structs.replace(model_head, card=msgspec.json.encode(card), model=noise)
    assert "refuses the model" in why(child.ask(errand(parcel.pack(hostile), png(1), skill="predict")))
    (answer,) = answers(child.ask(errand(PREPARE, png(7))))
    assert isinstance(answer, Answer)
    assert answer.pixels == bytes([7]) * 28**2
