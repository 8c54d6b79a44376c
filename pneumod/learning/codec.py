"""How weight deltas travel: one codec a name. An update blob is a document of encoded deltas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from pneumod.errors import WireError
from pneumod.learning.weights import Array, Model, header_field, pack_tensor, unpack_tensor
from pneumod.messages import MAX_IMAGES, RoundOpen
from pneumod.wire import Document, Tensor, decode_document


class Codec(Protocol):
    def encode(self, deltas: Sequence[Array], base: Model) -> tuple[Tensor, ...]:
        """The tensors that travel for float32 `deltas`, which are in the order and of the shapes of `base`."""

    def decode(self, tensors: Sequence[Tensor], base: Model) -> tuple[Array, ...]:
        """The float32 deltas, in the order and of the shapes of `base`.

        Raises:
            WireError: another number of tensors, a name, dtype or shape that isn't the base's, or a value
                that isn't finite.
        """


class F32:
    """Every delta as it is, in float32."""

    def encode(self, deltas: Sequence[Array], base: Model) -> tuple[Tensor, ...]:
        return tuple(pack_tensor(name, delta) for name, delta in zip(base.names, deltas, strict=True))

    def decode(self, tensors: Sequence[Tensor], base: Model) -> tuple[Array, ...]:
        if len(tensors) != len(base.arrays):
            raise WireError(f"{len(tensors)} tensors in place of {len(base.arrays)}")
        for tensor, name, array in zip(tensors, base.names, base.arrays, strict=True):
            if tensor.name != name or tensor.shape != array.shape:
                raise WireError(f"{tensor.name} {tensor.shape} in place of {name} {array.shape}")
        return tuple(unpack_tensor(tensor) for tensor in tensors)


CODECS: dict[str, Codec] = {"f32": F32()}


class Update(NamedTuple):
    """What a node's training changed: float32 deltas in the order of the base, learnt from `samples` images."""

    samples: int
    deltas: tuple[Array, ...]


def update_document(deltas: Sequence[Array], base: Model, opened: RoundOpen, samples: int) -> Document:
    """The document of a node's update to `base`, encoded as the run's settings say."""
    header = {
        "run": opened.run,
        "round": opened.round,
        "base": opened.base.digest,
        "codec": opened.settings.codec,
        "samples": samples,
    }
    return Document("update", header, CODECS[opened.settings.codec].encode(deltas, base))


def read_update(data: bytes, base: Model, opened: RoundOpen) -> Update:
    """The update of a blob, checked against the round that it is for.

    Raises:
        WireError: not an update document, of another run, round, base or codec, a number of samples out of
            range, or tensors that don't fit the base.
    """
    document = decode_document(data, "update")
    asked = {
        "run": opened.run, "round": opened.round, "base": opened.base.digest, "codec": opened.settings.codec,
    }  # fmt: skip
    for key, value in asked.items():
        if header_field(document, key, type(value)) != value:
            raise WireError(f"the update is of another {key}")
    samples = header_field(document, "samples", int)
    if not 1 <= samples <= MAX_IMAGES:
        raise WireError("the update's samples are out of range")
    return Update(samples, CODECS[opened.settings.codec].decode(document.tensors, base))
