"""Weights <-> blobs: a model document and its named float32 arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pneumod.errors import WireError
from pneumod.wire import Document, Tensor, decode_document

Array = NDArray[np.float32]


class Model(NamedTuple):
    """All weights of one model (trainable ones and BatchNorm statistics) in their fixed order.

    `names` and `arrays` (float32, any shape, finite) are of one length.
    """

    image_size: int  # side of the square of grey levels that the network takes
    run: str
    round: int
    names: tuple[str, ...]
    arrays: tuple[Array, ...]


def pack_tensor(name: str, array: Array) -> Tensor:
    """A float32 array of any shape as a tensor of the wire."""
    return Tensor(name, "float32", array.shape, np.ascontiguousarray(array, "<f4").tobytes())


def unpack_tensor(tensor: Tensor) -> Array:
    """The float32 array of a tensor.

    Raises:
        WireError: another dtype, bytes that don't fill the shape, or a value that isn't finite.
    """
    if tensor.dtype != "float32":
        raise WireError(f"{tensor.name} is {tensor.dtype} in place of float32")
    if len(tensor.data) != 4 * math.prod(tensor.shape):
        raise WireError(f"{tensor.name} has {len(tensor.data)} bytes, which don't fill its shape {tensor.shape}")
    array = np.frombuffer(tensor.data, "<f4").reshape(tensor.shape).astype(np.float32)
    if not np.isfinite(array).all():
        raise WireError(f"{tensor.name} has values that are not finite")
    return array


def model_document(arrays: Sequence[Array], names: Sequence[str], image_size: int, run: str, round: int) -> Document:
    """The document of a model: float32 arrays of any shape with their names, in the model's fixed order."""
    tensors = tuple(pack_tensor(name, array) for name, array in zip(names, arrays, strict=True))
    return Document("model", {"image_size": image_size, "run": run, "round": round}, tensors)


def read_model(data: bytes) -> Model:
    """The model of a blob.

    Raises:
        WireError: not a model document, a header field missing or of a wrong type, or a bad tensor.
    """
    document = decode_document(data, "model")
    return Model(
        header_field(document, "image_size", int),
        header_field(document, "run", str),
        header_field(document, "round", int),
        tuple(tensor.name for tensor in document.tensors),
        tuple(unpack_tensor(tensor) for tensor in document.tensors),
    )


def header_field(document: Document, key: str, kind: type) -> Any:
    """One field of a document's header.

    Raises:
        WireError: it is missing, or isn't a `kind`.
    """
    value = document.header.get(key)
    if type(value) is not kind:  # a bool is no int here
        raise WireError(f"the {document.kind}'s header has no {key} of type {kind.__name__}")
    return value
