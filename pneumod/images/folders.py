"""Folders of images by class: `NORMAL/` and `PNEUMONIA/`, in upper or lower case."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from pneumod.config import CLASSES, IMAGE_SUFFIXES
from pneumod.errors import DataError


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
    """The JPEG and PNG files (by their names) of both class folders, NORMAL first, each sorted by name.

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


def is_image(path: Path) -> bool:
    """Whether a path names a JPEG or PNG file; hidden files, as macOS leaves beside images, are none."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


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
        raise DataError(f"{folder}: not a folder that can be read ({error.strerror})") from error
