"""Preparing a node's images once."""

from __future__ import annotations

import os
import time
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from pneumod.config import BrokerConfig, DataConfig, LogConfig, NodeConfig
from pneumod.errors import DataError
from pneumod.images import cache
from pneumod.images.batch import load_all
from pneumod.images.cache import Dataset, prepare
from pneumod.images.load import load_grey
from pneumod.messages import ClassCounts, RunSettings


def write_images(folder: Path, normal: int, pneumonia: int) -> None:
    random = np.random.default_rng(normal)
    for name, count in (("NORMAL", normal), ("PNEUMONIA", pneumonia)):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = random.integers(0, 256, (40, 50), np.uint8)
            cv2.imwrite(str(folder / name / f"person{index}_{name}.png"), pixels)


def node(folder: Path, val: Path | None = None) -> NodeConfig:
    return NodeConfig(
        path=folder / "node.yaml", cluster="c", node_id=1, name="n", site="s", roster={}, brokers=(BrokerConfig("h"),),
        state_dir=folder / "state", data=DataConfig(folder / "train", val), threads=2, run=RunSettings(),
        log=LogConfig(),
    )  # fmt: skip


def same(one: Dataset, two: Dataset) -> bool:
    parts = ((one.train, two.train), (one.val, two.val))
    return (one.counts, one.skipped) == (two.counts, two.skipped) and all(
        (a.pixels == b.pixels).all() and (a.labels == b.labels).all() and a.names == b.names for a, b in parts
    )


def test_folders_become_arrays_by_use_and_class(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 6, 4)
    write_images(tmp_path / "val", 3, 2)
    dataset = prepare(node(tmp_path, tmp_path / "val"), 28)
    assert dataset.counts == ClassCounts(6, 4, 3, 2)
    assert dataset.train.pixels.shape == (10, 28, 28)
    assert dataset.train.pixels.dtype == dataset.train.labels.dtype == np.uint8
    assert dataset.val.labels.tolist() == [0, 0, 0, 1, 1]
    for part in (dataset.train, dataset.val):
        for pixels, name, label in zip(part.pixels, part.names, part.labels, strict=True):
            assert (pixels == load_grey(Path(name), 28)).all()
            assert ("PNEUMONIA" in name) == label


def test_without_a_validation_folder_patients_are_split(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 40, 40)
    dataset = prepare(node(tmp_path), 28)
    assert dataset.counts == ClassCounts(34, 34, 6, 6)
    who = [{Path(name).name.split("_")[0] for name in part.names} for part in (dataset.train, dataset.val)]
    assert not who[0] & who[1]


def test_the_second_time_nothing_is_read(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 6, 6)
    (tmp_path / "train" / "NORMAL" / "broken.png").write_bytes(b"x")
    reports: list[tuple[float, float]] = []
    first = prepare(node(tmp_path), 28, lambda *report: reports.append(report))
    assert [round(fraction * 13) for fraction, _ in reports] == list(range(1, 14))
    assert all(rate > 0 for _, rate in reports)
    reports.clear()
    second = prepare(node(tmp_path), 28, lambda *report: reports.append(report))
    assert not reports
    assert same(first, second)


def test_a_change_of_the_folder_or_the_settings_makes_another_cache(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 6, 6)
    config = node(tmp_path)
    prepare(config, 32)
    seen = {prepare_and_name(config, 28)}
    image = tmp_path / "train" / "NORMAL" / "person0_NORMAL.png"
    os.utime(image, (1, 1))
    seen.add(prepare_and_name(config, 28))
    image.unlink()
    seen.add(prepare_and_name(config, 28))
    other = msgspec.structs.replace(config, data=msgspec.structs.replace(config.data, val_fraction=0.3))
    seen.add(prepare_and_name(other, 28))
    assert len(seen) == 4
    assert len(list((tmp_path / "state" / "cache").glob("32-*.npz"))) == 1, "another size stays"


def prepare_and_name(config: NodeConfig, size: int) -> str:
    prepare(config, size)
    (path,) = (config.state_dir / "cache").glob(f"{size}-*")
    return path.name


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 torn", None])
def test_a_damaged_cache_is_made_again(tmp_path: Path, damage: bytes | None) -> None:
    write_images(tmp_path / "train", 6, 6)
    first = prepare(node(tmp_path), 28)
    (path,) = (tmp_path / "state" / "cache").iterdir()
    if damage is None:  # one pixel flipped
        data = bytearray(path.read_bytes())
        data[1000] ^= 1
        damage = bytes(data)
    path.write_bytes(damage)
    assert same(prepare(node(tmp_path), 28), first)


def test_files_that_cannot_be_read_are_set_aside_with_the_reason(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 4, 4)
    odd = tmp_path / "train" / "NORMAL"
    (odd / "empty.jpg").touch()
    (odd / "text.png").write_text("not an image")
    dataset = prepare(node(tmp_path), 28)
    assert dataset.skipped == ((odd / "empty.jpg", "the file is empty"), (odd / "text.png", "not a JPEG or PNG image"))
    assert sum(msgspec.structs.astuple(dataset.counts)) == 8


def test_a_class_without_a_readable_image_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 0, 4)
    (tmp_path / "train" / "NORMAL" / "empty.jpg").touch()
    for _ in range(2):  # from the files, then from the cache
        with pytest.raises(DataError, match="train: no image of NORMAL that can be read"):
            prepare(node(tmp_path), 28)


def test_a_name_that_is_not_utf8_is_an_image_too(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 3, 3)
    image = tmp_path / "train" / "NORMAL" / "person0_NORMAL.png"
    image.rename(os.fsdecode(os.fsencode(image.parent) + b"/\xff.png"))
    assert same(prepare(node(tmp_path), 28), prepare(node(tmp_path), 28))


def test_threads_give_the_same_arrays_as_one(tmp_path: Path) -> None:
    write_images(tmp_path, 20, 20)
    paths = sorted(tmp_path.glob("*/*.png"))
    one, many = load_all(paths, 28, threads=1), load_all(paths, 28, threads=8)
    assert (one.pixels == many.pixels).all()
    assert one.kept.tolist() == many.kept.tolist() == list(range(40))


def test_a_real_hospital_is_prepared_in_seconds_and_read_back_at_once(cxr: Path, tmp_path: Path) -> None:
    hospital = cxr / "hospitals" / "hospital_b"
    config = msgspec.structs.replace(node(tmp_path), data=DataConfig(hospital / "train", hospital / "val"))
    dataset = prepare(config, 96)
    assert dataset.counts == ClassCounts(102, 408, 18, 72)
    assert not dataset.skipped
    started = time.monotonic()
    assert same(prepare(config, 96), dataset)
    assert time.monotonic() - started < 2.0


def test_the_version_is_part_of_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path / "train", 3, 3)
    before = prepare_and_name(node(tmp_path), 28)
    monkeypatch.setattr(cache, "VERSION", cache.VERSION + 1)
    assert prepare_and_name(node(tmp_path), 28) != before
