"""Which files of a folder are images, without opening more than the first bytes of a few."""

from __future__ import annotations

from pathlib import Path

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".dcm", ".dicom")


def is_image(path: Path) -> bool:
    """Whether a file is an image by its name, or by its first bytes a DICOM file: scanners give no suffix.

    Hidden files, as macOS leaves beside images, are none, nor is the index of a DICOM disc.
    """
    if path.name.startswith(".") or path.name == "DICOMDIR" or not path.is_file():
        return False
    return path.suffix.lower() in IMAGE_SUFFIXES or is_dicom_file(path)


def is_dicom_file(path: Path) -> bool:
    """Whether a file has the mark of DICOM (PS3.10, 7.1) behind its preamble; False where it can't be read."""
    try:
        if not path.is_file():  # a pipe might never end
            return False
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False
