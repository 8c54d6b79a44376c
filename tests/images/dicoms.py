"""Chest radiographs as DICOM files in memory, of any depth, polarity and transfer syntax."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    UID,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    generate_uid,
)

PATIENT = "Zyxwv^Quentin"  # in every file of these tests, and in nothing that comes out of it


def chest(cxr: Path, side: int = 256) -> np.ndarray:
    """The grey levels uint8 [side, side] of a real chest radiograph that was kept as DICOM."""
    path = next((cxr / "dicom" / "chest").glob("1.3.6*.dcm"))
    pixels = pydicom.dcmread(path).pixel_array
    return cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)


def dataset(stored: np.ndarray, bits: int, **tags: Any) -> Dataset:
    """A digital radiograph of stored values [h, w]: `bits` of them are used, signed by the array's type."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID = DigitalXRayImageStorageForPresentation, generate_uid()
    made.PatientName, made.PatientID, made.PatientAge = PATIENT, PATIENT, "006Y"
    made.PatientBirthDate, made.InstitutionName, made.PatientComments = "20200229", PATIENT, PATIENT
    made.Modality, made.BodyPartExamined, made.ViewPosition = "DX", "CHEST", "PA"
    made.Rows, made.Columns = stored.shape[:2]
    made.SamplesPerPixel = 1 if stored.ndim == 2 else 3
    made.PhotometricInterpretation = "MONOCHROME2" if stored.ndim == 2 else "RGB"
    made.BitsAllocated, made.BitsStored, made.HighBit = 8 * stored.dtype.itemsize, bits, bits - 1
    made.PixelRepresentation = int(stored.dtype.kind == "i")
    if stored.ndim == 3:
        made.PlanarConfiguration = 0
    raw = stored.tobytes()
    made.PixelData = raw + b"\0" * (len(raw) % 2)
    made["PixelData"].VR = "OB" if stored.dtype.itemsize == 1 else "OW"
    for name, value in tags.items():
        if value is None:
            del made[name]
        else:
            setattr(made, name, value)
    return made


def written(made: Dataset, syntax: UID = ExplicitVRLittleEndian) -> bytes:
    """The bytes of a file whose pixel data are in that (native) syntax."""
    if not syntax.is_little_endian and made.BitsAllocated == 16:
        made.PixelData = np.frombuffer(made.PixelData, "<u2").astype(">u2").tobytes()
    made.file_meta.TransferSyntaxUID = syntax
    out = io.BytesIO()
    made.preamble = bytes(128)
    pydicom.dcmwrite(out, made, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian)
    return out.getvalue()


def compressed(made: Dataset, syntax: UID) -> bytes:
    """The same picture, compressed in that syntax."""
    stored = made.pixel_array
    if syntax == JPEGBaseline8Bit:
        return encapsulated(made, syntax, cv2.imencode(".jpg", stored, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())
    if syntax in (JPEGLossless, JPEGLosslessSV1):
        predictor = 1 if syntax == JPEGLosslessSV1 else 4
        return encapsulated(made, syntax, lossless_jpeg(stored, made.BitsStored, predictor))
    options = {"j2k_cr": [8]} if syntax == JPEG2000 else {}
    made.compress(syntax, generate_instance_uid=False, **options)
    return written(made, syntax)


def encapsulated(made: Dataset, syntax: UID, frame: bytes) -> bytes:
    """A file whose only frame is compressed already."""
    made.PixelData = encapsulate([frame])
    made["PixelData"].VR = "OB"
    made["PixelData"].is_undefined_length = True
    return written(made, syntax)


def lossless_jpeg(stored: np.ndarray, bits: int, predictor: int) -> bytes:
    """A lossless JPEG (ITU-T T.81, annex H) of stored values [h, w]; signed ones by their bits, as DICOM has them.

    Every category of differences has a code of 5 bits: simple, and legal.
    """
    samples = stored.astype(np.int64) & (2**bits - 1)
    left = np.roll(samples, 1, 1)
    above = np.roll(samples, 1, 0)
    predicted = left if predictor == 1 else left + above - np.roll(above, 1, 1)
    predicted[0], predicted[:, 0], predicted[0, 0] = left[0], above[:, 0], 2 ** (bits - 1)
    differences = (samples - predicted + 2**15) % 2**16 - 2**15
    text = []
    for difference in differences.ravel().tolist():
        size = abs(difference).bit_length() if difference != -(2**15) else 16
        extra = difference if difference > 0 else difference + 2**size - 1
        text.append(f"{size:05b}" + (f"{extra:0{size}b}" if 0 < size < 16 else ""))
    joined = "".join(text)
    joined += "1" * (-len(joined) % 8)
    scan = int(joined, 2).to_bytes(len(joined) // 8, "big").replace(b"\xff", b"\xff\x00")
    height, width = stored.shape
    frame = bytes([bits]) + height.to_bytes(2, "big") + width.to_bytes(2, "big") + bytes([1, 1, 0x11, 0])
    table = bytes([0, 0, 0, 0, 0, 17]) + bytes(11) + bytes(range(17))
    segments = ((0xC3, frame), (0xC4, table), (0xDA, bytes([1, 1, 0, predictor, 0, 0])))
    head = b"".join(bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body for marker, body in segments)
    return b"\xff\xd8" + head + scan + b"\xff\xd9"
