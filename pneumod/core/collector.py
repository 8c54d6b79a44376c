"""One open round, as its master sees it: who is in, who is out and why, when it is over.

An answer goes through three steps: its TrainResult came, its update was fetched, the update was checked.
"""

from __future__ import annotations

from collections import Counter, deque
from itertools import pairwise

from pneumod.core.jobs import Check, Fetch, Job
from pneumod.core.membership import Members
from pneumod.core.state import State
from pneumod.messages import LeftOut, RoundOpen, Takeover, TrainResult

REJOIN_MS = 15_000  # how long a round that is else complete waits for a node that died
SLACK_BYTES = 64 * 1024  # of an update over its base: another header
MAX_RESTARTS = 3  # of a node that has not answered; then it is not waited for
MAX_LOST = 3  # fetches, or checks, of one node's update that fail: then it doesn't count
MAX_PENDING = 8  # fetches and checks under way at one time
MAX_FETCHES = 4  # updates on their way to the master at one time
PUT_OFF_FACTOR = 1.5  # of the time that a slow node seems to need still
SHORTEST_PUT_OFF_MS = 10_000
MAX_TOLD = 8  # nodes that a line of the log names
LONGEST_ROUND_MS = 24 * 3_600_000
STEP = 0.01  # a slow node that is not so much further than at the last deadline is not waited for again


