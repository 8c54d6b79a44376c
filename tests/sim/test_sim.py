"""Whole clusters with faults: every promise holds, and one seed is one history."""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait

import pytest

from pneumod import wire
from pneumod.messages import Envelope
from pneumod.sim.bus import Bus, Topic
from pneumod.sim.world import World
from pneumod.topics import KINDS, Address, Topics
from tests.sim.__main__ import Told, tell
from tests.sim.history import play

FIXED = range(1, 31)
BUDGET_S = 120  # for the fixed seeds and as many fresh ones as fit
LAST_S = 5  # that a history takes at most, or nearly
TOPICS = Topics("sim")


def fresh() -> Iterator[int]:
    """Seeds that nobody has seen."""
    return itertools.count(time.time_ns() // 1_000_000 % 2**31)


@pytest.mark.timeout(300)
def test_histories_hold(capsys: pytest.CaptureFixture[str]) -> None:
    """The fixed seeds all, then fresh ones until the time is up, on every core."""
    last_s = time.monotonic() + BUDGET_S - LAST_S
    workers, told = os.cpu_count() or 1, list[Told]()
    seeds = itertools.chain(FIXED, fresh())
    with ProcessPoolExecutor(workers) as pool:
        playing: set[Future[Told]] = set()
        while playing or len(told) < len(FIXED):
            while len(playing) < workers and (len(told) < len(FIXED) or time.monotonic() < last_s):
                playing.add(pool.submit(tell, next(seeds)))
            done, playing = wait(playing, return_when=FIRST_COMPLETED)
            told += [one.result() for one in done]
    new = sorted(one.seed for one in told)[len(FIXED) :]
    with capsys.disabled():
        print(f"\nseeds {FIXED[0]} to {FIXED[-1]}, fresh ones: {f'{new[0]} to {new[-1]}' if new else 'none'}")
    failed = [f"make sim SEED={one.seed} RUNS=1: {one.text}" for one in told if one.failed]
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("seed", [3, 7, 12])
def test_one_seed_is_one_history(seed: int) -> None:
    assert play(seed, nodes=6, safety_ms=60_000) == play(seed, nodes=6, safety_ms=60_000)


def test_other_seeds_are_other_histories() -> None:
    assert len({play(seed, nodes=4, safety_ms=20_000) for seed in range(1, 6)}) == 5


@pytest.mark.parametrize("count", [10, 1_000])
def test_a_large_cluster_is_a_star(count: int) -> None:
    """Each node hears the master's beacon, the master hears each node's beat, and nobody hears more."""
    world = World(1, range(count))
    world.start_all()
    world.run(30_000)
    before = world.bus.delivered.copy()
    world.run(60_000)
    assert world.leaders() == [0]
    told = world.bus.delivered - before
    assert set(told) == {"beacon", "beat", "report"}
    assert told["beacon"] <= 31 * count
    assert told["beat"] <= 31 * count
    assert told["report"] <= 4 * count


# ---- the wire carries what the core says ----


def test_every_message_survives_the_wire_within_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Counter[str] = Counter()
    publish = Bus.publish

    def carry(bus: Bus, topic: Topic, envelope: Envelope, correlation: bytes = b"") -> None:
        address = TOPICS.parse(TOPICS.topic(*topic))
        assert address == Address(topic.sender, KINDS[topic.kind], topic.dest)
        if envelope.message is not None:
            payload = wire.encode(topic.sender, envelope.term, envelope.message)
            assert len(payload) <= KINDS[topic.kind].limit_bytes
            assert wire.decode(address, payload) == envelope
            seen[topic.kind] += 1
        publish(bus, topic, envelope, correlation)

    monkeypatch.setattr(Bus, "publish", carry)
    for seed in (5, 9, 11, 16):
        play(seed, nodes=5, safety_ms=60_000)
    assert set(seen) >= set(KINDS) - {"chunk", "piece", "want", "ask", "parcel"}, "but for those of the shell"
