"""Judges that stand outside the core: they see what nodes do, not why. These judge every single action."""

from __future__ import annotations

from collections import Counter

from pneumod.core import actions as act
from pneumod.core import events as ev
from pneumod.core.jobs import Check, Close, Closed, Train
from pneumod.messages import NO_TERM, Beacon, RoundClosed, RunSpec, StartRun, Term, TrainResult
from pneumod.sim.children import DIED, HUNG, blob, outcome_of
from pneumod.sim.machine import Machine
from pneumod.sim.world import World

MASTERS_WORD = {"beacon", "spec", "open", "reopen", "closed", "grant"}

TRIES = 3  # of a check, before its node is left out
FIRST_HEIRS = 2  # they hold the newest state
FOREIGN_RUN = "foreign"  # of another cluster; it comes with a disk
Standing = tuple[int, Term, int, bool]  # of a run's state, ordered: number of the run, reign, round, whether it ended
NOTHING: Standing = (0, NO_TERM, -1, False)


class Violation(AssertionError):
    """A promise of the cluster was broken."""


def standing_of(durable: act.Durable) -> Standing:
    """How far a node's disk has come."""
    spec, closed = durable.spec, durable.closed
    if spec is None:
        return NOTHING
    if closed is None or closed.number != spec.number:
        return (spec.number, NO_TERM, -1, spec.ended is not None)
    return (spec.number, closed.term, closed.round, closed.ended is not None)


class Terms:
    """One master a term; nothing is said under a term that isn't persisted; no node's term or state goes back."""

    def __init__(self, world: World) -> None:
        self.masters: dict[Term, tuple[int, int]] = {}  # node and life of the process
        self.terms: dict[int, Term] = {}
        self.standings: dict[int, tuple[str, Standing]] = {}  # with the run

    def forget(self, node: int) -> None:
        self.standings.pop(node, None)
        self.terms.pop(node, None)

    def see(self, world: World, machine: Machine, action: act.Action) -> None:
        if isinstance(action, act.Persist):
            self._persist(machine, action.durable)
        elif isinstance(action, act.Publish):
            self._publish(machine, action)

    def _persist(self, machine: Machine, durable: act.Durable) -> None:
        now, name = standing_of(durable), durable.spec.run if durable.spec else ""
        run, before = self.standings.get(machine.id, ("", NOTHING))
        if now < before and (name == run or now[0] < before[0]):  # of two runs of one number the master's counts
            raise Violation(f"node {machine.id}: the run's state goes back to {now}")
        if durable.term < self.terms.get(machine.id, NO_TERM):
            raise Violation(f"node {machine.id}: the term goes back")
        self.standings[machine.id], self.terms[machine.id] = (name, now), durable.term

    def _publish(self, machine: Machine, action: act.Publish) -> None:
        if action.term > machine.durable.term:
            raise Violation(f"node {machine.id} uses a term that it has not persisted")
        answer = action.message if isinstance(action.message, TrainResult) else None
        if answer is not None and answer.failed is None and machine.durable.result != answer:
            raise Violation(f"node {machine.id} answers with a result that it has not persisted")
        if action.kind not in MASTERS_WORD or action.message is None:
            return
        if action.term.node != machine.id:
            raise Violation(f"node {machine.id} speaks as the master of another's term")
        if isinstance(action.message, Beacon):
            reign = (machine.id, machine.life)
            if self.masters.setdefault(action.term, reign) != reign:
                raise Violation(f"node {machine.id} leads twice under the term {action.term}")


class Training:
    """What was trained, and is on a disk that lives, is never trained again."""

    def __init__(self, world: World) -> None:
        self.trained: dict[tuple[int, tuple[str, int, str]], str | None] = {}  # by node and work: the update
        self.rotten: set[tuple[int, str]] = set()  # node and blob

    def forget(self, node: int) -> None:
        self.trained = {one: update for one, update in self.trained.items() if one[0] != node}

    def rots(self, node: int, digest: str) -> None:
        """A blob can't be read any more; if it is an update, it may be made again."""
        self.rotten.add((node, digest))

    def see(self, world: World, machine: Machine, action: act.Action) -> None:
        if isinstance(action, act.Persist) and action.durable.result is not None:
            result = action.durable.result
            update = result.update.digest if result.update is not None else None
            self.trained[machine.id, result.key] = update
            if update in machine.blobs:
                self.rotten.discard((machine.id, update or ""))
        elif isinstance(action, act.Start) and isinstance(action.job, Train):
            work = (machine.id, action.job.opened.key)
            if work in self.trained and (machine.id, self.trained[work]) not in self.rotten:
                raise Violation(f"node {machine.id} trains {action.job.opened.key} again")


