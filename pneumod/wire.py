"""Bytes <-> Envelope, and bytes <-> named tensors: version, size, depth, type and range. The only msgpack.

Nothing from the wire is trusted: a payload that breaks a rule raises WireError, whose text is a short
reason that the caller counts.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgpack
import msgspec
from msgspec import Meta, Struct

from pneumod import topics
from pneumod.errors import WireError
from pneumod.messages import MAX_NODE_ID, NO_TERM, Envelope, Message, Sender, Term

VERSION = 1
MAX_TENSORS = 4096


def pack(value: object) -> bytes:
    """Msgpack of plain Python values and structs (as maps)."""
    packed: bytes = msgpack.packb(msgspec.to_builtins(value, builtin_types=(bytes,)), use_bin_type=True)
    return packed


def unpack(data: bytes) -> Any:
    """Plain Python values, every length bounded by that of `data`.

    Raises:
        WireError: not msgpack, nested too deeply, or with bytes left over.
    """
    limit = len(data)
    try:
        return msgpack.unpackb(
            data,
            raw=False,
            use_list=True,
            strict_map_key=True,
            max_str_len=limit,
            max_bin_len=limit,
            max_array_len=limit,
            max_map_len=limit,
            max_ext_len=0,
        )
    except (ValueError, msgpack.exceptions.UnpackException, RecursionError) as error:
        raise WireError("not msgpack") from error


def encode(sender: str, term: Term, message: Message) -> bytes:
    """The payload of one message."""
    return pack({"v": VERSION, "from": sender, "term": term, "body": message})


def decode(address: topics.Address, payload: bytes) -> Envelope:
    """Check a payload against the address that its topic gave.

    An empty payload is a cleared topic: an envelope whose message is None.

    Raises:
        WireError: too long, another version, a field missing, of a wrong type or out of range, or a
            sender that isn't the topic's.
    """
    sender, kind, _ = address
    if len(payload) > kind.limit_bytes:
        raise WireError("too long")
    try:
        msgspec.convert(sender, Sender)
        if sender.isdigit() and int(sender) > MAX_NODE_ID:
            raise WireError("no node's id")
        if not payload:
            return Envelope(sender, NO_TERM, None)
        raw = unpack(payload)
        if not isinstance(raw, dict) or raw.get("v") != VERSION:
            raise WireError("another version")
        if raw.get("from") != sender:
            raise WireError("sender is not the topic's")
        message: Any = msgspec.convert(raw.get("body"), kind.type, builtin_types=(bytes,))
        require_finite(message)
        return Envelope(sender, msgspec.convert(raw.get("term"), Term), message)
    except msgspec.ValidationError as error:
        raise WireError(f"bad {kind.name}: {error}"[:200]) from error


def require_finite(value: object) -> None:
    """Check a struct and what is in it: msgpack floats may be NaN, which passes every range check.

    Raises:
        WireError: a number isn't finite.
    """
    if isinstance(value, float):
        if value - value != 0.0:
            raise WireError("not finite")
    elif isinstance(value, Struct):
        for field in value.__struct_fields__:
            require_finite(getattr(value, field))
    elif isinstance(value, tuple) and value and not isinstance(value[0], int):
        for item in value:
            require_finite(item)


class Tensor(Struct, frozen=True):
    """One named array: `data` is its little-endian C-order bytes."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    dtype: Annotated[str, Meta(pattern=r"^(float32|float16|int8|uint8|int32|int64)\Z")]
    shape: Annotated[tuple[Annotated[int, Meta(ge=0, le=2**31)], ...], Meta(max_length=8)]
    data: bytes


class Document(Struct, frozen=True):
    """A model or an update: a small header, then tensors in a fixed order."""

    kind: Annotated[str, Meta(pattern=r"^(model|update|checkpoint|receipt)\Z")]
    header: dict[str, Any]
    tensors: Annotated[tuple[Tensor, ...], Meta(max_length=MAX_TENSORS)] = ()


def encode_document(document: Document) -> bytes:
    """One msgpack document; the same content gives the same bytes."""
    return pack({"v": VERSION, "doc": document})


def decode_document(data: bytes, kind: str) -> Document:
    """Check a blob's form.

    Raises:
        WireError: not a document of this version and kind.
    """
    raw = unpack(data)
    if not isinstance(raw, dict) or raw.get("v") != VERSION:
        raise WireError("another version")
    try:
        document = msgspec.convert(raw.get("doc"), Document, builtin_types=(bytes,))
    except msgspec.ValidationError as error:
        raise WireError(f"bad document: {error}"[:200]) from error
    if document.kind != kind:
        raise WireError(f"a {document.kind} in place of a {kind}")
    return document
