"""A master without a cluster: it leads, answers operators as the core does, and says what a test has it say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from msgspec.structs import replace

from pneumod.broker.embedded import HOST
from pneumod.bus import Connection
from pneumod.config import BrokerConfig
from pneumod.core.requests import answer, answer_stop
from pneumod.core.rounds import ended_of
from pneumod.messages import (
    Beacon,
    Best,
    BlobRef,
    Gone,
    Message,
    Metrics,
    Phase,
    Reply,
    RoundClosed,
    RunSpec,
    StartRun,
    StopRun,
    Summary,
    Term,
)
from tests.shell.parts import CLUSTER

BEACON_S = 0.1
BLOB = BlobRef("c" * 64, 10)


class FakeMaster:
    """Attributes: `unready`: so many requests are answered as by a master that has just taken over."""

    def __init__(self, port: int, node: int, counter: int, unready: int = 0) -> None:
        self.term = Term(counter, -node, 1)
        self.spec: RunSpec | None = None
        self.closed: RoundClosed | None = None
        self.note = ""
        self.unready = unready
        self.asked: list[StartRun] = []
        self.connection = Connection(BrokerConfig(HOST, port), CLUSTER, str(node), "control")

    async def say(self, kind: str, message: Message, dest: str | None = None, tag: bytes = b"") -> None:
        await self.connection.publish(kind, self.term, message, dest, tag)

    async def begin(self, spec: RunSpec) -> None:
        self.spec, self.closed = spec, None
        await self.say("spec", spec)

    async def close(self, number: int, auc: float | None = None, summary: Summary | None = None) -> None:
        """A round is closed; the AUC of the model of the round before is the best, where one is given."""
        assert self.spec is not None
        best = self.closed.best if self.closed is not None else None
        if auc is not None:
            best = Best(number - 1, auc, 0.5, BLOB)
        scored = Metrics(auc, 0.3, 40) if auc is not None else None
        spec, told = self.spec, summary or Summary(2, (), 0, 0.2, 4200, 3000, 1000)
        self.closed = RoundClosed(
            spec.run, spec.number, number, self.term, BLOB, BLOB, (),
            scored=scored, best=best, summary=told if number > 0 else None,
        )  # fmt: skip
        await self.say("closed", self.closed)

    async def end(self, why: str) -> None:
        """As the core does: a run that never had a model is ended by its spec."""
        if self.closed is None:
            assert self.spec is not None
            await self.begin(replace(self.spec, ended=why))
            return
        self.closed = replace(self.closed, ended=why)
        await self.say("closed", self.closed)

    async def repeat(self, spec: RunSpec, closed: RoundClosed) -> None:
        """Take up a run from another master."""
        self.spec, self.closed = spec, replace(closed, term=self.term)
        await self.say("spec", spec)
        await self.say("closed", self.closed)

    async def lead(self) -> None:
        while True:
            over = self.spec is None or ended_of(self.spec, self.closed) is not None
            phase: Phase = "gathering" if self.unready else "idle" if over else "waiting"
            await self.say(
                "beacon", Beacon(1, (), 1, "a" * 64, phase, self.note, self.spec.run if self.spec else None)
            )  # fmt: skip
            await asyncio.sleep(BEACON_S)

    async def hear(self) -> None:
        async for incoming in self.connection.receive():
            sender, message = incoming.envelope.sender, incoming.envelope.message
            settled, self.unready = self.unready == 0, max(0, self.unready - 1)
            if isinstance(message, StartRun):
                self.asked.append(message)
                reply, spec = answer(sender, message, self.spec, self.closed, settled, "")
                if spec is not None:
                    await self.begin(spec)
            elif isinstance(message, StopRun):
                reply, stops = answer_stop(sender, message, self.spec, self.closed, settled)
                if stops:
                    await self.end(f"stopped by {sender}")
            else:
                reply = Reply(False, "what?")
            await self.say("reply", reply, sender, incoming.correlation)


@asynccontextmanager
async def leading(port: int, node: int = 1, counter: int = 3, unready: int = 0) -> AsyncIterator[FakeMaster]:
    """It leads until the block ends, then says that it goes."""
    master = FakeMaster(port, node, counter, unready)
    async with master.connection:
        await master.connection.subscribe(["request", "stop"])
        tasks = [asyncio.create_task(master.lead()), asyncio.create_task(master.hear())]
        try:
            yield master
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await master.say("gone", Gone(1, 1, "stopped"))
