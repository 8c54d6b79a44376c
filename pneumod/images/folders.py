"""Folders of images, and those by class: `NORMAL/` and `PNEUMONIA/`, in upper or lower case."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pneumod.config import CLASSES
from pneumod.errors import DataError
from pneumod.imagefile import IMAGE_SUFFIXES, is_image


class LabelledFile(NamedTuple):
    path: Path
    label: int  # index in CLASSES: 1 is PNEUMONIA


def layout(root: Path) -> tuple[Path, Path | None]:
    """The training and the validation folder of one node's data.

    `root` may have train/ and val/, train/ alone, or the two class folders themselves.

    Raises:
        DataError: it has none of these.
    """
    train, val = _subfolder(root, "train"), _subfolder(root, "val")
    if train is not None:
        return train, val
    if all(_subfolder(root, name) for name in CLASSES):
        return root, None
    raise DataError(f"{root}: no train/ folder, and no {' and '.join(CLASSES)} folders")


def labelled_files(folder: Path) -> list[LabelledFile]:
    """The images of both class folders, NORMAL first, each sorted by name.

    Raises:
        DataError: the folder or a class folder is missing, or a class has no image.
    """
    files = []
    for label, name in enumerate(CLASSES):
        inside = _subfolder(folder, name)
        if inside is None:
            raise DataError(f"{folder}: no folder {name} in it; images are expected in {' and '.join(CLASSES)}")
        found = [path for path in _listed(inside) if is_image(path)]
        if not found:
            raise DataError(f"{inside}: no image ({', '.join(IMAGE_SUFFIXES)}) in it; both classes are needed")
        files += [LabelledFile(path, label) for path in found]
    return files


def image_files(folder: Path) -> Iterator[Path]:
    """The images in a folder and in those below it, each folder's entries sorted by name.

    Hidden ones are left out, and no link to a folder is followed. A folder below it that can't be listed comes itself,
    so that whoever reads it learns why.

    Raises:
        DataError: `folder` can't be listed.
    """
    try:
        yield from _walked(folder)
    except OSError as error:
        raise _unreadable(folder, error) from error


def _walked(folder: Path) -> Iterator[Path]:
    names, folders = [], set()
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                names.append(entry.name)
                if entry.is_dir(follow_symlinks=False):
                    folders.add(entry.name)
    for name in sorted(names):
        path = folder / name
        if name in folders:
            try:
                yield from _walked(path)
            except OSError:
                yield path
        elif is_image(path):
            yield path


def _subfolder(folder: Path, name: str) -> Path | None:
    """The subfolder of that name, or else the first one that differs from it in case alone."""
    inside = [path for path in _listed(folder) if path.name.lower() == name.lower() and path.is_dir()]
    exact = folder / name
    return exact if exact in inside else (inside[0] if inside else None)


def _listed(folder: Path) -> list[Path]:
    """What is in a folder, sorted by name.

    Raises:
        DataError: it isn't a folder that can be listed.
    """
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise _unreadable(folder, error) from error


def _unreadable(folder: Path, error: OSError) -> DataError:
    return DataError(f"{folder}: not a folder that can be read ({error.strerror})")
