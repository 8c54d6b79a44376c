"""Words for the tests of leased work: what is offered, pulled, granted and delivered."""

from __future__ import annotations

from pneumod.core import events as ev
from pneumod.core.actions import Action, Deliver, Persist, Publish
from pneumod.messages import Done, Grant, Offer, Pull
from pneumod.work import Skill
from tests.core.pair import Solo, beat

SITES = {1: "a", 2: "a", 3: "a", 4: "b"}
BATCH = "batch-a"


def offer(items: int, *done: int, batch: str = BATCH, skill: Skill = "predict", spare: int = 0) -> Offer:
    """A batch of which some items are done; its bits may be a few bytes too many, or too few."""
    bits = sum(1 << item for item in done)
    return Offer(batch, skill, items, bits.to_bytes(max(0, -(-items // 8) + spare), "little"))


def pull(room: int, *held: int, owner: int = 2, skills: tuple[Skill, ...] = ("predict",)) -> Pull:
    """A node asks for `room` items, and says which items of batch-a it holds."""
    return Pull(room, skills, tuple((owner, BATCH, item) for item in held))


def grant(*items: int, owner: int = 1, batch: str = BATCH, skill: Skill = "predict") -> Grant:
    return Grant(owner, batch, skill, items, 10_000)


def done(item: int, data: bytes = b"", failed: str | None = None, batch: str = BATCH) -> Done:
    return Done(batch, item, data, failed)


def granted(solo: Solo, node: int, room: int, *held: int, owner: int = 2) -> list[int]:
    """The items that a master grants to a node that pulls."""
    solo.forget()
    solo.hear(node, "pull", pull(room, *held, owner=owner))
    grants = [p.message for p in solo.published("grant") if p.dest == str(node)]
    return [item for one in grants if isinstance(one, Grant) for item in one.items]


def offers(solo: Solo, items: int) -> None:
    """The shell has a batch for the node's site."""
    solo.step(ev.Offered(BATCH, "predict", items))


def order(actions: list[Action], *kinds: str) -> list[str]:
    """The names of the actions (a Publish by its kind), in their order; only those of `kinds`."""
    names = [a.kind if isinstance(a, Publish) else type(a).__name__ for a in actions]
    return [name for name in names if name in kinds]


def delivered(solo: Solo) -> list[tuple[int, bytes, str | None]]:
    return [(a.item, a.data, a.failed) for a in solo.actions if isinstance(a, Deliver)]


def bits(solo: Solo) -> list[int]:
    """The items that the node's durable batch says are done."""
    batch = solo.durable.batch
    assert batch is not None
    return [item for item in range(batch.items) if batch.done[item // 8 : item // 8 + 1][0] >> item % 8 & 1]


def persisted(solo: Solo) -> int:
    return sum(isinstance(a, Persist) for a in solo.actions)


def gone_silent(solo: Solo, *nodes: int) -> None:
    """Nodes whose beats stop."""
    for node in nodes:
        del solo.peers[node]


def back(solo: Solo, *nodes: int) -> None:
    for node in nodes:
        solo.peers[node] = beat()
