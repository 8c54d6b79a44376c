"""The judges of leased work and of what piles up really judge."""

from __future__ import annotations

import msgspec
import pytest

from pneumod.core import leases, owner
from pneumod.core.actions import Log, Publish
from pneumod.core.jobs import Job, Prepare
from pneumod.core.leases import Leases
from pneumod.core.library import Library
from pneumod.core.node import Node
from pneumod.core.owner import Owner
from pneumod.core.state import State
from pneumod.messages import Offer
from pneumod.sim.world import World
from tests.sim.mutants import found_out

Patch = pytest.MonkeyPatch


def commit_with(monkeypatch: Patch, bits_of: object) -> None:
    """The owner persists other bits than those of what was delivered."""
    commit = Owner._commit

    def wrong(self: Owner, batch: Offer) -> Offer:
        known = commit(self, batch)
        assert callable(bits_of)
        known = msgspec.structs.replace(known, done=bits_of(known))
        self.state.remember(batch=known)
        return known

    monkeypatch.setattr(Owner, "_commit", wrong)


def test_found_out_taking_an_item_twice(monkeypatch: Patch) -> None:
    monkeypatch.setattr(owner, "is_done", lambda offer, item: False)
    found_out("is done twice", monkeypatch)


def test_found_out_calling_an_item_done_that_is_not(monkeypatch: Patch) -> None:
    commit_with(monkeypatch, lambda batch: b"\xff" * -(-batch.items // 8))
    found_out("nothing came of it", monkeypatch)


def test_found_out_forgetting_that_an_item_is_done(monkeypatch: Patch) -> None:
    commit_with(monkeypatch, lambda batch: b"")
    found_out("was done, and isn't any more", monkeypatch)


def test_found_out_an_item_that_leaves_its_site(monkeypatch: Patch) -> None:
    monkeypatch.setattr(State, "same_site", lambda state, one, other: True)
    found_out("leaves its site", monkeypatch)


def test_found_out_work_over_a_broker_of_another_site(monkeypatch: Patch) -> None:
    connect = World.is_home

    def careless(world: World, node_id: int) -> bool:
        return connect(world, node_id) or node_id in world.sites

    monkeypatch.setattr(World, "is_home", careless)
    found_out("over a broker of another site", monkeypatch)


def test_found_out_a_batch_that_is_not_withdrawn(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Owner, "withdraw", lambda self: None)
    found_out("no end in sight: items of node", monkeypatch)


def test_found_out_granting_what_another_node_holds(monkeypatch: Patch) -> None:
    monkeypatch.setattr(leases, "LEASE_MS", 1)
    found_out("is granted twice", monkeypatch)


def test_found_out_an_owner_that_does_not_tell_what_is_done(monkeypatch: Patch) -> None:
    """It offers its batch as it was in the beginning."""
    tick = Owner.tick

    def silent(self: Owner) -> None:
        tick(self)
        for number, action in enumerate(self.state.actions):
            if isinstance(action, Publish) and isinstance(action.message, Offer):
                forgetful = msgspec.structs.replace(action.message, done=b"")
                self.state.actions[number] = msgspec.structs.replace(action, message=forgetful)

    monkeypatch.setattr(Owner, "tick", silent)
    found_out("was done long ago", monkeypatch)


def test_found_out_items_that_nobody_does(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Leases, "_pulled", lambda *_: None)
    found_out("no end in sight: items of node", monkeypatch)


# ---- what piles up ----


def test_found_out_blobs_that_nobody_lets_go(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Library, "tidy", lambda library: None)
    found_out("blobs held", monkeypatch)


def test_found_out_jobs_that_are_never_forgotten(monkeypatch: Patch) -> None:
    end = State.end

    def lasting(state: State, job: Job) -> bool:
        state.cancelled.append(Prepare(state.now_ms))
        return end(state, job)

    monkeypatch.setattr(State, "end", lasting)
    found_out("jobs", monkeypatch)


def test_found_out_a_reason_for_every_message(monkeypatch: Patch) -> None:
    admit = Node._admit

    def wordy(node: Node, event: object) -> bool:
        admitted = admit(node, event)  # type: ignore[arg-type]
        if not admitted:
            node.dropped[f"refused at {node.state.now_ms}"] = 1
        return admitted

    monkeypatch.setattr(Node, "_admit", wordy)
    found_out("reasons", monkeypatch)


def test_found_out_actions_that_wait_for_a_slow_disk(monkeypatch: Patch) -> None:
    tick = Node._tick

    def talkative(node: Node) -> None:
        tick(node)
        node.state.actions += [Log("worker", "info", "well")] * 2_000

    monkeypatch.setattr(Node, "_tick", talkative)
    found_out("actions", monkeypatch)
