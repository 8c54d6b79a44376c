"""Plays a script on a virtual cluster and tells what happened, in lines for people.

Time stands still but in `advance` and `until`. A message takes 1 ms, a connection 200 ms, and each job always
the same time (training 4 s), times the slowness of its node.

    start 1 2 3              start the processes (a node takes its place in the roster from its id)
    crash 1                  SIGKILL; `crash 1 disk` loses its disk too
    stop 1                   a clean stop
    freeze 2 30s             SIGSTOP, and SIGCONT after a while
    cut 3 10s                the way from node 3 to the broker is gone for a while
    outage 5s                the broker is gone for a while; it forgets everything with `outage 5s forget`
    slow 3 4                 the jobs of node 3 take four times as long
    ask 1 run-a rounds=2     an operator asks node 1 for a run
    advance 3s               let time pass
    until WHAT               let time pass until it holds: `leads 2`, `open 1`, `accepted 1`, `closed 2`, `ended`
    status                   what each node is and knows
"""

from __future__ import annotations

from pneumod.core import actions as act
from pneumod.core import events as ev
from pneumod.core.invariants import check
from pneumod.core.jobs import Check, Close, Train
from pneumod.messages import Beacon, Reply, RoundClosed, RoundOpen, RunSettings, StartRun, Term, TrainResult
from pneumod.sim.bus import Weather
from pneumod.sim.machine import Machine
from pneumod.sim.world import World

LIMIT_MS = 600_000  # of `until`


def ms_of(text: str) -> int:
    """3s or 250ms in milliseconds."""
    return int(text[:-2]) if text.endswith("ms") else int(float(text.removesuffix("s")) * 1_000)


def listed(nodes: list[int] | tuple[int, ...]) -> str:
    return " ".join(map(str, nodes)) or "nobody"


