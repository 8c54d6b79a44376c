"""What travels inside a work item: the files of the item, and what came of each of them.

A batch has one head, the same for all of its items. Every node of the site gets it from the owner.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from pneumod import __version__, wire
from pneumod.errors import WireError
from pneumod.primitives import Name, Share
from pneumod.settings import Preparation
from pneumod.work import PARCEL_BYTES

T = TypeVar("T", bound=Struct)

VERSION = 2  # of the way from files to pixels; a change makes every cache of prepared images anew
RELEASE = f"{__version__}/{VERSION}"  # nodes of the same one make the same of a file
MAX_FILES = 256  # of an item


class Facts(Struct, frozen=True):
    """What is known of one picture beside its pixels; nothing here names a patient."""

    height: Annotated[int, Meta(ge=1, le=2**31)]  # pixels, upright, as in the file
    width: Annotated[int, Meta(ge=1, le=2**31)]
    colour: Annotated[float, Meta(ge=0.0, le=255.0)]  # mean of max(R, G, B) - min(R, G, B), in grey levels of 255
    contrast: Annotated[float, Meta(ge=0.0, le=255.0)]  # standard deviation of the grey levels


class Head(Struct, frozen=True):
    """What is to be done with every item of a batch. `card` and `model` are given where it is classified."""

    preparation: Preparation
    force: bool = False  # also take DICOM files that are no chest projection
    card: bytes | None = None  # of the model, JSON
    model: bytes | None = None  # the LiteRT file
    version: Name = RELEASE  # of the pneumod that wants it done; one of another version refuses


class Parcel(Struct, frozen=True):
    """The files of one item, each its bytes without what names a patient."""

    files: Annotated[tuple[bytes, ...], Meta(min_length=1, max_length=MAX_FILES)]


class Answer(Struct, frozen=True):
    """What came of one file: pixels, or a probability."""

    facts: Facts
    pixels: bytes | None = None  # uint8 [S, S], S the preparation's image_size
    probability: Share | None = None  # of PNEUMONIA
    distance: Annotated[float, Meta(ge=0.0)] | None = None  # from the training images, where the model knows them


class Answers(Struct, frozen=True):
    """What came of each file of a parcel, in their order; a text says why nothing did."""

    files: Annotated[tuple[Answer | str, ...], Meta(min_length=1, max_length=MAX_FILES)]


def pack(value: Head | Parcel | Answers) -> bytes:
    return wire.pack(value)


def unpack(data: bytes, kind: type[T]) -> T:
    """The inverse of `pack`.

    Raises:
        WireError: not of this kind, too long, or with a number that isn't finite.
    """
    if len(data) > PARCEL_BYTES:
        raise WireError("too long")
    try:
        value = msgspec.convert(wire.unpack(data), kind, builtin_types=(bytes,))
    except msgspec.ValidationError as error:
        raise WireError(f"bad {kind.__name__}: {error}"[:200]) from error
    wire.require_finite(value)
    return value
