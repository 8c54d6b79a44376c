"""Stored values of a monochrome DICOM picture -> grey levels on a screen (PS3.3, C.11.1 and C.11.2; PS3.4, N.2).

Everything is worked out for each possible stored value once, and then looked up for each pixel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from pneumod.errors import DataError
from pneumod.images.picture import Grey

Values = NDArray[np.float64]


def is_plain(dataset: Dataset) -> bool:
    """Whether the grey levels are the stored values, or their inverse."""
    return not any(dataset.get(name) for name in ("ModalityLUTSequence", "VOILUTSequence", "WindowWidth"))


def shown(stored: NDArray[np.integer[Any]], dataset: Dataset) -> Grey:
    """Grey levels uint8 [h, w] of stored values [h, w] of 8 to 16 bits: modality LUT, VOI LUT or window, polarity.

    Without a window, 8-bit values are shown in their full range, and deeper ones from the least to the greatest
    that occurs, as viewers do.
    """
    stored = np.ascontiguousarray(stored, stored.dtype.newbyteorder("="))
    places = stored.view(f"u{stored.itemsize}")  # in the table: the value's bits as an unsigned number
    values = np.arange(2 ** (8 * stored.itemsize)).astype(places.dtype).view(stored.dtype).astype(np.float64)
    with np.errstate(all="ignore"):  # numbers that make no sense give a picture that makes none
        levels = _voi(_modality(values, dataset), dataset)
        if levels is None:
            ends = _modality(_range(stored, dataset), dataset)
            least, most = float(ends.min()), float(ends.max())
            levels = (_modality(values, dataset) - least) / max(most - least, 1e-9)
        table = (np.clip(np.nan_to_num(levels), 0, 1) * 255 + 0.5).astype(np.uint8)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        table = 255 - table
    return np.take(table, places)


def _range(stored: NDArray[np.integer[Any]], dataset: Dataset) -> Values:
    """The two stored values that become black and white where the file names no window."""
    bits = int(dataset.BitsStored)
    if bits <= 8:
        first = -(2 ** (bits - 1)) if dataset.get("PixelRepresentation") == 1 else 0
        return np.array([first, first + 2**bits - 1], np.float64)
    padding, limit = number(dataset, "PixelPaddingValue"), number(dataset, "PixelPaddingRangeLimit")
    if padding is not None:
        least, most = sorted((padding, padding if limit is None else limit))
        seen = stored[(stored < least) | (stored > most)]
        stored = seen if seen.size else stored
    return np.array([stored.min(), stored.max()], np.float64)


def _modality(values: Values, dataset: Dataset) -> Values:
    """What the detector or the reader meant by the stored values."""
    if sequence := dataset.get("ModalityLUTSequence"):
        return _looked_up(values, sequence[0], dataset)[0]
    return values * (number(dataset, "RescaleSlope") or 1) + (number(dataset, "RescaleIntercept") or 0)


def _voi(values: Values, dataset: Dataset) -> Values | None:
    """Levels in [0, 1] by the first VOI LUT, or else by the first window; None: the file has neither."""
    if sequence := dataset.get("VOILUTSequence"):
        looked_up, most = _looked_up(values, sequence[0], dataset)
        return looked_up / most
    centre, width = number(dataset, "WindowCenter"), number(dataset, "WindowWidth")
    if centre is None or width is None or width <= 0:
        return None
    function = str(dataset.get("VOILUTFunction") or "LINEAR")
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700)))
    if function == "LINEAR_EXACT":
        return (values - centre) / width + 0.5
    if width == 1:
        return np.asarray(values > centre - 0.5, np.float64)
    return (values - (centre - 0.5)) / (width - 1) + 0.5


def number(dataset: Dataset, name: str) -> float | None:
    """An element's number, the first of several; None where there is none."""
    value: Any = dataset.get(name)
    if hasattr(value, "__iter__") and not isinstance(value, str):
        value = next(iter(value), None)
    return None if value is None or value == "" else float(value)


def lookup_table(item: Dataset, dataset: Dataset) -> tuple[NDArray[np.uint16], int, int]:
    """A lookup table's entries, the value that the first is for, and the bits of an entry, 8 to 16.

    Raises:
        DataError: there are none, or of other bits.
    """
    entries, first, bits = (int(part) for part in item.LUTDescriptor[:3])
    entries = entries % 2**16 or 2**16
    raw = item["LUTData"].value
    if isinstance(raw, bytes):
        order = "<" if dataset.original_encoding[1] else ">"
        packed = bits == 8 and len(raw) < 2 * entries  # two entries in a word
        table = np.frombuffer(raw, np.uint8 if packed else f"{order}u2", min(entries, len(raw) // (1 if packed else 2)))
    else:
        table = np.atleast_1d(np.asarray(raw))
    if not table.size or not 8 <= bits <= 16:
        raise DataError("a damaged lookup table in a DICOM file")
    return np.minimum(table[:entries], 2**bits - 1).astype(np.uint16), first, bits


def _looked_up(values: Values, item: Dataset, dataset: Dataset) -> tuple[Values, float]:
    """Values through a lookup table, and the greatest that the table can give."""
    table, first, bits = lookup_table(item, dataset)
    if first >= 2**15 and values.min() < 0:  # it is signed as the values are, whatever type the file gives it
        first -= 2**16
    most = 2**bits - 1
    if bits == 16:  # some devices say 16 where they mean the bits that they use
        most = 2 ** max(8, int(table.max()).bit_length()) - 1
    places = np.clip(np.round(values) - first, 0, table.size - 1).astype(np.int64)
    return table[places].astype(np.float64), most
