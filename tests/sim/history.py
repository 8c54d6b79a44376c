"""One seed, one history: first anything may break, then everything must converge."""

from __future__ import annotations

from random import Random

from msgspec import Struct

from pneumod.sim.bus import Weather
from pneumod.sim.children import QUIET_MS, START_MS, Luck
from pneumod.sim.disk import Wear
from pneumod.sim.world import World
from tests.sim.checkers import Violation
from tests.sim.court import Court
from tests.sim.faults import Faults
from tests.sim.operators import Operators

MAX_NODES = 60
SAFETY_MS = 120_000
LIVENESS_MS = 1_500_000
HUNG_MS = max(QUIET_MS.values()) + START_MS  # the longest that a child hangs


class Outcome(Struct, frozen=True):
    """What a history came to, in figures that tell two of them apart."""

    nodes: int
    faults: int
    claims: int
    runs: int
    rounds: int
    items: int
    virtual_ms: int
    messages: int

    def __str__(self) -> str:
        text = f"{self.nodes} nodes, {self.faults} faults, {self.claims} terms, {self.runs} runs, {self.rounds} rounds"
        return f"{text}, {self.items} items, {self.virtual_ms / 1_000:.0f} s, {self.messages} messages"


def play(seed: int, nodes: int | None = None, safety_ms: int = SAFETY_MS) -> Outcome:
    """Run one history.

    Raises:
        Violation: a promise was broken; `seed` plays it again.
    """
    random = Random(seed)
    world = _world(seed, random, nodes or round(MAX_NODES ** random.random()))
    court = Court(world)
    operators, faults = Operators(world, court, random), Faults(world, court, random)
    late = _start(world, random)
    _safety(world, random, operators, faults, late, safety_ms)
    _liveness(world, court, operators)
    bound = 2 * faults.count + 3 * len(world.machines) + 3
    if court.claims > bound:
        raise Violation(f"{court.claims} terms for {faults.count} faults")
    closed = [m.durable.closed for m in world.machines.values() if m.durable.closed is not None]
    rounds = max((c.round for c in closed), default=0)
    items = sum(len(m.disk.delivered) for m in world.machines.values())
    messages = world.bus.published.total()
    return Outcome(
        len(world.machines), faults.count, court.claims, operators.asked, rounds, items, world.now_ms, messages
    )


def _world(seed: int, random: Random, count: int) -> World:
    """A cluster and how good its network, disks and children are."""
    weather = Weather(
        delay_ms=(1, random.choice([5, 50, 400])),
        loss=random.choice([0.0, 0.02, 0.2]),
        duplicates=random.choice([0.0, 0.1]),
        reorder=random.choice([0.0, 0.0, 0.05]),
        keepalive_ms=5_000,
        queue_limit=random.choice([1_000, 1_000, 5]),
    )
    wear = Wear(write_ms=random.choice([(0, 0), (1, 5), (2, 200)]), slow=random.choice([0.0, 0.0, 0.002]))
    luck = Luck(dies=random.choice([0.0, 0.0, 0.05]), hangs=random.choice([0.0, 0.0, 0.01]))
    ids = random.sample(range(1_000), count)
    world = World(seed, ids, weather, random.choice([1.0, 4.0, 20.0]), wear, luck)
    if random.random() < 0.5:
        world.sites = {node: random.choice("ab") for node in ids}
        world.foreign = set(random.choice(["", "", "", "a", "ab"]))
        world.room = random.randint(1, 4)
    for machine in world.machines.values():
        machine.disk.clock_skew_s = random.choice([0, 0, 0, -172_800, 172_800])
    world.crash_chance = random.choice([0.0, 0.0, 0.0005])
    return world


def _start(world: World, random: Random) -> int | None:
    """Start the nodes; in every second history the lowest one joins later, and is returned."""
    first, *others = world.machines
    late = first if others and random.random() < 0.5 else None
    for node in world.machines:
        if node != late:
            world.start(node)
    return late


def _safety(
    world: World, random: Random, operators: Operators, faults: Faults, late: int | None, safety_ms: int
) -> None:
    """Break things at random moments."""
    end_ms = world.now_ms + safety_ms
    while world.now_ms < end_ms:
        world.run(world.now_ms + random.randint(100, 8_000))
        faults.restart_crashed()
        operators.act()
        faults.court.bounds.look()
        if late is not None and random.random() < 0.2:
            world.start(late)
        if random.random() < 0.4:
            faults.strike()


def _liveness(world: World, court: Court, operators: Operators) -> None:
    """No more faults: the last run must end everywhere, on the same model, under the lowest id, or say why not."""
    world.crash_chance = 0.0
    for machine in world.machines.values():
        machine.trainer.luck = machine.light.luck = Luck()
        machine.disk.wear = Wear(machine.disk.wear.write_ms)
    slowest = max(machine.slowness for machine in world.machines.values())
    end_ms = world.now_ms + HUNG_MS + int(LIVENESS_MS * max(1.0, slowest / 4))
    why: str | None = "nothing ran"
    while why is not None and world.now_ms < end_ms:
        world.start_all()
        operators.ask()
        world.run(world.now_ms + 2_000)
        court.bounds.look()
        why = court.settled(operators.wanted.run)
        if why is None and operators.left:
            operators.next()
            why = "another run is wanted"
    if why is not None:
        raise Violation(f"no end in sight: {why}")
