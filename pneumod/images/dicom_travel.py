"""A DICOM file -> a new one of its picture alone: made of numbers and a few known words, nothing is copied as it is."""

from __future__ import annotations

import io

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, ExplicitVRLittleEndian, RLELossless
from pydicom.valuerep import DSfloat

from pneumod.errors import DataError
from pneumod.images import jpeg
from pneumod.images.codestreams import bare_j2k, bare_jpeg
from pneumod.images.dicom import check, deflated_from, is_monochrome, read, silent, syntax_of
from pneumod.images.levels import lookup_table, number
from pneumod.images.projection import is_raw, modality_of, part_of, view_of

COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
FUNCTIONS = ("LINEAR_EXACT", "SIGMOID")  # of a window; others count as linear
WHOLE = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "PixelRepresentation")
PADDING = ("PixelPaddingValue", "PixelPaddingRangeLimit")
REAL = ("RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth")
TABLES = ("ModalityLUTSequence", "VOILUTSequence")


def for_travel(data: bytes) -> bytes:
    """The same picture, of the same outcome here and elsewhere, in a file without anything that names a patient.

    JPEG and JPEG 2000 data stay as they are, without comments; others become little endian, without the bits that
    aren't part of a value. What says which picture it is becomes one of a few known words. Nothing is decompressed
    here: that is for a decoder's process.

    Raises:
        DataError: it can't be decoded at all, it needs a palette, or it is deflated or RLE.
    """
    return silent(lambda: _for_travel(data))


def _for_travel(data: bytes) -> bytes:
    if deflated_from(data):
        raise DataError("a deflated DICOM file stays at home")
    dataset = read(data)
    check(dataset)
    if syntax_of(dataset) == RLELossless:
        raise DataError("a DICOM file of RLE pixels stays at home")
    kind = str(dataset.PhotometricInterpretation)
    if not is_monochrome(dataset) and kind not in COLOURS:
        raise DataError("a DICOM file with a palette stays at home")
    kept = Dataset()
    kept.preamble, kept.file_meta = bytes(128), FileMetaDataset()
    kept.Modality, kept.BodyPartExamined, kept.ViewPosition = modality_of(dataset), part_of(dataset), view_of(dataset)
    if is_raw(dataset):
        kept.PresentationIntentType = "FOR PROCESSING"
    kept.PhotometricInterpretation = kind
    for name in (*WHOLE, *PADDING):
        if (value := number(dataset, name)) is not None:
            setattr(kept, name, int(value))
    for name in REAL:
        if (value := number(dataset, name)) is not None:
            setattr(kept, name, DSfloat(value, auto_format=True))
    if (function := dataset.get("VOILUTFunction")) in FUNCTIONS:
        kept.VOILUTFunction = function
    for name in TABLES:
        if sequence := dataset.get(name):
            setattr(kept, name, [_table(sequence[0], dataset)])
    kept.HighBit, kept.PlanarConfiguration = kept.BitsStored - 1, 0
    kept.file_meta.TransferSyntaxUID = _put_pixels(kept, dataset)
    out = io.BytesIO()
    pydicom.dcmwrite(out, kept, implicit_vr=False, little_endian=True, force_encoding=True)
    return out.getvalue()


def _put_pixels(kept: Dataset, dataset: Dataset) -> UID:
    """Put the pixel data into `kept`, and return their transfer syntax."""
    syntax = syntax_of(dataset)
    if not syntax.is_encapsulated:
        stored = pixel_array(dataset, index=0)
        kept.PixelData = stored.astype(stored.dtype.newbyteorder("<")).tobytes() + bytes(stored.nbytes % 2)
        kept["PixelData"].VR = "OB" if stored.itemsize == 1 else "OW"
        if stored.ndim == 3:
            kept.PhotometricInterpretation = "RGB"
        return ExplicitVRLittleEndian
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    bare = bare_jpeg(frame) if frame.startswith(jpeg.MAGIC) else bare_j2k(frame)
    kept.PixelData = encapsulate([bare])
    kept["PixelData"].VR, kept["PixelData"].is_undefined_length = "OB", True
    return syntax


def _table(item: Dataset, dataset: Dataset) -> Dataset:
    """A lookup table as numbers, without its explanation."""
    entries, first, bits = lookup_table(item, dataset)
    count = entries.size % 2**16
    made = Dataset()
    if first < 0:
        made.add_new("LUTDescriptor", "SS", [int(np.uint16(count).astype(np.int16)), first, bits])
    else:
        made.add_new("LUTDescriptor", "US", [count, first, bits])
    made.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return made
