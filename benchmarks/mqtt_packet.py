"""MQTT 5 PUBLISH packets as our connections put them on the wire, byte for byte."""

from __future__ import annotations

from pneumod import wire
from pneumod.messages import NO_TERM, Message, Term
from pneumod.topics import KINDS, Topics

TOPICS = Topics("lab")
PUBACK_BYTES = 4  # fixed header and packet id
MESSAGE_EXPIRY = 0x02  # property identifiers
CORRELATION_DATA = 0x09


def packet_of(sender: str, kind: str, message: Message | None, dest: str | None = None, term: Term = NO_TERM) -> bytes:
    """One message of ours in its PUBLISH packet; a message of QoS 1 has the packet id 1."""
    payload = b"" if message is None else wire.encode(sender, term, message)
    return packet(TOPICS.topic(sender, kind, dest), payload, KINDS[kind].qos, KINDS[kind].expiry_s)


def packet(topic: str, payload: bytes, qos: int, expiry_s: int | None, tag: bytes = b"") -> bytes:
    """Any PUBLISH packet: fixed header, topic, packet id, properties, payload."""
    properties = b"" if expiry_s is None else bytes([MESSAGE_EXPIRY]) + expiry_s.to_bytes(4)
    properties += bytes([CORRELATION_DATA]) + len(tag).to_bytes(2) + tag if tag else b""
    rest = len(topic.encode()).to_bytes(2) + topic.encode() + (b"\0\1" if qos else b"")
    rest += _varint(len(properties)) + properties + payload
    return bytes([0x30 | qos << 1]) + _varint(len(rest)) + rest


def wire_bytes(packet_bytes: int, qos: int) -> int:
    """What one transfer of a packet takes, its acknowledgement included; TCP/IP not."""
    return packet_bytes + (PUBACK_BYTES if qos else 0)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 128:
        out.append(value % 128 | 128)
        value //= 128
    out.append(value)
    return bytes(out)


def connect_packet(client: str) -> bytes:
    """CONNECT of MQTT 5: a clean start, no Will, no keepalive."""
    rest = b"\0\4MQTT\5\2\0\0\0" + len(client).to_bytes(2) + client.encode()
    return b"\x10" + _varint(len(rest)) + rest


def subscribe_packet(filters: list[tuple[str, int]]) -> bytes:
    """SUBSCRIBE to filters, each with its QoS."""
    rest = b"\0\1\0" + b"".join(len(name).to_bytes(2) + name.encode() + bytes([qos]) for name, qos in filters)
    return b"\x82" + _varint(len(rest)) + rest


def puback_packet(packet_id: bytes) -> bytes:
    return b"\x40\2" + packet_id


def packet_id_at(published: bytes) -> int:
    """Where a PUBLISH packet of QoS 1 has its packet id."""
    start = 1
    while published[start] & 128:
        start += 1
    return start + 1 + 2 + int.from_bytes(published[start + 1 : start + 3])
