"""One file -> grey levels as a person sees them: JPEG, PNG, TIFF, BMP, DICOM."""

from __future__ import annotations

from pathlib import Path

from pneumod.errors import DataError
from pneumod.images import jpeg
from pneumod.images.picture import Picture
from pneumod.images.read import read_file

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
MAGIC = {PNG_MAGIC: "PNG", b"II*\x00": "TIFF", b"MM\x00*": "TIFF", b"II+\x00": "TIFF", b"BM": "BMP"}


def read_picture(path: Path, least_px: int = 0, force: bool = False) -> Picture:
    """The picture in a file: JPEG, PNG, TIFF, BMP or DICOM, whatever its name.

    Args:
        least_px: 0, or the side of the square that the picture will be squashed to: it may be decoded at a
            reduced scale that shows no difference then.
        force: also take a DICOM file that is no chest projection.

    Raises:
        DataError: the reason why the file can't be used, without its path.
    """
    return decode_picture(read_file(path), least_px, force)


def decode_picture(data: bytes, least_px: int = 0, force: bool = False) -> Picture:
    """`read_picture` of a file's bytes."""
    if data.startswith(jpeg.MAGIC):
        return jpeg.decode(data, least_px)
    if is_dicom(data):  # before TIFF: a DICOM file may be both
        from pneumod.images import dicom

        return dicom.decode(data, least_px, force)
    name = next((name for magic, name in MAGIC.items() if data.startswith(magic)), None)
    if name is None:
        raise DataError("not a JPEG, PNG, TIFF, BMP or DICOM file")
    from pneumod.images import raster

    return raster.decode(data, name)


def is_dicom(data: bytes) -> bool:
    """Whether a file's first 132 bytes are those of a DICOM file (PS3.10, 7.1)."""
    return data[128:132] == b"DICM"
