"""One seed, one history: first anything may break, then everything must converge."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from msgspec import Struct

from pneumod.messages import RunSettings, StartRun
from pneumod.sim.bus import Weather
from pneumod.sim.world import World
from tests.sim.checkers import Judge, Violation

SAFETY_MS = 120_000
LIVENESS_MS = 600_000


class Outcome(Struct, frozen=True):
    nodes: int
    faults: int
    claims: int
    rounds: int
    virtual_ms: int
    messages: int


def play(seed: int, nodes: int | None = None, safety_ms: int = SAFETY_MS) -> Outcome:
    """Run one history.

    Raises:
        Violation: a promise was broken; `seed` plays it again.
    """
    random = Random(seed)
    count = nodes or random.randint(1, 12)
    ids = sorted(random.sample(range(100), count))
    min_nodes = random.randint(1, max(1, count // 2))
    weather = Weather((1, random.choice([5, 50, 400])), random.choice([0.0, 0.02, 0.2]), random.choice([0.0, 0.1]))
    world = World(seed, ids, weather, slowest=random.choice([1.0, 4.0, 20.0]))
    judge = Judge(world, min_nodes)
    late = ids[0] if count > 1 and random.random() < 0.5 else None  # a lower id that joins later
    for node in ids:
        if node != late:
            world.start(node)
    settings = RunSettings(rounds=random.randint(1, 4), min_nodes=min_nodes, patience=10)
    faults = _safety(world, judge, random, settings, late, safety_ms)
    _liveness(world, judge, settings)
    closed = next(m.durable.closed for m in world.machines.values() if m.durable.closed)
    if judge.claims > 2 * faults + 3 * count + 3:
        raise Violation(f"{judge.claims} terms for {faults} faults")
    return Outcome(count, faults, judge.claims, closed.round, world.now_ms, world.bus.messages)


def _safety(world: World, judge: Judge, random: Random, settings: RunSettings, late: int | None, safety_ms: int) -> int:
    """Break things at random moments; how many."""
    faults = 0
    world.crash_chance = random.choice([0.0, 0.0, 0.0005])
    end_ms = world.now_ms + safety_ms
    while world.now_ms < end_ms:
        world.run(world.now_ms + random.randint(100, 8_000))
        for node in world.crashes:
            faults += 1
            world.at(world.now_ms + random.randint(500, 15_000), _starter(world, node))
        world.crashes.clear()
        _operator(world, settings)
        if late is not None and random.random() < 0.2:
            world.start(late)
        if random.random() < 0.4:
            faults += 1
            _break(world, judge, random)
    world.crash_chance = 0.0
    return faults


def _break(world: World, judge: Judge, random: Random) -> None:
    node = random.choice(sorted(world.machines))
    leaders = world.leaders()
    if leaders and random.random() < 0.4:
        node = leaders[0]
    match random.choice(["crash", "crash", "disk", "freeze", "cut", "outage"]):
        case "crash":
            world.crash(node)
            world.at(world.now_ms + random.randint(100, 20_000), _starter(world, node))
        case "disk":
            world.crash(node, lose_disk=True)
            judge.forget(node)
            world.at(world.now_ms + random.randint(100, 20_000), _starter(world, node))
        case "freeze":
            if world.machines[node].up:
                world.freeze(node, random.randint(500, 60_000))
        case "cut":
            world.cut(node, random.randint(500, 30_000))
        case "outage":
            world.broker_outage(random.randint(200, 20_000), random.random() < 0.5)


def _starter(world: World, node: int) -> Callable[[], None]:
    return lambda: world.start(node)


def _operator(world: World, settings: RunSettings) -> None:
    """Ask whoever leads for the one run, until it is known."""
    known = any(m.durable.spec is not None for m in world.machines.values())
    if not known and world.bus.up and world.leaders():
        world.ask("op-run-sim", world.leaders()[0], StartRun("sim-1", 0, settings))


def _liveness(world: World, judge: Judge, settings: RunSettings) -> None:
    """No more faults: the run must end everywhere, on the same model, under the lowest id."""
    world.bus.up = True
    end_ms = world.now_ms + LIVENESS_MS * max(1, int(max(m.slowness for m in world.machines.values())) // 4)
    why: str | None = "nothing ran"
    while why is not None and world.now_ms < end_ms:
        for node in world.machines:
            world.start(node)
        _operator(world, settings)
        world.run(world.now_ms + 2_000)
        why = judge.settled()
    if why is not None:
        raise Violation(f"no end in sight: {why}")
