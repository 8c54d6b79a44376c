"""A node's own work on leased items: pull as there is room, renew, do, deliver.

An item is held from its grant until its owner takes what came of it; a master that changes meanwhile learns
of it by the next pull.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from pneumod.core.jobs import Work
from pneumod.core.state import State
from pneumod.messages import Done, Grant, Pull, Taken
from pneumod.work import DATA_BYTES, MAX_HELD, Skill

PULL_MS = 1_000  # between two pulls, while there is work or something is held
HURRY_MS = 50
SAY_AGAIN_MS = 2_000
MAX_SAID = 30  # times that a completion is said; then its owner is gone, and offers the item again when it is back

Key = tuple[int, str, int]  # owner, batch, item


class Held(Struct):
    """One item that this node holds."""

    done: Done | None = None  # None: it is being worked on
    said: int = 0
    say_at_ms: int = 0


class Puller:
    """The items of one node."""

    def __init__(self, state: State, skills: tuple[Skill, ...], room: int, take: Callable[[int, Done], None]) -> None:
        self.state = state
        self.take = take  # what came of an item of one's own batch: no broker has to carry it
        self.skills = skills
        self.room = min(room, MAX_HELD)  # items to have in work at one time; 0: this node pulls nothing
        self.held: dict[Key, Held] = {}
        self.leader: int | None = None
        self.is_open = False  # the master has items
        self.pull_at_ms = 0

    def deadline_ms(self) -> int | None:
        if not self.state.connected:
            return None
        dues = [held.say_at_ms for held in self.held.values() if held.done is not None and self.state.at_home]
        if self._pulls():
            dues.append(self.pull_at_ms)
        return min(dues, default=None)

    def obey(self, leader: int | None, is_open: bool) -> None:
        """Who leads now, and whether that master has items."""
        if leader != self.leader:
            self.pull_at_ms = self.state.now_ms
        self.leader, self.is_open = leader, is_open

    def hear_grant(self, grant: Grant) -> None:
        """Begin with what was granted; nothing is done for a node of another site, or over a broker of another."""
        of_site = self.state.at_home and self.state.same_site(self.state.id, grant.owner)
        if not of_site or grant.skill not in self.skills:
            return
        for item in grant.items:
            key = (grant.owner, grant.batch, item)
            if key not in self.held and self._free() > 0:
                self.held[key] = Held()
                self.state.start(Work(grant.owner, grant.batch, grant.skill, item))

    def hear_taken(self, owner: int, taken: Taken) -> None:
        if self.held.pop((owner, taken.batch, taken.item), None) is not None:
            for job in [job for job in self.state.running if isinstance(job, Work)]:
                if (job.owner, job.batch, job.item) == (owner, taken.batch, taken.item):
                    self.state.cancel(job)  # somebody else has done it
            self.pull_at_ms = min(self.pull_at_ms, self.state.now_ms + HURRY_MS)  # one pull for a group

    def job_done(self, job: Work, data: bytes) -> None:
        if len(data) > DATA_BYTES:
            self.job_failed(job, f"{len(data)} bytes came of it; {DATA_BYTES} are the limit")
        else:
            self._deliver(job, Done(job.batch, job.item, data))

    def job_failed(self, job: Work, why: str) -> None:
        self._deliver(job, Done(job.batch, job.item, b"", why[:400]))

    def tick(self) -> None:
        now = self.state.now_ms
        if not self.state.connected:
            return
        for key, held in list(self.held.items()):
            if held.done is None or now < held.say_at_ms or not self.state.at_home:
                continue
            if held.said >= MAX_SAID:
                del self.held[key]
                continue
            held.said, held.say_at_ms = held.said + 1, now + SAY_AGAIN_MS
            if key[0] == self.state.id:
                self.take(key[0], held.done)
            else:
                self.state.say("done", held.done, dest=str(key[0]))
        if self._pulls() and now >= self.pull_at_ms:
            self.pull_at_ms = now + PULL_MS
            self.state.say("pull", Pull(self._free(), self.skills, tuple(self.held)), dest=str(self.leader))

    def _free(self) -> int:
        """Room for more items. What is done and not yet taken takes none, or the owner's disk would set the pace."""
        working = sum(held.done is None for held in self.held.values())
        return min(self.room - working, MAX_HELD - len(self.held))

    def _pulls(self) -> bool:
        may = self.leader is not None and self.state.connected and self.state.at_home
        return may and bool(self.held or (self.is_open and self.room))

    def _deliver(self, job: Work, done: Done) -> None:
        held = self.held.get((job.owner, job.batch, job.item))
        if held is not None:
            held.done, held.say_at_ms = done, self.state.now_ms
            self.pull_at_ms = min(self.pull_at_ms, self.state.now_ms + HURRY_MS)
