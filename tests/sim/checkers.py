"""Judges that stand outside the core: they see what nodes do, not why. These judge every single action."""

from __future__ import annotations

from pneumod.core import actions as act
from pneumod.core.jobs import Close, Closed, Train
from pneumod.core.state import Standing, standing
from pneumod.messages import NO_TERM, Beacon, RoundClosed, RunSpec, StartRun, Term
from pneumod.sim.children import blob, outcome_of
from pneumod.sim.machine import Machine
from pneumod.sim.world import World

MASTERS_WORD = {"beacon", "spec", "open", "reopen", "closed", "grant"}

FOREIGN_RUN = "foreign"  # of another cluster; it comes with a disk
NOTHING: Standing = (0, NO_TERM, -1, False)


class Violation(AssertionError):
    """A promise of the cluster was broken."""


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
        now, name = standing(durable.spec, durable.closed), durable.spec.run if durable.spec else ""
        run, before = self.standings.get(machine.id, ("", NOTHING))
        if now < before and (name == run or now[0] < before[0]):  # of two runs of one number the master's counts
            raise Violation(f"node {machine.id}: the run's state goes back to {now}")
        if durable.term < self.terms.get(machine.id, NO_TERM):
            raise Violation(f"node {machine.id}: the term goes back")
        self.standings[machine.id], self.terms[machine.id] = (name, now), durable.term

    def _publish(self, machine: Machine, action: act.Publish) -> None:
        if action.term > machine.durable.term:
            raise Violation(f"node {machine.id} uses a term that it has not persisted")
        if action.kind == "result" and action.message is not None and machine.durable.result != action.message:
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
        if job.opened.base != job.previous.model or job.opened.round != job.previous.round + 1:
            raise Violation(f"round {job.opened.round} closes on the state of round {job.previous.round}")
        outcome = outcome_of(job, machine.id)
        assert isinstance(outcome, Closed)
        self.previous[outcome.receipt.digest] = job.previous.receipt.digest if job.previous.receipt else None

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
        self.handing_ms = 0 if slow else self.HANDING_MS  # a slow disk keeps back what a master says
        self.closed_ms: dict[tuple[Term, int, int], int] = {}  # first said when, by reign, run and round
        self.opened: set[tuple[Term, int, int]] = set()
        self.beacons: dict[int, Beacon] = {}
        self.runs: set[str] = set()

    def forget(self, node: int) -> None:
        """A lost disk doesn't matter here: what a disk holds is looked at when it counts."""

    def see(self, world: World, machine: Machine, action: act.Action) -> None:
        if not isinstance(action, act.Publish):
            return
        match action.message:
            case Beacon() as beacon:
                self.beacons[machine.id] = beacon
            case RunSpec() as spec if spec.run not in self.runs | {FOREIGN_RUN}:
                self.runs.add(spec.run)
                self._starts(world, machine, spec)
            case RoundClosed() as closed if closed.term == action.term:
                reign = (action.term, closed.number, closed.round)
                if reign not in self.closed_ms:
                    self.closed_ms[reign] = world.now_ms
                    self._closes(world, machine, closed)
        if action.kind == "open" and action.message is not None:
            self._opens(world, machine)

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

    def _opens(self, world: World, machine: Machine) -> None:
        """The next round: the first heirs hold the model that this reign has made, or had their time."""
        closed, beacon = machine.durable.closed, self.beacons.get(machine.id)
        if closed is None or beacon is None or closed.term != machine.durable.term:
            return
        reign = (closed.term, closed.number, closed.round)
        if reign in self.opened or reign not in self.closed_ms:
            return
        self.opened.add(reign)
        if world.now_ms - self.closed_ms[reign] >= self.handing_ms:
            return
        for heir in beacon.heirs[:2]:
            other = world.machines[heir]
            lacks = {closed.model.digest, closed.checkpoint.digest} - other.blobs
            if lacks and other.steady_ms >= self.steady_ms:
                raise Violation(f"node {machine.id} opens the next round, and heir {heir} lacks round {closed.round}")
