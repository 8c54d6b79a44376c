"""Blobs between virtual machines: whoever fetches one asks its holders in turn, and gives up after a while."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pneumod.core import events as ev
from pneumod.core.jobs import Fetch, Fetched
from pneumod.core.node import Node
from pneumod.sim.clock import Span, draw

if TYPE_CHECKING:
    from pneumod.sim.machine import Machine

FETCH_MS: Span = (20, 300)
ASK_AGAIN_MS = 1_000
GIVE_UP_MS = 15_000


class Transfers:
    """The blobs that one machine fetches and serves."""

    __slots__ = ("fetching", "machine", "number")

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.number = 0
        self.fetching: dict[Fetch, int] = {}  # with their number

    def fetch(self, job: Fetch) -> None:
        machine = self.machine
        self.number += 1
        self.fetching[job] = self.number
        wait_ms = int(draw(machine.world.random, FETCH_MS) * machine.slowness)
        machine.clock.after(wait_ms, self._seek, job, self.number, machine.clock.now_ms + GIVE_UP_MS)

    def cancel(self, job: Fetch) -> None:
        if self.fetching.pop(job, None) is not None:
            self.machine.clock.after(0, self.machine.feed_in, self.machine.life, ev.JobFailed(job, "cancelled"))

    def send(self, digest: str, asker: int) -> bool:
        """Whether this node sends a blob to another one. One that is found to be damaged is told to the core."""
        machine = self.machine
        if machine.node is None or not machine.reachable or not self._may_have(machine.node, digest, asker):
            return False
        whole = digest in machine.disk.blobs or digest in machine.disk.receipts
        if not whole:
            machine.clock.after(0, machine.feed_in, machine.life, ev.BlobsFound(frozenset(machine.disk.blobs)))
        return whole

    def _may_have(self, node: Node, digest: str, asker: int) -> bool:
        """An update is for the master only, the blobs of the run's state and receipts are for all, as in the shell."""
        result = node.state.durable.result
        if result is not None and result.update is not None and result.update.digest == digest:
            return asker == node.leader
        return digest in node.trainee.library.shareable() or digest in self.machine.disk.receipts

    def _seek(self, job: Fetch, number: int, give_up_ms: int) -> None:
        machine, now_ms = self.machine, self.machine.clock.now_ms
        if self.fetching.get(job) != number:
            return
        if now_ms < machine.frozen_until_ms:
            machine.clock.at(machine.frozen_until_ms, self._seek, job, number, give_up_ms)
            return
        others = (machine.world.machines.get(node) for node in job.holders)
        digest = job.blob.digest
        served = machine.reachable and any(m is not None and m.transfers.send(digest, machine.id) for m in others)
        if not served and now_ms < give_up_ms:
            machine.clock.after(ASK_AGAIN_MS, self._seek, job, number, give_up_ms)
            return
        del self.fetching[job]
        if served:
            machine.disk.blobs.add(digest)
            machine.feed(ev.JobDone(job, Fetched()))
        else:
            machine.fail(job, "nobody sent it")
