"""The bytes of models, updates and receipts in a round, worked out from the real packets: no simulator has them."""

from __future__ import annotations

from functools import cache

from mqtt_packet import packet_of, wire_bytes
from msgspec import Struct

from pneumod.blobs import CHUNK_BYTES, chunk_count
from pneumod.messages import Chunk
from pneumod.topics import KINDS
from pneumod.wire import Document, encode_document

DIGEST = "ab" * 32


class Blobs(Struct):
    """One round of `nodes` nodes, the master one of them, in bytes."""

    model_out: int  # the broker gives the new model to all
    updates: int  # into the broker, and out of it again to the master
    receipt: int  # one receipt
    receipts_out: int  # the broker gives it to all
    out: int  # of the broker, all of it
    masters_in: int
    masters_out: int


def blobs_of(nodes: int, model_bytes: int) -> Blobs:
    """An update is as large as the model: the only codec is float32."""
    others, model, receipt = nodes - 1, sent_bytes(model_bytes), receipt_bytes(nodes)
    once = model + sent_bytes(receipt)
    return Blobs(
        model_out=others * model,
        updates=others * model,
        receipt=receipt,
        receipts_out=others * sent_bytes(receipt),
        out=others * once + others * model,
        masters_in=others * model,
        masters_out=once,
    )


@cache
def sent_bytes(size_bytes: int) -> int:
    """A blob on the wire, once, in chunks with their packets and acknowledgements."""
    count, left = chunk_count(size_bytes), size_bytes
    total = 0
    for index in range(count):
        data = bytes(min(CHUNK_BYTES, left))
        left -= len(data)
        total += wire_bytes(len(packet_of("1", "chunk", Chunk(DIGEST, index, count, data))), KINDS["chunk"].qos)
    return total


@cache
def receipt_bytes(nodes: int) -> int:
    """A receipt in which every node counts."""
    header = {
        "run": "run-scale", "number": 1, "round": 1, "base": DIGEST, "model": DIGEST, "previous": DIGEST,
        "previous_bytes": 10**6, "counted": [(node, 600, DIGEST) for node in range(1, nodes + 1)], "left_out": [],
        "metrics": None, "takeovers": [],
    }  # fmt: skip
    return len(encode_document(Document("receipt", header)))
