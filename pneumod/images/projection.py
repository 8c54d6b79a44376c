"""Whether a DICOM file is a frontal projection of a chest, by what it says of itself."""

from __future__ import annotations

import re
from typing import Any

from pydicom.dataset import Dataset

# Computed and digital radiography, and scanned film; "DR" is no term of the standard, but found.
PROJECTIONS = frozenset({"CR", "DX", "RG", "DR"})
CHEST = re.compile(r"CHEST|THORAX|TORAX|LUNG")
# The terms that may be named to a person; any other value might be text that somebody typed, with a name in it.
OTHER_MODALITIES = re.compile(
    "AU|BI|BMD|CT|DOC|ECG|ES|GM|IO|IVUS|KO|MG|MR|NM|OCT|OP|OPT|OT|PR|PT|PX|REG|RF|RTDOSE|RTIMAGE|RTPLAN|RTRECORD|"
    "RTSTRUCT|SC|SEG|SM|SR|US|XA|XC"
)
OTHER_PARTS = re.compile(
    "ABDOMEN|ANKLE|ARM|BREAST|CALCANEUS|CLAVICLE|COCCYX|CSPINE|ELBOW|EXTREMITY|FEMUR|FINGER|FOOT|FOREARM|HAND|HEAD|"
    "HEART|HIP|HUMERUS|JAW|KNEE|LEG|LSPINE|NECK|PELVIS|RIB|RIBS|SACRUM|SHOULDER|SKULL|SPINE|SSPINE|STERNUM|THUMB|TOE|"
    "TSPINE|WHOLEBODY|WRIST"
)
LATERAL = re.compile(r"\b(LL|RL|LAT|LLAT|RLAT|X?LATERAL|LEFT LATERAL|RIGHT LATERAL)\b(?!.*DECUB)")
UNKNOWN = "unknown"


def why_not_chest(dataset: Dataset) -> str | None:
    """Why a file is no frontal projection of a chest; None where it is one, as far as it says.

    Many real files name no body part and no view: these are taken.
    """
    modality, part = modality_of(dataset), part_of(dataset)
    if not modality:
        return "it names no modality: no chest projection (CR, DX)"
    if modality not in PROJECTIONS:
        return f"modality {modality} is no chest projection (CR, DX)"
    if part not in ("", "CHEST"):
        return f"body part {part}, not the chest"
    if view_of(dataset):
        return "a lateral view, not a frontal one (PA, AP)"
    if is_raw(dataset):
        return "a detector's raw data (for processing), not a picture to look at"
    return None


def modality_of(dataset: Dataset) -> str:
    """A term of the standard, or unknown; empty where the file names none."""
    text = _text(dataset, "Modality")
    return text if not text or text in PROJECTIONS or OTHER_MODALITIES.fullmatch(text) else UNKNOWN


def part_of(dataset: Dataset) -> str:
    """CHEST, another body part, unknown; empty where the file names none."""
    text = _text(dataset, "BodyPartExamined") or _meaning(dataset, "AnatomicRegionSequence")
    if not text or CHEST.search(text):
        return "CHEST" if text else ""
    return text if OTHER_PARTS.fullmatch(text) else UNKNOWN


def view_of(dataset: Dataset) -> str:
    """LATERAL, or empty."""
    text = _text(dataset, "ViewPosition") or _meaning(dataset, "ViewCodeSequence")
    return "LATERAL" if LATERAL.search(text.replace("_", " ")) else ""


def is_raw(dataset: Dataset) -> bool:
    return _text(dataset, "PresentationIntentType") == "FOR PROCESSING"


def _text(dataset: Dataset, name: str) -> str:
    """The first value in capitals, empty where there is none."""
    value: Any = dataset.get(name)
    if value is not None and not isinstance(value, str):
        value = next(iter(value), None)
    return str(value or "").strip().upper()


def _meaning(dataset: Dataset, name: str) -> str:
    """What the first code of a sequence means."""
    return _text(sequence[0], "CodeMeaning") if (sequence := dataset.get(name)) else ""
