"""Judges that stand outside the core: they see what nodes do, not why."""

from __future__ import annotations

from pneumod.core import actions as act
from pneumod.core.invariants import check
from pneumod.core.jobs import Close, Train
from pneumod.core.state import Standing, standing
from pneumod.messages import NO_TERM, Beacon, Term
from pneumod.sim.children import blob
from pneumod.sim.world import Machine, World

MASTERS_WORD = {"beacon", "spec", "open", "reopen", "closed"}


class Violation(AssertionError):
    """A promise of the cluster was broken."""


class Judge:
    """Watches every action; raises Violation at the first broken promise."""

    def __init__(self, world: World, min_nodes: int) -> None:
        self.world = world
        self.min_nodes = min_nodes
        self.masters: dict[Term, int] = {}
        self.standings: dict[int, Standing] = {}
        self.terms: dict[int, Term] = {}
        self.trained: dict[tuple[int, object], str] = {}  # (node, key) -> update digest
        self.claims = 0
        self.disks_lost = 0
        world.observers.append(self.see)

    def forget(self, node: int) -> None:
        """A disk was lost: the node may not know what it knew."""
        self.disks_lost += 1
        self.standings.pop(node, None)
        self.terms.pop(node, None)
        self.trained = {key: digest for key, digest in self.trained.items() if key[0] != node}

    def see(self, world: World, machine: Machine, action: act.Action) -> None:
        if isinstance(action, act.Persist):
            self._persist(machine, action.durable)
        elif isinstance(action, act.Publish):
            self._publish(machine, action)
        elif isinstance(action, act.Start) and isinstance(action.job, Close):
            self._close(action.job)
        elif isinstance(action, act.Start) and isinstance(action.job, Train):
            self._train(machine, action.job)

    def settled(self) -> str | None:
        """After the faults: why the cluster is not yet as it must be in the end; None if it is."""
        machines = [m for m in self.world.machines.values() if m.up]
        if self.world.leaders() != [min(m.id for m in machines)]:
            return f"leaders {self.world.leaders()}"
        closed = [m.durable.closed for m in machines]
        needed = {digest for c in closed if c for digest in (c.model.digest, c.checkpoint.digest)}
        if self.disks_lost and needed - set().union(*(m.blobs for m in machines)):
            return None  # the last copy of the run's state was on a disk that is lost: nothing can go on
        if any(c is None or c.ended is None for c in closed):
            return "the run is not over everywhere"
        if len({c.model.digest for c in closed if c}) != 1:
            return "different models"
        if any(c.model.digest not in m.blobs for c, m in zip(closed, machines, strict=True) if c):
            return "a node lacks the model"
        for machine in machines:
            assert machine.node is not None
            check(machine.node)
        return None

    def _persist(self, machine: Machine, durable: act.Durable) -> None:
        now = standing(durable.spec, durable.closed)
        if now < self.standings.get(machine.id, (0, NO_TERM, -1, False)):
            raise Violation(f"node {machine.id}: the run's state goes back")
        if durable.term < self.terms.get(machine.id, NO_TERM):
            raise Violation(f"node {machine.id}: the term goes back")
        self.standings[machine.id], self.terms[machine.id] = now, durable.term
        result = durable.result
        if result is not None and result.update is not None:
            self.trained[machine.id, result.key] = result.update.digest

    def _publish(self, machine: Machine, action: act.Publish) -> None:
        if action.term > machine.durable.term:
            raise Violation(f"node {machine.id} uses a term that it has not persisted")
        if action.kind in MASTERS_WORD and action.message is not None:
            if action.term.node != machine.id:
                raise Violation(f"node {machine.id} speaks as the master of another's term")
            if isinstance(action.message, Beacon) and action.term not in self.masters:
                self.claims += 1
                self.masters[action.term] = machine.id
        if action.kind == "result" and action.message is not None and machine.durable.result != action.message:
            raise Violation(f"node {machine.id} answers with a result that it has not persisted")

    def _train(self, machine: Machine, job: Train) -> None:
        if (machine.id, job.opened.key) in self.trained:
            raise Violation(f"node {machine.id} trains {job.opened.key} again")

    def _close(self, job: Close) -> None:
        nodes = [c.node for c in job.contributions]
        if len(nodes) != len(set(nodes)) or len(nodes) < self.min_nodes:
            raise Violation(f"round {job.opened.round} closes on nodes {nodes}")
        for c in job.contributions:
            if c.update is not None and c.update != blob("update", job.opened.key, c.node):
                raise Violation(f"an update of node {c.node} counts under the wrong base")
