"""A node's part in the work of its site: the batch that it offers, and the items that it pulled."""

from __future__ import annotations

from pneumod.core.jobs import Work, Worked
from pneumod.core.owner import Owner
from pneumod.core.puller import Puller
from pneumod.core.state import State
from pneumod.messages import Done, Grant, Message, Taken
from pneumod.work import Skill


class Crew:
    """Owner and Puller. What comes of a node's own item goes from the one to the other; all else goes over the bus."""

    def __init__(self, state: State, skills: tuple[Skill, ...], room: int) -> None:
        self.owner = Owner(state)
        self.puller = Puller(state, skills, room, self.owner.hear_done)

    def deadline_ms(self) -> int | None:
        owner_ms, puller_ms = self.owner.deadline_ms(), self.puller.deadline_ms()
        if owner_ms is None or puller_ms is None:
            return owner_ms if puller_ms is None else puller_ms
        return min(owner_ms, puller_ms)

    def obey(self, leader: int | None, is_open: bool) -> None:
        """Who leads now, and whether that master has items."""
        self.owner.obey(leader, is_open)
        self.puller.obey(leader, is_open)

    def hear(self, node: int, message: Message) -> None:
        match message:
            case Grant():
                self.puller.hear_grant(message)
            case Done():
                self.owner.hear_done(node, message)
            case Taken():
                self.puller.hear_taken(node, message)

    def job_done(self, job: Work, outcome: object) -> None:
        assert isinstance(outcome, Worked), "an item came to something else"
        self.puller.job_done(job, outcome.data)

    def tick(self) -> None:
        self.owner.tick()
        self.puller.tick()
