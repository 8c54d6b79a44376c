"""The judges of terms, states and ends really judge."""

from __future__ import annotations

import msgspec
import pytest

from pneumod.core import actions as act
from pneumod.core import events as ev
from pneumod.core import notes
from pneumod.core.actions import Action
from pneumod.core.collector import Collector
from pneumod.core.election import Election
from pneumod.core.jobs import Fetch
from pneumod.core.library import Library
from pneumod.core.node import Node
from pneumod.core.state import State
from pneumod.core.trainee import Trainee
from pneumod.messages import RoundClosed, RunSpec, StartRun, Term
from pneumod.sim.children import blob
from tests.sim.mutants import found_out
from tests.sim.operators import Operators

Patch = pytest.MonkeyPatch


# ---- terms ----


def test_found_out_publishing_before_persisting(monkeypatch: Patch) -> None:
    take = State.take

    def late(state: State) -> list[Action]:
        return sorted(take(state), key=lambda action: isinstance(action, act.Persist))

    monkeypatch.setattr(State, "take", late)
    found_out("uses a term that it has not persisted", monkeypatch)


def test_found_out_answering_before_persisting(monkeypatch: Patch) -> None:
    remember = State.remember

    def forgetful(state: State, **changes: object) -> None:
        if set(changes) == {"result"}:
            state.durable = msgspec.structs.replace(state.durable, **changes)
        else:
            remember(state, **changes)

    monkeypatch.setattr(State, "remember", forgetful)
    found_out("answers with a result that it has not persisted", monkeypatch)


def test_found_out_using_anothers_term(monkeypatch: Patch) -> None:
    """A claim that forgets whose it is: all claims of one counter would be one term."""
    claim = Election.claim
    monkeypatch.setattr(Election, "claim", lambda election: claim(election)._replace(neg_node=0))
    found_out("speaks as the master of another's term", monkeypatch)


def test_found_out_leading_twice_under_one_term(monkeypatch: Patch) -> None:
    """A claim that goes on with the last reign of its own."""
    claim = Election.claim

    def again(election: Election) -> Term:
        term, mine = claim(election), election.state.durable.term
        return mine if mine.node == election.state.id else term

    monkeypatch.setattr(Election, "claim", again)
    found_out("leads twice under the term", monkeypatch)


def test_found_out_reusing_a_term(monkeypatch: Patch) -> None:
    """A claim that isn't above what it has heard: its term goes back."""
    claim = Election.claim
    monkeypatch.setattr(Election, "claim", lambda election: claim(election)._replace(counter=1))
    found_out("the term goes back", monkeypatch)


def test_found_out_obeying_a_stale_term(monkeypatch: Patch) -> None:
    admit = Node._admit

    def credulous(node: Node, event: ev.Received) -> bool:
        admitted = admit(node, event)
        if event.kind == "beacon" and event.envelope.message is not None and not admitted:
            node.state.remember(term=event.envelope.term)
            return node.conductor is None
        return admitted

    monkeypatch.setattr(Node, "_admit", credulous)
    found_out("the term goes back", monkeypatch)


def test_found_out_claiming_all_the_time(monkeypatch: Patch) -> None:
    """Terms are bounded by the faults: a master that steps down every few seconds is one."""
    tick = Node._tick

    def nervous(node: Node) -> None:
        tick(node)
        if node.conductor is not None and node.conductor.settled and node.state.now_ms % 7 == 0:
            node._step_down("nerves")

    monkeypatch.setattr(Node, "_tick", nervous)
    found_out("terms for", monkeypatch)


# ---- the state of the run ----


def test_found_out_a_state_that_goes_back(monkeypatch: Patch) -> None:
    """A node that starts its run anew each time a master repeats it."""
    hear = Trainee.hear_spec

    def anew(trainee: Trainee, spec: RunSpec) -> None:
        if spec == trainee.state.durable.spec:
            trainee.state.remember(spec=spec, closed=None)
        hear(trainee, spec)

    monkeypatch.setattr(Trainee, "hear_spec", anew)
    found_out("the run's state goes back", monkeypatch)


def test_found_out_training_again(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Trainee, "_answered", lambda trainee, opened: False)
    found_out("again", monkeypatch)


# ---- the end ----


def test_found_out_different_models_in_the_end(monkeypatch: Patch) -> None:
    hear = Trainee.hear_closed

    def own(trainee: Trainee, closed: RoundClosed) -> None:
        if closed.ended is not None:
            closed = msgspec.structs.replace(closed, model=blob("mine", trainee.state.id))
        hear(trainee, closed)

    monkeypatch.setattr(Trainee, "hear_closed", own)
    found_out("no end in sight: different models", monkeypatch)


def test_found_out_a_model_that_was_thrown_away(monkeypatch: Patch) -> None:
    tidy = Library.tidy

    def too_tidy(library: Library) -> None:
        tidy(library)
        closed = library.state.durable.closed
        if closed is not None and closed.ended is not None and library.state.id % 2:
            library.state.actions.append(act.Keep(frozenset()))

    monkeypatch.setattr(Library, "tidy", too_tidy)
    found_out("no end in sight: a node lacks the model", monkeypatch)


def test_found_out_a_gap_in_the_receipts_that_nobody_closes(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Trainee, "hear_gap", lambda *_: None)
    found_out("lacks the receipt of round", monkeypatch)


def test_found_out_a_receipt_that_is_not_archived(monkeypatch: Patch) -> None:
    """Masters keep the receipts that they write, others don't keep those that they fetch."""
    fetched = Library.fetched

    def careless(library: Library, job: Fetch) -> None:
        fetched(library, job)
        library.state.actions = [one for one in library.state.actions if not isinstance(one, act.Archive)]

    monkeypatch.setattr(Library, "fetched", careless)
    found_out("lacks the receipt of round", monkeypatch)


def test_found_out_a_lower_id_that_never_gets_the_lead(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Node, "_hand_over", lambda *_: None)
    found_out("no end in sight: leaders", monkeypatch)


def test_found_out_a_round_that_never_ends(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Collector, "over", lambda collector: False)
    found_out("no end in sight: the run is not over", monkeypatch)


def test_found_out_a_run_that_waits_and_does_not_say_why(monkeypatch: Patch) -> None:
    """A run for more nodes than there are."""
    request = Operators._request

    def too_many(operators: Operators, min_nodes: int | None = None) -> StartRun:
        return request(operators, 1 + len(operators.world.machines))

    monkeypatch.setattr(Operators, "_request", too_many)
    monkeypatch.setattr(notes, "too_few", lambda *_: "")
    found_out("its master doesn't say why", monkeypatch)