class Rounds:
    """What a round is closed on, and the chain of the receipts."""

    def __init__(self, world: World) -> None:
        self.min_nodes: dict[str, int] = {}  # that the operator asked for, by run
        self.previous: dict[str, str | None] = {}  # of each receipt, by digest
        self.broken: Counter[tuple[int, int, tuple[str, int, str], int]] = Counter()  # master, its life, round, node
        world.watchers.append(self._breaks)

    def asked(self, request: StartRun) -> None:
        self.min_nodes[request.run] = request.settings.min_nodes

    def forget(self, node: int) -> None:
        """A lost disk doesn't matter here."""

    def see(self, world: World, machine: Machine, action: act.Action) -> None:
        if isinstance(action, act.Start) and isinstance(action.job, Close):
            self._close(machine, action.job)
        elif isinstance(action, act.Publish) and isinstance(action.message, RoundClosed):
            self._published(machine, action.message)

    def _close(self, machine: Machine, job: Close) -> None:
        nodes = [c.node for c in job.contributions]
        if len(nodes) != len(set(nodes)) or len(nodes) < self.min_nodes.get(job.opened.run, 1):
            raise Violation(f"round {job.opened.round} closes on nodes {nodes}")
        for c in job.contributions:
            if c.update is not None and c.update != blob("update", job.opened.key, c.node):
                raise Violation(f"an update of node {c.node} counts under the wrong base")
        for one in job.left_out:
            tried = self.broken[machine.id, machine.life, job.opened.key, one.node]
            if one.why in (DIED, HUNG) and tried < TRIES:
                raise Violation(f"node {one.node} is left out, for the master's child broke {tried} times")
        if job.opened.base != job.previous.model or job.opened.round != job.previous.round + 1:
            raise Violation(f"round {job.opened.round} closes on the state of round {job.previous.round}")
        outcome = outcome_of(job, machine.id)
        assert isinstance(outcome, Closed)
        self.previous[outcome.receipt.digest] = job.previous.receipt.digest if job.previous.receipt else None

    def _breaks(self, machine: Machine, event: ev.Event) -> None:
        """A check whose child died or hung tells nothing of the update."""
        if isinstance(event, ev.JobFailed) and isinstance(event.job, Check) and event.again:
            self.broken[machine.id, machine.life, event.job.opened.key, event.job.node] += 1

    def _published(self, machine: Machine, closed: RoundClosed) -> None:
        if closed.run == FOREIGN_RUN:
            return
        receipt, length = closed.receipt.digest if closed.receipt else None, 0
        while receipt in self.previous:
            receipt, length = self.previous[receipt], length + 1
        if receipt is not None or length != closed.round:
            raise Violation(f"node {machine.id}: the receipts of round {closed.round} are a chain of {length}")


class Survival:
    """The server's state outlives its masters."""

    HANDING_MS = 9_000  # a master waits so long for its heirs to store a new model, from when it is said to all
    STEADY_MS = 5_000  # who is connected for so long without a stop has told a master what it knows
    ROUGH_MS = 40_000  # the same, where messages are held up or writes take seconds

    def __init__(self, world: World) -> None:
        slow = any(machine.disk.wear.slow for machine in world.machines.values())
        self.steady_ms = self.ROUGH_MS if slow or world.bus.weather.reorder else self.STEADY_MS
        self.handing_ms = 0 if slow else self.HANDING_MS  # a slow disk keeps back what masters and heirs say
        self.said_ms: dict[tuple[Term, int, int], int] = {}  # a state of a run, by who said it first when, and round
        self.opened: set[tuple[str, int, str]] = set()  # rounds
        self.rotten: set[tuple[int, str]] = set()  # node and blob: its beats may name what can't be read any more
        self.runs: set[str] = set()
        self.world = world
        world.watchers.append(self._opens)  # when it is decided: a slow disk may keep back what is said

    def forget(self, node: int) -> None:
        """A lost disk doesn't matter here: what a disk holds is looked at when it counts."""

    def rots(self, node: int, digest: str) -> None:
        self.rotten.add((node, digest))

    def see(self, world: World, machine: Machine, action: act.Action) -> None:
        if not isinstance(action, act.Publish):
            return
        match action.message:
            case RunSpec() as spec if spec.run not in self.runs | {FOREIGN_RUN}:
                self.runs.add(spec.run)
                self._starts(world, machine, spec)
            case RoundClosed() as closed:
                said = (action.term, closed.number, closed.round)
                if said not in self.said_ms and closed.term == action.term:
                    self._closes(world, machine, closed)
                self.said_ms.setdefault(said, world.now_ms)

    def _starts(self, world: World, machine: Machine, spec: RunSpec) -> None:
        """A new run: its number is above that of every run that the master could hear of."""
        for other in world.machines.values():
            known = other.durable.spec
            if known is None or known.run in (spec.run, FOREIGN_RUN) or other.steady_ms < self.steady_ms:
                continue
            if known.number >= spec.number:
                raise Violation(f"node {machine.id} starts run {spec.number}, node {other.id} knows run {known.number}")

    def _closes(self, world: World, machine: Machine, closed: RoundClosed) -> None:
        """A new state: no node that the master could hear may know a later one."""
        for other in world.machines.values():
            known = other.durable.closed
            if other is machine or known is None or known.number != closed.number or other.steady_ms < self.steady_ms:
                continue
            later = known.round >= closed.round if closed.ended is None else known.round > closed.round
            if known.term < closed.term and (later or known.ended is not None):
                what = "the end" if known.ended is not None else f"round {known.round}"
                raise Violation(f"node {machine.id} closes round {closed.round}, node {other.id} knows {what}")

    def _opens(self, machine: Machine, event: ev.Event) -> None:
        """A round that nobody opened before: the first heirs hold the model before it, or had their time."""
        node = machine.node
        opened = node.state.durable.opened if node is not None and node.conductor is not None else None
        if node is None or node.conductor is None or opened is None or opened.key in self.opened:
            return
        self.opened.add(opened.key)
        durable, now_ms = node.state.durable, self.world.now_ms
        closed = durable.closed
        assert closed is not None
        said_ms = self.said_ms.get((durable.term, closed.number, closed.round), now_ms)
        if now_ms - said_ms >= self.handing_ms:
            return
        for heir in node.conductor.members.heirs()[:FIRST_HEIRS]:
            other = self.world.machines[heir]
            lacks = {closed.model.digest, closed.checkpoint.digest} - other.blobs
            known = any((heir, digest) not in self.rotten for digest in lacks)
            if known and other.steady_ms >= self.steady_ms:
                raise Violation(f"node {machine.id} opens the next round, and heir {heir} lacks round {closed.round}")
