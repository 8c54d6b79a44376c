"""Finding images by class."""

from __future__ import annotations

from pathlib import Path

import pytest

from pneumod.errors import DataError
from pneumod.images.folders import LabelledFile, image_files, labelled_files, layout


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_files_come_by_class_and_name(tmp_path: Path) -> None:
    normal, pneumonia = tmp_path / "NORMAL", tmp_path / "PNEUMONIA"
    touch(normal / "b.jpg", normal / "a.PNG", pneumonia / "c.jpeg")
    touch(normal / "notes.txt", normal / "._a.png", pneumonia / "deeper.png" / "d.png")
    assert labelled_files(tmp_path) == [
        LabelledFile(normal / "a.PNG", 0),
        LabelledFile(normal / "b.jpg", 0),
        LabelledFile(pneumonia / "c.jpeg", 1),
    ]


def test_the_case_of_class_folders_does_not_matter(tmp_path: Path) -> None:
    touch(tmp_path / "Normal" / "a.png", tmp_path / "pneumonia" / "b.png")
    assert [(file.path.name, file.label) for file in labelled_files(tmp_path)] == [("a.png", 0), ("b.png", 1)]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: not a folder that can be read \(No such file"):
        labelled_files(tmp_path / "nowhere")
    touch(tmp_path / "NORMAL" / "a.png")
    with pytest.raises(DataError, match=f"{tmp_path}: no folder PNEUMONIA in it"):
        labelled_files(tmp_path)
    (tmp_path / "PNEUMONIA").mkdir()
    with pytest.raises(DataError, match=r"PNEUMONIA: no image \(.jpg, .jpeg, .png, .tif, .*\) in it"):
        labelled_files(tmp_path)


def test_three_layouts_are_known(tmp_path: Path) -> None:
    both, alone, bare = (tmp_path / name for name in ("both", "alone", "bare"))
    for folder in (both / "train", both / "val", alone / "train", bare):
        touch(folder / "NORMAL" / "a.png", folder / "PNEUMONIA" / "b.png")
    assert layout(both) == (both / "train", both / "val")
    assert layout(alone) == (alone / "train", None)
    assert layout(bare) == (bare, None)
    with pytest.raises(DataError, match="no train/ folder, and no NORMAL and PNEUMONIA folders"):
        layout(tmp_path)


def test_the_images_of_a_folder_come_depth_first_and_by_name(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/1.DCM", "a.jpg", "c.tiff", "b/.hidden.png", ".git/x.png", "notes.txt", "d.png/x.bmp"):
        touch(tmp_path / name)
    (tmp_path / "IM0001").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "z").symlink_to(tmp_path / "b")
    (tmp_path / "y.png").symlink_to(tmp_path / "a.jpg")
    names = [str(path.relative_to(tmp_path)) for path in image_files(tmp_path)]
    assert names == ["IM0001", "a.jpg", "b/1.DCM", "b/2.png", "c.tiff", "d.png/x.bmp", "y.png"]
    with pytest.raises(DataError, match="nowhere: not a folder that can be read"):
        list(image_files(tmp_path / "nowhere"))


def test_a_folder_that_goes_away_ends_no_walk(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "1.png", tmp_path / "b" / "2.png", tmp_path / "c" / "3.png")
    walk = image_files(tmp_path)
    assert next(walk) == tmp_path / "a" / "1.png"
    (tmp_path / "b" / "2.png").unlink()
    (tmp_path / "b").rmdir()
    assert list(walk) == [tmp_path / "b", tmp_path / "c" / "3.png"]
