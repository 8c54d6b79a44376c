"""The judge really judges: a core that is broken on purpose is found out in a few histories."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from pneumod.core import actions as act
from pneumod.core import conductor
from pneumod.core import events as ev
from pneumod.core.actions import Action
from pneumod.core.collector import Collector
from pneumod.core.conductor import Conductor
from pneumod.core.election import Election
from pneumod.core.jobs import Job
from pneumod.core.node import Node
from pneumod.core.state import State
from pneumod.core.trainee import Trainee
from pneumod.messages import Message, RoundClosed, RoundOpen, RunSettings, RunSpec, StartRun, Term, TrainResult
from pneumod.sim.bus import Weather
from pneumod.sim.children import blob
from pneumod.sim.world import Machine, World
from tests.sim.checkers import Judge, Violation
from tests.sim.history import play

TRIES = 40  # histories in which a broken core has to be found out
Patch = pytest.MonkeyPatch


def found_out(by: str = "") -> str:
    """What the judge says of a core that was broken on purpose; with `by`, the first verdict with these words."""
    for seed in range(1, TRIES + 1):
        try:
            play(seed)
        except Violation as violation:
            if by in str(violation):
                return str(violation)
    pytest.fail(f"not found out in {TRIES} histories")


def test_found_out_publishing_before_persisting(monkeypatch: Patch) -> None:
    take = State.take

    def late(state: State) -> list[Action]:
        actions = take(state)
        return sorted(actions, key=lambda action: isinstance(action, act.Persist))

    monkeypatch.setattr(State, "take", late)
    assert "not persisted" in found_out()


def test_found_out_answering_before_persisting(monkeypatch: Patch) -> None:
    remember = State.remember

    def forgetful(state: State, **changes: object) -> None:
        if set(changes) == {"result"}:
            state.durable = msgspec.structs.replace(state.durable, **changes)
        else:
            remember(state, **changes)

    monkeypatch.setattr(State, "remember", forgetful)
    assert "answers with a result that it has not persisted" in found_out()


def test_found_out_using_anothers_term(monkeypatch: Patch) -> None:
    """A claim that forgets whose it is: all claims of one counter would be one term."""
    claim = Election.claim

    def nameless(election: Election) -> Term:
        return claim(election)._replace(neg_node=0)

    monkeypatch.setattr(Election, "claim", nameless)
    assert "speaks as the master of another's term" in found_out()


def test_found_out_reusing_a_term(monkeypatch: Patch) -> None:
    """A claim that isn't above what it has heard: its term goes back."""
    claim = Election.claim

    def again(election: Election) -> Term:
        return claim(election)._replace(counter=1)

    monkeypatch.setattr(Election, "claim", again)
    assert "the term goes back" in found_out()


def test_found_out_obeying_a_stale_term(monkeypatch: Patch) -> None:
    admit = Node._admit

    def credulous(node: Node, event: ev.Received) -> bool:
        admitted = admit(node, event)
        if event.kind == "beacon" and event.envelope.message is not None and not admitted:
            node.state.remember(term=event.envelope.term)
            return node.conductor is None
        return admitted

    monkeypatch.setattr(Node, "_admit", credulous)
    assert "the term goes back" in found_out()


def test_found_out_training_again(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Trainee, "_answered", lambda trainee, opened: False)
    assert "again" in found_out()


def test_found_out_a_state_that_goes_back(monkeypatch: Patch) -> None:
    """A node that starts its run anew each time a master repeats it."""
    hear = Trainee.hear_spec

    def anew(trainee: Trainee, spec: RunSpec) -> None:
        if spec == trainee.state.durable.spec:
            trainee.state.remember(spec=spec, closed=None)
        hear(trainee, spec)

    monkeypatch.setattr(Trainee, "hear_spec", anew)
    assert "the run's state goes back" in found_out()


def test_found_out_different_models_in_the_end(monkeypatch: Patch) -> None:
    hear = Trainee.hear_closed

    def own(trainee: Trainee, closed: RoundClosed) -> None:
        if closed.ended is not None:
            closed = msgspec.structs.replace(closed, model=blob("mine", trainee.state.id))
        hear(trainee, closed)

    monkeypatch.setattr(Trainee, "hear_closed", own)
    monkeypatch.setattr("tests.sim.history.LIVENESS_MS", 60_000)
    assert "no end in sight: different models" in found_out()


def test_found_out_a_model_that_was_thrown_away(monkeypatch: Patch) -> None:
    tidy = Trainee.tidy

    def too_tidy(trainee: Trainee) -> None:
        tidy(trainee)
        closed = trainee.state.durable.closed
        if closed is not None and closed.ended is not None:
            trainee.state.actions.append(act.Keep(frozenset()))

    monkeypatch.setattr(Trainee, "tidy", too_tidy)
    monkeypatch.setattr("tests.sim.history.LIVENESS_MS", 60_000)
    assert found_out(by="no end in sight: a node lacks the model")


