"""The master's view of the nodes: who lives, what each has reported."""

from __future__ import annotations

from hashlib import blake2b
from itertools import islice

from pneumod.core.election import SILENCE_MS
from pneumod.core.state import State
from pneumod.messages import Beat, Gone, Report

MAX_HEIRS = 8
TWIN_MS = 60_000
MAX_MEMBERS = 10_000  # that a master knows; a round can't have more


class Member:
    """One node as the master knows it."""

    __slots__ = ("beat", "boot", "boot_ms", "connection", "gone", "last_ms", "report", "twin_ms")

    def __init__(self) -> None:
        self.beat: Beat | None = None
        self.report: Report | None = None
        self.boot = self.connection = 0
        self.gone = False
        self.last_ms = 0
        self.boot_ms = 0  # since when it has this boot
        self.twin_ms = -TWIN_MS  # when its having a twin was last told


class Members:
    """All nodes that a master heard of since it leads."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.since_ms = state.now_ms
        self.members: dict[int, Member] = {}
        self._live: list[int] = [state.id]
        self._live_digest = _digest_of(self._live)

    def hear_beat(self, node: int, beat: Beat) -> bool:
        """Note a heartbeat; whether it tells of a change: the node is new, back, or holds another model."""
        member = self.members.get(node)
        if member is None:
            if len(self.members) >= MAX_MEMBERS:
                return False
            member = self.members[node] = Member()
        if self._is_late(member, beat.boot, beat.connection):
            self._suspect(node, member, beat)
            return False  # a late packet of an earlier connection
        last = member.beat
        back = member.gone or last is None
        told = last is not None and (beat.model, beat.checkpoint) != (last.model, last.checkpoint)
        if beat.boot != member.boot:
            member.report, member.boot_ms = None, self.state.now_ms
        member.beat, member.boot, member.connection = beat, beat.boot, beat.connection
        member.last_ms, member.gone = self.state.now_ms, False
        return back or told

    def hear_gone(self, node: int, gone: Gone) -> bool:
        """Note the end of a connection; whether it was the node's current one."""
        member = self.members.get(node)
        if member is None or (gone.boot, gone.connection) < (member.boot, member.connection):
            return False
        member.gone = True
        return True

    def hear_report(self, node: int, report: Report) -> None:
        if node not in self.members and len(self.members) >= MAX_MEMBERS:
            return
        member = self.members.setdefault(node, Member())
        if report.boot != member.boot and not self._is_late(member, report.boot, 0):
            member.boot, member.connection = report.boot, 0
        if report.boot == member.boot:
            member.report, member.last_ms = report, self.state.now_ms

    def is_live(self, node: int) -> bool:
        if node == self.state.id:
            return True
        member = self.members.get(node)
        return (
            member is not None
            and not member.gone
            and (member.beat is not None or member.report is not None)
            and self.state.now_ms - member.last_ms < SILENCE_MS
        )

    def boot(self, node: int) -> int:
        """The start of a node's process that was last heard of; 0 for one that never was."""
        member = self.members.get(node)
        return member.boot if member is not None else 0

    def train_images(self, node: int) -> int | None:
        """How many training images a node has reported, if it has."""
        member = self.members.get(node)
        report = member.report if member is not None else None
        return report.counts.train if report is not None and report.counts is not None else None

    def is_training(self, node: int) -> bool:
        """Whether a node's last beat says so: it knows of the round."""
        member = self.members.get(node)
        return (
            self.is_live(node) and member is not None and member.beat is not None and member.beat.activity == "training"
        )

    def progress(self, node: int) -> float:
        """How much of a round a live node has done by its last beat: scoring the base counts as a tenth of it."""
        member = self.members.get(node)
        beat = member.beat if member is not None and self.is_live(node) else None
        if beat is None or beat.activity not in ("training", "scoring") or beat.progress == 0.0:
            return 0.0
        return 0.1 + 0.9 * beat.progress if beat.activity == "training" else 0.1 * beat.progress

    def lost_ms(self, node: int) -> int:
        """For how long a node has not been heard by this master; 0 for one that lives."""
        if self.is_live(node):
            return 0
        member = self.members.get(node)
        return self.state.now_ms - max(self.since_ms, member.last_ms if member else 0)

    def refresh(self) -> None:
        """Find the live nodes anew: once a beacon, since a cluster may have thousands."""
        live = sorted({n for n in self.members if self.is_live(n)} | {self.state.id})
        if live != self._live:
            self._live, self._live_digest = live, _digest_of(live)

    @property
    def live(self) -> list[int]:
        """Live ids, ascending, oneself among them, as of the last `refresh`."""
        return self._live

    @property
    def live_digest(self) -> str:
        return self._live_digest

    def heirs(self) -> tuple[int, ...]:
        """The lowest live ids but one's own that may claim, ascending."""
        return tuple(islice((n for n in self._live if n != self.state.id and self._is_fit(n)), MAX_HEIRS))

    def reports(self) -> dict[int, Report]:
        """Reports of the live nodes, ascending by id."""
        found = {}
        for node in self._live:
            member = self.members.get(node)
            if member is not None and member.report is not None:
                found[node] = member.report
        return found

    def holds(self, node: int, model: str, checkpoint: str) -> bool:
        """Whether a node's last beat, or its report, says that it has this model and checkpoint on its disk."""
        member = self.members.get(node)
        if member is None:
            return False
        beat, report = member.beat, member.report
        told = report is not None and {model, checkpoint} <= set(report.holds)
        return told or (beat is not None and beat.model == model and beat.checkpoint == checkpoint)

    def _is_fit(self, node: int) -> bool:
        beat = self.members[node].beat
        return beat is None or not beat.unfit

    def _is_late(self, member: Member, boot: int, connection: int) -> bool:
        """Whether a packet is of an earlier connection. A boot goes back where a disk was replaced and a clock lags."""
        if boot < member.boot and self.state.now_ms - member.last_ms >= SILENCE_MS:
            return False
        return (boot, connection) < (member.boot, member.connection)

    def _suspect(self, node: int, member: Member, beat: Beat) -> None:
        """Beats of an earlier boot that go on are another daemon's: an id was copied with a configuration."""
        now = self.state.now_ms
        if beat.boot < member.boot and now - member.boot_ms >= SILENCE_MS and now - member.twin_ms >= TWIN_MS:
            member.twin_ms = now
            text = f"two daemons use node id {node}: stop one of them, or give it an id of its own"
            self.state.log("master", text, "warning")


def _digest_of(ids: list[int]) -> str:
    return blake2b(",".join(map(str, ids)).encode(), digest_size=32).hexdigest()