class Script:
    """One cluster and what is told of it."""

    def __init__(self, node_ids: list[int]) -> None:
        self.world = World(1, node_ids, Weather((1, 1)))
        self.world.observers.append(self.see)
        self.world.watchers.append(self.see_step)
        self.refused: dict[int, dict[str, int]] = {}
        self.lines: list[str] = []
        self.terms: set[Term] = set()
        self.closed: set[tuple[str, int]] = set()

    def run(self, command: str) -> None:
        verb, *words = command.split()
        getattr(self, f"do_{verb}")(*words)

    def take(self) -> list[str]:
        """What happened since the last call."""
        lines, self.lines = self.lines, []
        return lines

    # ---- commands ----

    def do_start(self, *nodes: str) -> None:
        for node in nodes:
            self.world.start(int(node))

    def do_crash(self, node: str, disk: str = "") -> None:
        self.world.crash(int(node), lose_disk=disk == "disk")

    def do_stop(self, node: str) -> None:
        self.world.machines[int(node)].feed(ev.Stopping())

    def do_freeze(self, node: str, for_: str) -> None:
        self.world.freeze(int(node), ms_of(for_))

    def do_cut(self, node: str, for_: str) -> None:
        self.world.cut(int(node), ms_of(for_))

    def do_outage(self, for_: str, forget: str = "") -> None:
        self.world.broker_outage(ms_of(for_), keep_retained=forget != "forget")

    def do_slow(self, node: str, times: str) -> None:
        self.world.machines[int(node)].slowness = float(times)

    def do_ask(self, node: str, run: str, *settings: str) -> None:
        chosen = {name: int(value) for name, value in (s.split("=") for s in settings)}
        request = StartRun(run, 0, RunSettings(**chosen))  # type: ignore[arg-type]
        before = len(self.world.replies)
        self.world.ask("op-run-ann", int(node), request)
        self.world.run(self.world.now_ms + 2)
        for reply in self.world.replies[before:]:
            if isinstance(reply.message, Reply):
                self.tell(int(reply.sender), f"answers the operator: {reply.message.text}")

    def do_advance(self, for_: str) -> None:
        self.world.run(self.world.now_ms + ms_of(for_))

    def do_until(self, what: str, value: str = "0") -> None:
        end_ms, number = self.world.now_ms + LIMIT_MS, int(value)
        while not self._holds(what, number):
            assert self.world.now_ms < end_ms, f"never: {what} {value}"
            self.world.run(self.world.now_ms + 1)

    def do_status(self) -> None:
        for machine in self.world.machines.values():
            self.lines.append(self._status(machine))

    # ---- what is told ----

    def tell(self, node: int, text: str) -> None:
        self.lines.append(f"{self.world.now_ms / 1_000:8.3f}  {node} {text}")

    def see_step(self, machine: Machine, event: ev.Event) -> None:
        """Check the node after a step, and tell of a message that was refused."""
        assert machine.node is not None
        check(machine.node)
        before, dropped = self.refused.get(machine.id, {}), dict(machine.node.dropped)
        self.refused[machine.id] = dropped
        for why, count in dropped.items():
            if count > before.get(why, 0) and isinstance(event, ev.Received):
                self.tell(machine.id, f"refuses {event.kind} of {event.envelope.sender}: {why}")

    def see(self, _: World, machine: Machine, action: act.Action) -> None:
        match action:
            case act.Publish(message=message, term=term, dest=dest) if message is not None:
                self._see_message(machine.id, term, message, dest)
            case act.Log(component="master", text=text) if text.startswith(("steps down", "run ", "round ")):
                if not text.endswith("starts, asked for by op-run-ann"):
                    self.tell(machine.id, text)
            case act.Start(job=Train(opened=opened)):
                what = "trains" if opened.train else "scores the model for"
                self.tell(machine.id, f"{what} round {opened.round}")
            case act.Start(job=Check(node=node, opened=opened)):
                self.tell(machine.id, f"has the update of {node} for round {opened.round}")
            case act.Start(job=Close() as job):
                self._see_close(machine.id, job)

    def _see_message(self, node: int, term: Term, message: object, dest: str | None) -> None:
        match message:
            case Beacon() if term not in self.terms:
                self.terms.add(term)
                self.tell(node, f"leads, term {term.counter}")
            case RoundOpen() if dest is None:
                train = "" if message.train else ", to score the last model only"
                again = (
                    f", again (terms {' '.join(str(t.counter) for t in message.terms)})" if message.terms[1:] else ""
                )
                self.tell(node, f"opens round {message.round} for {listed(message.who)}{train}{again}")
            case RoundOpen():
                self.tell(node, f"tells {dest} of round {message.round}")
            case TrainResult():
                self.tell(
                    node, f"answers round {message.round} to {dest} (asked under term {message.trained_term.counter})"
                )
            case RoundClosed() if (message.run, message.round) not in self.closed:
                self.closed.add((message.run, message.round))
                over = f"; the run is over: {message.ended}" if message.ended else ""
                what = f"round {message.round} is closed" if message.round else f"{message.run} has its first model"
                self.tell(node, f"says that {what}{over}")

    def _see_close(self, node: int, job: Close) -> None:
        out = "".join(f"; left out: {x.node}, {x.why}" for x in job.left_out)
        kept = "".join(
            f"; term {t.old_term.counter} -> {t.new_term.counter} kept {t.updates_kept} updates" for t in job.takeovers
        )
        counted = listed([c.node for c in job.contributions])
        self.tell(node, f"closes round {job.opened.round} with {counted}{out}{kept}")

    def _status(self, machine: Machine) -> str:
        node, durable = machine.node, machine.durable
        if node is None:
            return f"node {machine.id}: off"
        role = "listens" if node.leader is None else f"follows {node.leader}"
        if node.conductor is not None:
            note = node.conductor.note
            role = f"leads, {node.conductor.phase}{f' ({note})' if note else ''}"
        known = f"round {durable.closed.round}" if durable.closed else "no model"
        over = " (ended)" if durable.closed and durable.closed.ended else ""
        return f"node {machine.id}: {role}, term {durable.term.counter}, {known}{over}"

    def _holds(self, what: str, number: int) -> bool:
        conductor = next((m.node.conductor for m in self.world.machines.values() if m.node and m.node.conductor), None)
        collector = conductor.collector if conductor else None
        match what:
            case "leads":
                return self.world.leaders() == [number]
            case "open":
                return collector is not None and collector.opened.round == number
            case "accepted":
                return collector is not None and len(collector.accepted) >= number
            case "closed":
                return any(m.durable.closed is not None and m.durable.closed.round >= number for m in self._up())
            case "ended":
                return all(m.durable.closed is not None and m.durable.closed.ended is not None for m in self._up())
        raise AssertionError(f"until {what}?")

    def _up(self) -> list[Machine]:
        return [m for m in self.world.machines.values() if m.up]