def test_found_out_an_update_under_the_wrong_base(monkeypatch: Patch) -> None:
    """Answers to any round are taken, and what they hold isn't checked."""
    hear, begin = Collector.hear_result, Collector._begin

    def careless(collector: Collector, node: int, result: TrainResult) -> None:
        opened = collector.opened
        hear(collector, node, msgspec.structs.replace(result, round=opened.round, base=opened.base.digest))

    def unchecked(collector: Collector, job: Job, node: int) -> None:
        if type(job).__name__ == "Check":
            collector.accepted[node] = collector.results[node]
        else:
            begin(collector, job, node)

    monkeypatch.setattr(Collector, "hear_result", careless)
    monkeypatch.setattr(Collector, "_begin", unchecked)
    monkeypatch.setattr(Trainee, "_answered", lambda trainee, opened: trainee.state.durable.result is not None)
    assert "counts under the wrong base" in found_out()


def close_with(change: Callable[[tuple[object, ...]], tuple[object, ...]], monkeypatch: Patch) -> None:
    """Every round is closed on contributions that were changed."""
    close_job = conductor.close_job

    def changed(collector: Collector, closed: RoundClosed) -> tuple[object, int]:
        job, stale = close_job(collector, closed)
        return msgspec.structs.replace(job, contributions=change(job.contributions)), stale

    monkeypatch.setattr(conductor, "close_job", changed)


def test_found_out_counting_a_node_twice(monkeypatch: Patch) -> None:
    close_with(lambda contributions: contributions + contributions[:1], monkeypatch)
    assert "closes on nodes" in found_out()


def test_found_out_closing_below_min_nodes(monkeypatch: Patch) -> None:
    look = Conductor.look

    def hasty(self: Conductor) -> None:
        spec = self.state.durable.spec
        if spec is not None:
            easy = msgspec.structs.replace(spec, settings=msgspec.structs.replace(spec.settings, min_nodes=1))
            self.state.durable = msgspec.structs.replace(self.state.durable, spec=easy)
        look(self)

    monkeypatch.setattr(Conductor, "look", hasty)
    assert "closes on nodes" in found_out()


def test_found_out_a_lower_id_that_never_gets_the_lead(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Node, "_hand_over", lambda *_: None)
    monkeypatch.setattr("tests.sim.history.LIVENESS_MS", 60_000)
    assert "leaders" in found_out()


def test_found_out_a_round_that_never_ends(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Collector, "over", lambda collector: False)
    monkeypatch.setattr("tests.sim.history.LIVENESS_MS", 60_000)
    assert "no end in sight" in found_out()


def test_found_out_claiming_all_the_time(monkeypatch: Patch) -> None:
    """Terms are bounded by the faults: a master that steps down every few seconds is one."""
    tick = Node._tick

    def nervous(node: Node) -> None:
        tick(node)
        if node.conductor is not None and node.conductor.phase == "idle" and node.state.now_ms % 7 == 0:
            node._step_down("nerves")

    monkeypatch.setattr(Node, "_tick", nervous)
    assert "terms for" in found_out()


# ---- the judge itself, on one message ----


@pytest.fixture
def court() -> tuple[Judge, World, Machine]:
    world = World(1, [1, 2], Weather((1, 1)))
    judge = Judge(world, min_nodes=2)
    world.start(1)
    world.start(2)
    world.run(8_000)
    world.ask("op-run-a", 1, StartRun("run-a", 0, RunSettings(min_nodes=2)))
    world.run(60_000)
    return judge, world, world.machines[2]


def said(kind: str, term: Term, message: Message) -> act.Publish:
    return act.Publish(kind, term, message)


def test_the_judge_knows_a_term_from_the_future(court: tuple[Judge, World, Machine]) -> None:
    judge, world, machine = court
    closed = machine.durable.closed
    assert closed is not None
    with pytest.raises(Violation, match="has not persisted"):
        judge.see(world, machine, said("closed", Term(99, -2, 1), closed))


def test_the_judge_knows_who_may_speak_as_master(court: tuple[Judge, World, Machine]) -> None:
    judge, world, machine = court
    opened = machine.durable.opened
    assert isinstance(opened, RoundOpen)
    with pytest.raises(Violation, match="master of another's term"):
        judge.see(world, machine, said("open", machine.durable.term, opened))


def test_a_lost_disk_may_forget_and_nothing_else_may(court: tuple[Judge, World, Machine]) -> None:
    judge, world, machine = court
    with pytest.raises(Violation, match="goes back"):
        judge.see(world, machine, act.Persist(act.Durable()))
    judge.forget(machine.id)
    judge.see(world, machine, act.Persist(act.Durable()))
