"""One message of every kind, and more."""

from __future__ import annotations

import msgspec

from pneumod import messages as m
from pneumod.topics import KINDS, Address
from tests.core.pair import beacon, beat, closed_of, open_of, reign, report, result_of, spec_of

TERM = reign(3, 7, boot=2)
SPEC = spec_of(rounds=4)
CLOSED = closed_of(SPEC, 1, TERM)
OPENED = open_of(SPEC, CLOSED, (1, 2, 7), TERM)
SUMMARY = m.Summary(2, (m.LeftOut(4, "gone"),), 1, 0.5, 10, 9, 8, (m.Takeover(reign(1, 1), TERM, 3),))
FULL = msgspec.structs.replace(
    CLOSED,
    receipt=CLOSED.model,
    scored=m.Metrics(0.9, 0.1, 40),
    best=m.Best(1, 0.9, 0.4, CLOSED.model),
    summary=SUMMARY,
    ended="all 4 rounds done",
)
CHUNK = m.Chunk("a" * 64, 0, 2, b"\x00\xff" * 100)
MESSAGES: list[tuple[str, m.Message]] = [
    ("card", m.Card("node 7", "1.2", 8, m.ClassCounts(1, 2, 3, 4))),
    ("card", m.Card("a", "1", 1)),
    ("beat", beat(top_term=TERM, closed=CLOSED, round_=1)),
    ("gone", m.Gone(2, 5)),
    ("beacon", beacon(8, 9)),
    ("spec", SPEC),
    ("open", OPENED),
    ("closed", CLOSED),
    ("closed", FULL),
    ("chunk", CHUNK),
    ("reopen", OPENED),
    ("report", report(SPEC, FULL)),
    ("result", result_of(7, OPENED)),
    ("want", m.BlobWant("a" * 64, (0, 1, 5))),
    ("piece", CHUNK),
    ("request", m.StartRun("run-a", 1_700_000_000, m.RunSettings())),
    ("stop", m.StopRun("run-a")),
    ("reply", m.Reply(False, "no")),
    ("offer", m.Offer("batch-a", "predict", 12, b"\x05\x00")),
    ("pull", m.Pull(4, ("predict",), ((7, "batch-a", 3),))),
    ("grant", m.Grant(7, "batch-a", "predict", (1, 4), 10_000)),
    ("done", m.Done("batch-a", 1, b"\x00\xff")),
    ("done", m.Done("batch-a", 1, b"", "no image")),
    ("taken", m.Taken("batch-a", 1)),
    ("ask", m.ParcelWant("batch-a", 1, (0, 1))),
    ("ask", m.ParcelWant("batch-a", None, (0,))),
    ("parcel", m.Piece("batch-a", 1, 0, 2, b"\x00\xff")),
    ("parcel", m.Piece("batch-a", None, 0, 1, b"")),
]


def address(kind: str, sender: str = "7") -> Address:
    return Address(sender, KINDS[kind], "1" if KINDS[kind].scope == "to" else None)
