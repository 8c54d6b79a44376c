"""A node's images, prepared once."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from pneumod.config import BrokerConfig, DataConfig, LogConfig, NodeConfig
from pneumod.errors import DataError
from pneumod.images import index
from pneumod.images.cache import open_cache
from pneumod.images.dataset import Dataset, prepare
from pneumod.images.load import read_picture
from pneumod.images.pool import DIED, Pool
from pneumod.images.prepare import prepare_pixels
from pneumod.messages import ClassCounts, RunSettings
from pneumod.settings import Preparation

SMALL = Preparation(28)


def write_images(folder: Path, normal: int, pneumonia: int) -> None:
    random = np.random.default_rng(normal)
    for name, count in (("NORMAL", normal), ("PNEUMONIA", pneumonia)):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 256, (40, 50), np.uint8)
            cv2.imwrite(str(folder / name / f"person{number}_{name}.png"), pixels)


def node(folder: Path, val: Path | None = None) -> NodeConfig:
    return NodeConfig(
        path=folder / "node.yaml", cluster="c", node_id=1, name="n", site="s", roster={}, brokers=(BrokerConfig("h"),),
        state_dir=folder / "state", data=DataConfig(folder / "train", val), threads=2, run=RunSettings(),
        log=LogConfig(),
    )  # fmt: skip


def same(one: Dataset, two: Dataset) -> bool:
    parts = ((one.train, two.train), (one.val, two.val))
    return (one.counts, one.skipped) == (two.counts, two.skipped) and all(
        (a.pixels[:] == b.pixels[:]).all() and (a.labels == b.labels).all() and a.names == b.names for a, b in parts
    )


def test_folders_become_arrays_by_use_and_class(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 6, 4)
    write_images(tmp_path / "val", 3, 2)
    dataset = prepare(node(tmp_path, tmp_path / "val"), SMALL)
    assert dataset.counts == ClassCounts(6, 4, 3, 2)
    assert dataset.train.pixels.shape == (10, 28, 28)
    assert dataset.train.pixels[:].dtype == dataset.train.labels.dtype == np.uint8
    assert dataset.val.labels.tolist() == [0, 0, 0, 1, 1]
    for part in (dataset.train, dataset.val):
        for pixels, name, label in zip(part.pixels, part.names, part.labels, strict=True):
            assert (pixels == prepare_pixels(read_picture(Path(name)).grey, SMALL)).all()
            assert ("PNEUMONIA" in name) == label


def test_without_a_validation_folder_patients_are_split(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 40, 40)
    dataset = prepare(node(tmp_path), SMALL)
    assert dataset.counts == ClassCounts(34, 34, 6, 6)
    who = [{Path(name).name.split("_")[0] for name in part.names} for part in (dataset.train, dataset.val)]
    assert not who[0] & who[1]


def test_the_second_time_nothing_is_read(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 6, 6)
    (tmp_path / "train" / "NORMAL" / "broken.png").write_bytes(b"x")
    reports: list[tuple[float, float]] = []
    first = prepare(node(tmp_path), SMALL, lambda *report: reports.append(report))
    assert [round(fraction * 13) for fraction, _ in reports] == list(range(1, 14))
    assert all(rate > 0 for _, rate in reports)
    reports.clear()
    second = prepare(node(tmp_path), SMALL, lambda *report: reports.append(report))
    assert not reports
    assert same(first, second)


def reports_of(config: NodeConfig, preparation: Preparation = SMALL) -> int:
    """How many files are prepared."""
    reports: list[tuple[float, float]] = []
    prepare(config, preparation, lambda *report: reports.append(report))
    return len(reports)


def test_only_new_and_changed_files_are_prepared(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 6, 6)
    config = node(tmp_path)
    assert reports_of(config) == 12
    image = tmp_path / "train" / "NORMAL" / "person0_NORMAL.png"
    os.utime(image, (1, 1))
    assert reports_of(config) == 1
    cv2.imwrite(str(image), np.zeros((30, 30), np.uint8))
    assert reports_of(config) == 1
    dataset = prepare(config, SMALL)
    parts = [part for part in (dataset.train, dataset.val) if str(image) in part.names]
    assert not parts[0].pixels[:][parts[0].names.index(str(image))].any(), "its new pixels"
    image.rename(image.with_name("other.png"))
    assert reports_of(config) == 1
    image.with_name("other.png").unlink()
    assert reports_of(config) == 0
    assert sum(msgspec.structs.astuple(prepare(config, SMALL).counts)) == 11


def test_each_preparation_has_its_own_cache(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 3, 3)
    config = node(tmp_path)
    for other in (SMALL, Preparation(32), Preparation(28, clahe=True), Preparation(28, crop_borders=True)):
        assert [reports_of(config, other), reports_of(config, other)] == [6, 0]
    assert reports_of(config) == 0, "the first is still there"


def test_another_split_prepares_nothing(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 10, 10)
    config = node(tmp_path)
    assert prepare(config, SMALL).counts == ClassCounts(9, 9, 1, 1)
    other = msgspec.structs.replace(config, data=msgspec.structs.replace(config.data, val_fraction=0.5))
    assert reports_of(other) == 0
    assert prepare(other, SMALL).counts == ClassCounts(5, 5, 5, 5)


def test_damaged_pixels_are_prepared_anew_and_it_says_so(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 6, 6)
    first = prepare(node(tmp_path), SMALL)
    pixels = first.train.pixels[:]
    (array,) = (tmp_path / "state" / "cache").glob("*.u8")
    with array.open("r+b") as file:
        file.seek(1000)
        (before,) = file.read(1)
        file.seek(1000)
        file.write(bytes([before ^ 1]))
    said: list[str] = []
    second = prepare(node(tmp_path), SMALL, say=said.append)
    assert said == [f"{tmp_path}/state/cache: 1 images of the cache are damaged, and are prepared anew"]
    assert (second.train.pixels[:] == pixels).all()


def test_the_pixels_of_a_dataset_stay_while_files_change(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 1100, 1)
    first = prepare(node(tmp_path), SMALL)
    pixels = first.train.pixels[:]
    for path in (tmp_path / "train" / "NORMAL").iterdir():
        path.unlink() if "person0_" not in path.name else os.utime(path, (1, 1))
    prepare(node(tmp_path), SMALL)  # which copies the array without its holes
    assert (first.train.pixels[:] == pixels).all()


def test_a_process_that_has_the_cache_open_is_waited_for(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 3, 3)
    with ExitStack() as other:
        other.enter_context(open_cache(tmp_path / "state" / "cache", SMALL, print))
        reports: list[float] = []

        def watch(fraction: float, images_per_s: float) -> None:
            reports.append(images_per_s)
            other.close()

        dataset = prepare(node(tmp_path), SMALL, watch)
    assert len(dataset.train.names) + len(dataset.val.names) == 6
    assert reports[0] == 0.0, "a sign of life while it waits"
    assert len(reports) == 1 + 6


def test_files_that_cannot_be_read_are_set_aside_with_the_reason(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 4, 4)
    odd = tmp_path / "train" / "NORMAL"
    (odd / "empty.jpg").touch()
    (odd / "text.png").write_text("not an image")
    dataset = prepare(node(tmp_path), SMALL)
    nothing = "not a JPEG, PNG, TIFF, BMP or DICOM file"
    assert dataset.skipped == ((odd / "empty.jpg", "the file is empty"), (odd / "text.png", nothing))
    assert sum(msgspec.structs.astuple(dataset.counts)) == 8


def test_a_class_without_a_readable_image_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 0, 4)
    (tmp_path / "train" / "NORMAL" / "empty.jpg").touch()
    for _ in range(2):  # from the files, then from the cache
        with pytest.raises(DataError, match="train: no image of NORMAL that can be read"):
            prepare(node(tmp_path), SMALL)


def test_a_name_that_is_not_utf8_is_an_image_too(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 3, 3)
    image = tmp_path / "train" / "NORMAL" / "person0_NORMAL.png"
    image.rename(os.fsdecode(os.fsencode(image.parent) + b"/\xff.png"))
    assert same(prepare(node(tmp_path), SMALL), prepare(node(tmp_path), SMALL))


def test_a_real_hospital_is_prepared_in_seconds_and_read_back_at_once(cxr: Path, tmp_path: Path) -> None:
    hospital = cxr / "hospitals" / "hospital_b"
    config = msgspec.structs.replace(node(tmp_path), data=DataConfig(hospital / "train", hospital / "val"))
    dataset = prepare(config, Preparation(96))
    assert dataset.counts == ClassCounts(102, 408, 18, 72)
    assert not dataset.skipped
    started = time.monotonic()
    assert same(prepare(config, Preparation(96)), dataset)
    assert time.monotonic() - started < 2.0


def test_a_cache_of_another_version_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path / "train", 3, 3)
    prepare(node(tmp_path), SMALL)
    monkeypatch.setattr(index, "VERSION", index.VERSION + 1)
    assert [reports_of(node(tmp_path)), reports_of(node(tmp_path))] == [6, 0]


def test_a_file_that_kills_its_decoder_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path / "train", 4, 4)
    bad = tmp_path / "train" / "NORMAL" / "x_die.png"
    bad.write_bytes(b"x")
    monkeypatch.setattr(Pool, "decoder", "tests.images.wild")
    for _ in range(2):  # told again from the index
        assert prepare(node(tmp_path), SMALL).skipped == ((bad, DIED),)
