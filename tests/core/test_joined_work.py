"""Work items in a whole cluster: a batch is done once, by its own site, whoever dies meanwhile."""

from __future__ import annotations

from collections import Counter

import pytest

from pneumod.core import actions as act
from pneumod.core import events as ev
from pneumod.core.jobs import Work
from pneumod.messages import Taken
from pneumod.sim.bus import Weather
from pneumod.sim.machine import Machine
from pneumod.sim.world import World
from tests.core.items import BATCH, SITES

ITEMS = 300
ROOM = 8


class Cluster:
    """Nodes 1, 2, 3 of site a and node 4 of site b; who began which item, and what was delivered, is noted."""

    def __init__(self, seed: int, room: int = ROOM) -> None:
        self.world = World(seed, sorted(SITES), Weather((1, 5)))
        self.world.sites, self.world.room = dict(SITES), room
        self.begun: list[tuple[int, int]] = []  # (node, item)
        self.delivered: list[tuple[int, int]] = []
        self.taken: set[int] = set()
        self.early: list[int] = []  # items whose nodes were let go before the bitmap was on the disk
        self.world.observers.append(self.see)
        for node in SITES:
            self.world.start(node)
        self.world.run(8_000)
        assert self.world.leaders() == [1]

    def see(self, _: World, machine: Machine, action: act.Action) -> None:
        match action:
            case act.Start(job=Work(item=item)):
                self.begun.append((machine.id, item))
            case act.Deliver(item=item):
                self.delivered.append((machine.id, item))
            case act.Publish(message=Taken(item=item)):
                self.taken.add(item)
                if item not in self.done(machine.id):
                    self.early.append(item)

    def offer(self, node: int) -> None:
        self.world.machines[node].feed(ev.Offered(BATCH, "predict", ITEMS))

    def done(self, owner: int) -> set[int]:
        """The items that are done by the owner's disk."""
        batch = self.world.machines[owner].durable.batch
        bits = int.from_bytes(batch.done, "little") if batch is not None else 0
        return {item for item in range(ITEMS) if bits >> item & 1}

    def until(self, owner: int, items: int) -> None:
        assert self.world.run_until(lambda: len(self.done(owner)) >= items, 120_000), len(self.done(owner))

    def twice(self) -> list[int]:
        return [item for item, times in sorted(Counter(item for _, item in self.begun).items()) if times > 1]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_batch_is_done_exactly_once_while_a_worker_and_then_the_master_die(seed: int) -> None:
    cluster = Cluster(seed)
    cluster.offer(2)
    cluster.until(2, 60)
    cluster.world.crash(3)
    lost = {item for node, item in cluster.begun if node == 3} - cluster.done(2)
    cluster.until(2, 140)
    cluster.world.crash(1)
    lost |= {item for node, item in cluster.begun if node == 1} - cluster.done(2)
    cluster.until(2, 150)
    cluster.world.start(3)
    cluster.until(2, ITEMS)
    assert sorted(cluster.delivered) == [(2, item) for item in range(ITEMS)], "each once, to its owner"
    assert set(cluster.twice()) <= lost, "only what died with its node was begun again"
    assert {node for node, _ in cluster.begun} == {1, 2, 3}, "all of the site, nobody else"
    assert cluster.early == []


def test_without_a_death_no_item_is_begun_twice() -> None:
    cluster = Cluster(4)
    cluster.offer(3)
    cluster.until(3, ITEMS)
    assert cluster.twice() == []
    assert len(cluster.begun) == len(cluster.delivered) == ITEMS


def test_an_owner_that_dies_goes_on_where_its_disk_stood() -> None:
    cluster = Cluster(5)
    cluster.offer(2)
    cluster.until(2, 100)
    cluster.world.crash(2)
    stood = cluster.done(2)
    held = {item for _, item in cluster.begun} - stood
    cluster.world.run(cluster.world.now_ms + 5_000)
    cluster.world.start(2)
    cluster.until(2, ITEMS)
    again = [item for item, times in Counter(i for _, i in cluster.delivered).items() if times > 1]
    assert set(again) <= held, "what was on the disk is not taken again"
    assert set(cluster.twice()) <= held


def test_an_owner_that_was_away_for_long_is_served_again() -> None:
    cluster = Cluster(6)
    cluster.offer(2)
    cluster.until(2, 100)
    cluster.world.crash(2)
    cluster.world.run(cluster.world.now_ms + 90_000)
    cluster.world.start(2)
    cluster.until(2, ITEMS)


def test_all_processes_killed_at_once_lose_nothing_that_was_taken() -> None:
    cluster = Cluster(7)
    cluster.offer(2)
    cluster.until(2, 100)
    for node in SITES:
        cluster.world.crash(node)
    taken = set(cluster.taken)
    for node in SITES:
        cluster.world.start(node)
    cluster.until(2, ITEMS)
    assert not set(cluster.twice()) & taken, "what a node was told to forget is never done again"


def test_the_lone_node_of_a_site_does_its_own_batch() -> None:
    cluster = Cluster(8)
    cluster.offer(4)
    cluster.until(4, ITEMS)
    assert {node for node, _ in cluster.begun} == {4}


def test_two_batches_at_once_are_both_done() -> None:
    cluster = Cluster(9)
    cluster.offer(1)
    cluster.offer(3)
    cluster.until(1, ITEMS)
    cluster.until(3, ITEMS)
    assert Counter(node for node, _ in cluster.delivered) == {1: ITEMS, 3: ITEMS}


def test_completions_that_are_lost_on_their_way_are_said_again() -> None:
    cluster = Cluster(10)
    cluster.offer(2)
    cluster.until(2, 50)
    cluster.world.broker_outage(3_000, keep_retained=False)
    cluster.until(2, ITEMS)
    assert sorted(cluster.delivered) == [(2, item) for item in range(ITEMS)]
    assert cluster.twice() == [], "a broker that was away cost no work"


def test_what_came_of_each_item_is_kept_under_its_number() -> None:
    cluster = Cluster(11)
    cluster.offer(2)
    cluster.until(2, ITEMS)
    data = cluster.world.machines[2].disk.delivered
    assert data[BATCH, 17] == f"2 {BATCH} 17".encode()
    assert len(data) == ITEMS


def test_nodes_of_speeds_one_to_four_end_within_a_tenth_of_the_time_of_each_other() -> None:
    cluster = Cluster(12, room=2)
    speeds = {1: 4, 2: 2, 3: 1}
    for node, speed in speeds.items():
        cluster.world.machines[node].slowness = 4 / speed
    ended: dict[int, int] = {}

    def see(world: World, machine: Machine, action: act.Action) -> None:
        if isinstance(action, act.Deliver):
            ended[action.node] = world.now_ms

    cluster.world.observers.append(see)
    start_ms = cluster.world.now_ms
    cluster.offer(2)
    cluster.until(2, ITEMS)
    took_ms = max(ended.values()) - start_ms
    done = Counter(node for node, _ in cluster.begun)
    assert max(ended.values()) - min(ended.values()) <= took_ms / 10, (ended, start_ms)
    assert done[1] > 2.5 * done[3], f"faster nodes do more: {done}"
