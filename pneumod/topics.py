"""Topic <-> (sender, kind, destination), and how each kind travels: one table.

Everything that node N says is under `pneumod/v1/<cluster>/from/N/`, where only the holder of N's
certificate may publish: the topic is the identity.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct

from pneumod import messages as m
from pneumod.errors import WireError

KIB = 1024


class Kind(NamedTuple):
    """How one kind of message travels."""

    name: str
    type: type[Struct]
    scope: str  # "self": from/N/<name>; "all": from/N/all/<name>; "to": from/N/to/<dest>/<name>
    qos: int
    retain: bool
    expiry_s: int | None
    limit_bytes: int  # of the payload
    bulk: bool = False  # travels on the second connection
    images: bool = False  # may hold parts of images: only over a broker of the sender's own site


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("card", m.Card, "self", 1, True, 86_400, 4 * KIB),
        Kind("beat", m.Beat, "self", 0, False, 10, 2 * KIB),
        Kind("gone", m.Gone, "self", 1, False, 60, KIB),
        Kind("beacon", m.Beacon, "self", 1, True, 30, 4 * KIB),
        Kind("spec", m.RunSpec, "all", 1, True, None, 8 * KIB),
        Kind("open", m.RoundOpen, "all", 1, False, 600, 192 * KIB),
        Kind("closed", m.RoundClosed, "all", 1, True, None, 64 * KIB),
        Kind("chunk", m.Chunk, "all", 1, False, 120, 200 * KIB, bulk=True),
        Kind("reopen", m.RoundOpen, "to", 1, False, 600, 192 * KIB),
        Kind("report", m.Report, "to", 1, False, 60, 96 * KIB),
        Kind("result", m.TrainResult, "to", 1, False, 600, 64 * KIB),
        Kind("want", m.BlobWant, "to", 1, False, 60, 64 * KIB),
        Kind("piece", m.Chunk, "to", 1, False, 120, 200 * KIB, bulk=True),
        Kind("request", m.StartRun, "to", 1, False, 30, 8 * KIB),
        Kind("stop", m.StopRun, "to", 1, False, 30, KIB),
        Kind("reply", m.Reply, "to", 1, False, 30, 2 * KIB),
        Kind("offer", m.Offer, "to", 1, False, 60, 12 * KIB),
        Kind("pull", m.Pull, "to", 1, False, 30, 12 * KIB),
        Kind("grant", m.Grant, "to", 1, False, 10, 2 * KIB),
        Kind("done", m.Done, "to", 1, False, 60, 200 * KIB, bulk=True, images=True),
        Kind("taken", m.Taken, "to", 1, False, 60, KIB),
        Kind("ask", m.ParcelWant, "to", 1, False, 30, 2 * KIB),
        Kind("parcel", m.Piece, "to", 1, False, 60, 200 * KIB, bulk=True, images=True),
    )
}

MAX_PACKET_BYTES = 256 * KIB


class Address(NamedTuple):
    sender: str
    kind: Kind
    dest: str | None = None


class Topics:
    """The topics of one cluster."""

    def __init__(self, cluster: str) -> None:
        self.root = f"pneumod/v1/{cluster}/from"

    def topic(self, sender: str, kind: str, dest: str | None = None) -> str:
        """The topic on which `sender` publishes `kind` (to `dest`, for the kinds that have one)."""
        scope = KINDS[kind].scope
        assert (dest is not None) == (scope == "to"), (kind, dest)
        middle = {"self": "", "all": "all/", "to": f"to/{dest}/"}[scope]
        return f"{self.root}/{sender}/{middle}{kind}"

    def parse(self, topic: str) -> Address:
        """The inverse of `topic`.

        Raises:
            WireError: the topic isn't one of ours.
        """
        prefix = self.root + "/"
        parts = topic.removeprefix(prefix).split("/") if topic.startswith(prefix) else []
        match parts:
            case [sender, name] if name in KINDS and KINDS[name].scope == "self":
                return Address(sender, KINDS[name])
            case [sender, "all", name] if name in KINDS and KINDS[name].scope == "all":
                return Address(sender, KINDS[name])
            case [sender, "to", dest, name] if name in KINDS and KINDS[name].scope == "to":
                return Address(sender, KINDS[name], dest)
        raise WireError("unknown topic")

    def filters(self, me: str, kinds: list[str]) -> list[tuple[str, int]]:
        """Subscriptions (filter, QoS) that bring `kinds` from everyone; directed ones only those to `me`."""
        return [(self.topic("+", k, me if KINDS[k].scope == "to" else None), KINDS[k].qos) for k in kinds]
