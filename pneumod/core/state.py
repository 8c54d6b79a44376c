"""What the parts of one node share: who it is, what it remembers, what it holds, what it wants done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from pneumod.core.actions import Action, Cancel, Durable, Log, Persist, Publish, Start
from pneumod.core.events import JobProgress, Vitals
from pneumod.core.jobs import Job
from pneumod.messages import NO_TERM, ClassCounts, Message, RoundClosed, RunSpec, Term


class State:
    """Plain shared data with a few verbs; every decision is made by the parts."""

    def __init__(
        self,
        node_id: int,
        place: int,
        boot: int,
        durable: Durable,
        held: frozenset[str],
        sites: Mapping[int, str] | None = None,
    ) -> None:
        self.id = node_id
        self.sites = sites or {}  # by node, from this machine's own configuration; empty: anyone may take part
        self.place = place
        self.boot = boot
        self.durable = durable
        self.held = set(held)
        self.now_ms = 0
        self.connection = 0
        self.connected = False
        self.at_home = False  # the broker is one of this node's site: images may travel over it
        self.echoed = False  # leading: its beacon came back, so it is heard, and not alone behind a dead line
        self.no_claim_before_ms = 0  # this machine is in a bad way, and leads nobody
        self.counts: ClassCounts | None = None  # None until the images are prepared
        self.trained_ms = 0
        self.vitals = Vitals(0.0, 0, 0, 0)
        self.passed_on: tuple[str, int] | None = None  # run and round that this node could not close
        self.running: dict[Job, None] = {}  # in the order of their start
        self.progress: dict[Job, JobProgress] = {}  # of those that told
        self.cancelled: list[Job] = []  # their end is still to come
        self.actions: list[Action] = []

    def same_site(self, one: int, other: int) -> bool:
        """Whether images may travel between two nodes. Without a roster a node is at home with itself only."""
        return one == other or (one in self.sites and self.sites[one] == self.sites.get(other))

    def holds(self, closed: RoundClosed) -> bool:
        """Whether the model and the checkpoint after a round are on this disk."""
        return {closed.model.digest, closed.checkpoint.digest} <= self.held

    def take(self) -> list[Action]:
        actions, self.actions = self.actions, []
        return actions

    def remember(self, **changes: object) -> None:
        """Change what must outlive a crash."""
        self.durable = msgspec.structs.replace(self.durable, **changes)
        self.actions.append(Persist(self.durable))

    def say(self, kind: str, message: Message | None, dest: str | None = None, correlation: bytes = b"") -> None:
        self.actions.append(Publish(kind, self.durable.term, message, dest, correlation))

    def start(self, job: Job) -> None:
        """Start a job unless the same one runs already."""
        if job not in self.running:
            self.running[job] = None
            self.actions.append(Start(job))

    def cancel(self, job: Job) -> None:
        del self.running[job]
        self.cancelled.append(job)
        self.actions.append(Cancel(job))

    def end(self, job: Job) -> bool:
        """Note that a job ended; False if it had been cancelled, so that its end means nothing."""
        self.progress.pop(job, None)
        if job in self.cancelled:
            self.cancelled.remove(job)
            return False
        del self.running[job]
        return True

    def log(
        self, component: Literal["master", "worker", "train"], text: str, level: Literal["info", "warning"] = "info"
    ) -> None:
        self.actions.append(Log(component, level, text))


Standing = tuple[int, Term, int, bool]


def standing(spec: RunSpec | None, closed: RoundClosed | None) -> Standing:
    """How far a node's knowledge of the run goes, ordered: later run, later reign, later round, ended."""
    number = spec.number if spec else 0
    if closed is None or closed.number != number:
        return (number, NO_TERM, -1, spec is not None and spec.ended is not None)
    return (number, closed.term, closed.round, closed.ended is not None)