class Collector:
    """The answers to one RoundOpen."""

    def __init__(self, state: State, members: Members, opened: RoundOpen, absent: dict[int, str]) -> None:
        self.state = state
        self.members = members
        self.opened = opened
        self.absent = absent  # who could not be asked, and why
        self.opened_ms = state.now_ms
        self.deadline_at_ms = state.now_ms + opened.deadline_ms
        self.anew: Counter[int] = Counter()  # times that a node that was put off for began its training again
        self.looks: dict[int, tuple[float, int]] = {}  # at slow nodes: how much was done, and when
        self.answered_ms = 0  # from the opening until the last answer that counts
        self.results: dict[int, TrainResult] = {}
        self.accepted: dict[int, TrainResult] = {}
        self.refused: dict[int, str] = {}
        self.waiting: deque[int] = deque()  # nodes whose answers are to be fetched or checked
        self.pending: dict[Job, int] = {}  # fetches and checks under way, with their node
        self.boots: dict[int, set[int]] = {}  # of nodes that have not answered
        self.lost: Counter[Job] = Counter()  # fetches and checks that failed

    def hear_result(self, node: int, result: TrainResult) -> None:
        """Take an answer; its update is fetched from the sender."""
        if result.key != self.opened.key or node not in self.opened.who:
            return
        if node in self.results or node in self.refused:
            return
        if result.failed is not None:
            self._refuse(node, result.failed)
            return
        if self.opened.train and (result.update is None or result.samples == 0):
            self._refuse(node, "an answer without an update")
            return
        if result.update is not None and result.update.size_bytes > self.opened.base.size_bytes + SLACK_BYTES:
            self._refuse(node, "an update larger than the model")
            return
        images = self.members.train_images(node)
        if images is not None and result.samples > images:
            self._refuse(node, "more samples than the node reported")
            return
        self.results[node] = result
        self.waiting.append(node)
        self.fetch()

    def job_done(self, job: Job) -> bool:
        """Whether the job was one of this round's."""
        node = self.pending.pop(job, None)
        if node is None:
            return False
        if isinstance(job, Fetch):
            self.state.held.add(job.blob.digest)
            self.waiting.appendleft(node)
        elif isinstance(job, Check):
            self._accept(node)
        self.fetch()
        return True

    def job_failed(self, job: Job, why: str, again: bool) -> bool:
        """Whether the job was one of this round's. Only a bad update leaves its node out at once."""
        node = self.pending.pop(job, None)
        if node is None:
            return False
        self.lost[job] += 1
        if isinstance(job, Check):
            again = again or not {self.opened.base.digest, job.update.digest} <= self.state.held
        if self.lost[job] >= MAX_LOST or not (again or isinstance(job, Fetch)):
            del self.results[node]
            self._refuse(node, why)
        elif isinstance(job, Fetch):
            del self.results[node]
        else:
            self.waiting.appendleft(node)
        self.fetch()
        return True

    @property
    def is_complete(self) -> bool:
        """Whether everyone's answer counts or is refused."""
        return len(self.accepted) + len(self.refused) >= len(self.opened.who)

    def over(self) -> bool:
        """Whether nobody is worth waiting for: all are in, out, or dead for long enough."""
        for node, (seen, _) in self.looks.items():
            if 0.0 < self.members.progress(node) < seen:  # it began anew
                self.looks[node] = (self.members.progress(node), self.state.now_ms)
                self.anew[node] += 1
        if self.opened.base.digest in self.state.held and any(node in self.results for node in self.missing()):
            return self.state.now_ms >= self.opened_ms + LONGEST_ROUND_MS  # its update is on its way
        if self.state.now_ms >= self.deadline_at_ms:
            self._put_off()
        if self.state.now_ms >= self.deadline_at_ms:
            return True
        return all(n not in self.results and self._is_given_up(n) for n in self.missing())

    def lacks(self, node: int) -> bool:
        """Whether a node of this round has not answered."""
        return node in self.opened.who and node not in self.results and node not in self.refused

    def missing(self) -> list[int]:
        return [n for n in self.opened.who if n not in self.accepted and n not in self.refused]

    def left_out(self) -> tuple[LeftOut, ...]:
        """Who doesn't count and why, ascending by node."""
        reasons = {**self.absent, **self.refused}
        for node in self.missing():
            late = "no answer by the deadline" if self.members.is_live(node) else "gone"
            late = "came and went" if len(self.boots.get(node, ())) > MAX_RESTARTS else late
            reasons[node] = "its update did not arrive" if node in self.results else late
        return tuple(LeftOut(node, reasons[node]) for node in sorted(reasons))

    def shortfall(self, needed: int) -> str:
        """Why a round with too few answers is abandoned."""
        out = "; ".join(f"node {one.node}: {one.why}" for one in self.left_out())
        return f"round {self.opened.round} abandoned, {len(self.accepted)} of {needed} answers: {out}"[:400]

    def takeovers(self) -> tuple[Takeover, ...]:
        """The masters that this round went through, with the updates that each inherited."""
        terms = self.opened.terms
        return tuple(
            Takeover(old, new, sum(r.trained_term <= old for r in self.accepted.values()))
            for old, new in pairwise(terms)
        )

    def _is_given_up(self, node: int) -> bool:
        """Whether a node is away for long, or starts again and again without getting anything done."""
        boots = self.boots.setdefault(node, set())
        if len(boots) <= MAX_RESTARTS:
            boots.add(self.members.boot(node))
        return self.members.lost_ms(node) >= REJOIN_MS or len(boots) > MAX_RESTARTS

    def _put_off(self) -> None:
        """Give slow nodes that get on the time that they seem to need: who works is not dropped in silence."""
        now, wait_ms, slow = self.state.now_ms, 0.0, []
        for node in [n for n in self.missing() if self.anew[n] < MAX_RESTARTS]:
            done, (seen, since_ms) = self.members.progress(node), self.looks.get(node, (0.0, self.opened_ms))
            if done >= seen + STEP:
                slow.append(node)
                self.looks[node] = (done, now)
                needed_ms = PUT_OFF_FACTOR * (now - since_ms) * (1 - done) / (done - seen)
                wait_ms = max(wait_ms, needed_ms, SHORTEST_PUT_OFF_MS)
        until_ms = min(now + int(wait_ms), self.opened_ms + LONGEST_ROUND_MS)
        if until_ms <= now:
            return
        self.deadline_at_ms = until_ms
        told = ", ".join(f"node {n} has done {self.looks[n][0]:.0%}" for n in slow[:MAX_TOLD])
        text = f"round {self.opened.round}: {told}; its deadline is put off by {(until_ms - now) // 1_000} s"
        self.state.log("master", text, "warning")

    def fetch(self) -> None:
        """Fetch and check the updates that came, in their order, a few at a time; a round that only scores has none."""
        while self.waiting and len(self.pending) < MAX_PENDING:
            node = self.waiting[0]
            update, samples = self.results[node].update, self.results[node].samples
            if update is None:
                self._accept(node)
            elif update.digest not in self.state.held:
                if sum(isinstance(job, Fetch) for job in self.pending) >= MAX_FETCHES:
                    return
                self._begin(Fetch(update, (node,), announced=False), node)
            elif self.opened.base.digest in self.state.held:
                self._begin(Check(node, update, samples, self.opened), node)
            else:
                return  # the base was damaged, and is fetched again
            self.waiting.popleft()

    def _accept(self, node: int) -> None:
        self.accepted[node] = self.results[node]
        self.answered_ms = self.state.now_ms - self.opened_ms

    def _begin(self, job: Job, node: int) -> None:
        self.pending[job] = node
        self.state.start(job)

    def _refuse(self, node: int, why: str) -> None:
        self.refused[node] = why[:200]
        self.state.log("master", f"round {self.opened.round}: node {node} is left out: {why}", "warning")
