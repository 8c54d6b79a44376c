"""DICOM -> grey levels: computed and digital radiography of the chest.

pydicom's texts may hold a patient's values: none of them is let out, as a warning, a log record or an exception.
"""

from __future__ import annotations

import io
import logging
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import config as pydicom_config
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.filereader import read_dataset, read_partial
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import pixel_array
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
)

from pneumod.errors import DataError
from pneumod.imagefile import is_dicom_file
from pneumod.images import jpeg
from pneumod.images.codestreams import j2k_size
from pneumod.images.levels import is_plain, shown
from pneumod.images.picture import MAX_FILE_BYTES, Colours, Grey, Picture, check_size, colour_of, picture
from pneumod.images.projection import why_not_chest
from pneumod.images.read import read_file

logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
warnings.filterwarnings("ignore", module="pydicom")
pydicom_config.settings.reading_validation_mode = pydicom_config.IGNORE

T = TypeVar("T")

DAMAGED = "a damaged or truncated DICOM file"
COLOURS = ("Red", "Green", "Blue")
PATIENT_AGE = Tag(0x0010, 0x1010)
HEAD_BYTES = 1024 * 1024  # of a file, as it is and inflated, in which the age is looked for
# All that is read of a file. Nothing else is looked at: no patient's name is in memory as such.
TAGS = (
    *("Modality", "BodyPartExamined", "AnatomicRegionSequence", "ViewPosition", "ViewCodeSequence"),
    *("PresentationIntentType", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation"),
    *("PlanarConfiguration", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction"),
    *(f"{colour}PaletteColorLookupTableDescriptor" for colour in COLOURS),
    *(f"{kind}{colour}PaletteColorLookupTableData" for colour in COLOURS for kind in ("", "Segmented")),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths", "PixelData"),
)


def decode(data: bytes, least_px: int, force: bool) -> Picture:
    """The single frame of a DICOM file, as a viewer shows it first: modality LUT, VOI LUT or window, polarity.

    Raises:
        DataError: damaged, over the limits, of several frames, without a picture, or (unless `force`) no chest
            projection.
    """
    return silent(lambda: _decode(read(data), least_px, force))


def read(data: bytes) -> Dataset:
    """The elements named in TAGS.

    Raises:
        DataError: a deflated file is over the limit.
        Exception: anything that pydicom raises on a damaged file; its text may hold a patient's values.
    """
    _check_inflated(data)
    dataset = pydicom.dcmread(io.BytesIO(data), specific_tags=list(TAGS))
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        plain = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else plain
    return dataset


def age_years(path: Path) -> float | None:
    """The patient's age as a DICOM file tells it; None where it doesn't. Only for a warning on this machine."""
    if not is_dicom_file(path):
        return None
    try:
        head = read_file(path, HEAD_BYTES)
        return silent(lambda: _age_years(head))
    except DataError:
        return None


def _age_years(head: bytes) -> float | None:
    if start := deflated_from(head):
        inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(head[start:], HEAD_BYTES)
        dataset = read_dataset(io.BytesIO(inflated), False, True, None, _is_behind_age, specific_tags=[PATIENT_AGE])
    else:
        dataset = read_partial(io.BytesIO(head), _is_behind_age, specific_tags=[PATIENT_AGE])
    age = str(dataset.get("PatientAge") or "").strip().upper()
    days = {"D": 1.0, "W": 7.0, "M": 365.25 / 12, "Y": 365.25}.get(age[-1:], 365.25)  # a bare number is of years
    number = age.rstrip("DWMY")
    return int(number) * days / 365.25 if number.isdecimal() else None


def _is_behind_age(tag: BaseTag, *_: object) -> bool:
    return bool(tag > PATIENT_AGE)


def silent(work: Callable[[], T]) -> T:
    """What `work` returns, or a DataError that carries nothing of what pydicom or a decoder said."""
    try:
        return work()
    except DataError:
        raise
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # pydicom has no common exception, nor have its decoders, and a panic of Rust is none
        pass
    raise DataError(DAMAGED)  # outside, so that not even its context holds a value


def _check_inflated(data: bytes) -> None:
    """Refuse a deflated file whose contents are over the limit, before pydicom inflates it whole."""
    if start := deflated_from(data):
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        if len(inflater.decompress(data[start:], MAX_FILE_BYTES + 1)) > MAX_FILE_BYTES:
            raise DataError(f"the inflated file is over {MAX_FILE_BYTES // 2**20} MiB")


def deflated_from(data: bytes) -> int:
    """Where the deflated part of a DICOM file begins; 0: there is none."""
    file = io.BytesIO(data)
    file.seek(132)
    meta = read_dataset(file, False, True, stop_when=lambda tag, *_: tag >> 16 != 2)
    return file.tell() if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian else 0


def _decode(dataset: Dataset, least_px: int, force: bool) -> Picture:
    if not force and (reason := why_not_chest(dataset)):
        raise DataError(f"{reason}; --force takes it all the same")
    check(dataset)
    size = int(dataset.Rows), int(dataset.Columns)
    if is_monochrome(dataset):
        return picture(shown(_stored(dataset, least_px), dataset), size)
    colours = _colours(dataset)
    grey: Grey = cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY)  # type: ignore[assignment]
    return picture(grey, size, colour_of(colours))


def is_monochrome(dataset: Dataset) -> bool:
    return dataset.SamplesPerPixel == 1 and dataset.PhotometricInterpretation in ("MONOCHROME1", "MONOCHROME2")


def check(dataset: Dataset) -> None:
    """Before decoding: refuse what can't or mustn't be decoded.

    Raises:
        DataError: no picture, several frames, over the limit of pixels, or of an unknown kind.
    """
    if not dataset.get("PixelData"):
        raise DataError("a DICOM file without a picture")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise DataError(f"a DICOM file of {frames} frames; give one that holds a single one")
    check_size(int(dataset.Columns), int(dataset.Rows))
    if not 8 <= dataset.BitsAllocated <= 16:
        raise DataError(f"{dataset.BitsAllocated} bits a pixel; 8 to 16 are understood")
    if dataset.SamplesPerPixel not in (1, 3):
        raise DataError(f"{dataset.SamplesPerPixel} samples a pixel; grey levels have 1, colours 3")
    _check_codestream(dataset)


def syntax_of(dataset: Dataset) -> UID:
    return UID(dataset.file_meta.TransferSyntaxUID)


def _check_codestream(dataset: Dataset) -> None:
    """The syntax must be known, and the compressed picture of the size that the DICOM header tells."""
    syntax, decoder = syntax_of(dataset), None
    with suppress(RuntimeError):  # of its kind for what is not implemented
        decoder = get_decoder(syntax)
    if decoder is None:
        name = syntax.name if syntax.name != str(syntax) else "unknown"
        raise DataError(f"the transfer syntax is not supported: {name}")
    if not syntax.is_encapsulated or syntax == RLELossless:  # which can't make more than the header tells
        return
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    if frame.startswith(jpeg.MAGIC):
        header = jpeg.frame_of(frame)
        told = (header.width, header.height, header.components) if header else None
    else:
        told = j2k_size(frame)
    if told != (dataset.Columns, dataset.Rows, dataset.SamplesPerPixel):
        raise DataError(DAMAGED)


def _stored(dataset: Dataset, least_px: int) -> NDArray[np.integer[Any]]:
    """Stored values [h, w] of a monochrome picture; an 8-bit JPEG maybe at a reduced scale."""
    if syntax_of(dataset) != JPEGBaseline8Bit:
        return pixel_array(dataset, index=0)
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    header = jpeg.frame_of(frame)
    if header is None:
        raise DataError(DAMAGED)
    factor = jpeg.reduction(header, least_px) if is_plain(dataset) else 1
    levels = jpeg.read(frame, jpeg.REDUCED_GREY[factor])
    return jpeg.whole(levels, header, factor)


def _colours(dataset: Dataset) -> Colours:
    """RGB [h, w, 3]."""
    values = pixel_array(dataset, index=0)
    bits = int(dataset.BitsStored)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        values = apply_color_lut(values, dataset)
        bits = 8 * values.dtype.itemsize
    colours: Colours = (values >> max(0, bits - 8)).astype(np.uint8)
    return colours
