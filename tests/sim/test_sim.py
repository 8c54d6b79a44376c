"""Whole clusters with faults: every promise holds, and one seed is one history."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from pneumod import wire
from pneumod.sim.bus import Bus
from pneumod.topics import KINDS, Address, Topics
from tests.sim.history import play

SEEDS = range(1, 41)
FRESH = 4
TOPICS = Topics("sim")


@pytest.mark.parametrize("seed", SEEDS)
def test_a_history_holds(seed: int) -> None:
    play(seed)


def test_fresh_histories_hold() -> None:
    first = time.time_ns() // 1_000_000 % 2**31
    for seed in range(first, first + FRESH):
        print(f"seed {seed}")
        play(seed)


@pytest.mark.parametrize("seed", [3, 7])
def test_one_seed_is_one_history(seed: int) -> None:
    assert play(seed) == play(seed)


def test_other_seeds_are_other_histories() -> None:
    assert len({play(seed, safety_ms=20_000) for seed in range(1, 6)}) == 5


# ---- the wire carries what the core says ----


@pytest.mark.parametrize("seed", [5, 9])
def test_every_message_survives_the_wire_within_its_limit(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Counter[str] = Counter()
    publish = Bus.publish

    def carry(bus: Bus, now_ms: int, topic: object, envelope: object, correlation: bytes = b"") -> None:
        sender, kind, dest = topic  # type: ignore[misc]
        term, message = envelope.term, envelope.message  # type: ignore[attr-defined]
        address = TOPICS.parse(TOPICS.topic(sender, kind, dest))
        assert address == Address(sender, KINDS[kind], dest)
        if message is not None:
            payload = wire.encode(sender, term, message)
            assert len(payload) <= KINDS[kind].limit_bytes
            assert wire.decode(address, payload) == envelope
            seen[kind] += 1
        publish(bus, now_ms, topic, envelope, correlation)  # type: ignore[arg-type]

    monkeypatch.setattr(Bus, "publish", carry)
    play(seed)
    assert set(seen) >= {"card", "beat", "beacon", "spec", "open", "closed", "report", "result", "request", "reply"}
