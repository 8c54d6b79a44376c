"""The operator's end of the bus: watch the cluster, and ask its master for something."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import NamedTuple

from pneumod.bus import Connection
from pneumod.config import BrokerConfig, NodeConfig
from pneumod.errors import BusError, RefusedError
from pneumod.messages import NO_TERM, Reply, RunSpec, StartRun, StopRun
from pneumod.settings import RunSettings
from pneumod.view import LATE_S, ClusterView, asked_at

WATCHED = ["card", "beat", "gone", "beacon", "spec", "closed"]
REPLY_TIMEOUT_S = 5.0
MASTER_WAIT_S = 15.0
ASK_AGAIN_S = 0.5
CONSENT_WAIT_S = 60.0  # a master that has just taken over is asked again for so long
NO_MASTER_S = 3.0  # where nobody leads on a broker, the next of the config is tried: the nodes may have moved there
FIRST_PAUSE_S = 0.5  # before connecting again; doubled after each failure
LONGEST_PAUSE_S = 4.0

NO_MASTER = "no master is heard; are the daemons running, and on this broker?"

logging.getLogger("pneumod.mqtt").addHandler(logging.NullHandler())  # a loss is told by `lost`, not on stderr as well


class Loss(NamedTuple):
    """No broker is connected."""

    at_s: float  # since when, monotonic
    why: str


class Operator:
    """A watcher of one cluster; `view` is kept up to date by `follow`, or inside `following`.

    Args:
        role: watch, predict or run.

    Attributes:
        lost: why no broker is connected; None while one is.
        connected_s: when the present connection was made, monotonic.
    """

    lost: Loss | None = None

    def __init__(self, config: NodeConfig, role: str, name: str = "") -> None:
        label = re.sub(r"[^a-z0-9_.-]", "-", name.lower())[:40] or secrets.token_hex(4)
        self.view = ClusterView()
        self.connected_s = 0.0
        self._config = config
        self._sender = f"op-{role}-{label}"
        self._connection: Connection | None = None
        self._place = 0  # in the config, of the broker to try first
        self._replies: dict[tuple[str, bytes], asyncio.Future[Reply]] = {}  # by who is asked, and the request's tag
        self._following: asyncio.Task[None] | None = None

    @property
    def connection(self) -> Connection:
        """The present connection.

        Raises:
            BusError: there is none.
        """
        if self._connection is None:
            raise BusError("the connection to the broker is lost")
        return self._connection

    async def connect(self) -> None:
        """Connect to a broker that answers.

        Raises:
            BusError: no broker of the config does.
        """
        brokers, problems = self._config.brokers, []
        for step in range(len(brokers)):
            place = (self._place + step) % len(brokers)
            try:
                self._connection = await self._open(brokers[place])
            except BusError as error:
                problems.append(str(error))
            else:
                self._place, self.lost, self.connected_s = place, None, time.monotonic()
                return
        raise BusError("; ".join(problems) + "; is the broker running, and is the config's address right?")

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.__aexit__(None, None, None)

    async def follow(self, changed: Callable[[], None] = lambda: None) -> None:
        """Take messages as they come, until cancelled; `changed` is called after each, and at a loss and its end.

        A lost connection is made again, on the first broker of the config that answers. Where nobody leads on
        a broker, the next one is tried.
        """
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                if self._connection is None:
                    await self.connect()
                    changed()
                pause_s = FIRST_PAUSE_S
                await self._take(changed)
                self._place += 1
            except BusError as error:
                self.lost = Loss(self.lost.at_s if self.lost else time.monotonic(), str(error))
                self._place = 0
                changed()
            await self.close()
            if self.lost is not None:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    @asynccontextmanager
    async def following(self, changed: Callable[[], None] = lambda: None) -> AsyncIterator[None]:
        """Follow in the background."""
        self._following = asyncio.create_task(self.follow(changed))
        try:
            yield
        finally:
            self._following.cancel()
            await asyncio.wait({self._following})

    async def until(self, condition: Callable[[ClusterView], bool], limit_s: float) -> bool:
        """Wait inside `following` until the view is so, at most `limit_s`; whether it was."""
        assert self._following is not None
        end_s = time.monotonic() + limit_s
        while not condition(self.view):
            if self._following.done():
                self._following.result()
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise asyncio.CancelledError  # Ctrl-C came as `asyncio.wait_for` ended, which then swallows it (3.11)
            if time.monotonic() >= end_s:
                return False
            await asyncio.sleep(0.05)
        return True

    async def ask(self, request: StartRun | StopRun) -> None:
        """Send a request to the master and wait for its consent.

        Raises:
            RefusedError: it said no, and why.
            BusError: not connected, nobody leads, or the master didn't answer.
        """
        master = self.view.master(time.monotonic())
        if master is None:
            raise BusError(NO_MASTER)
        kind, tag = "request" if isinstance(request, StartRun) else "stop", secrets.token_bytes(8)
        waiting = self._replies[str(master), tag] = asyncio.get_running_loop().create_future()
        try:
            await self.connection.publish(kind, NO_TERM, request, str(master), tag)
            async with asyncio.timeout(REPLY_TIMEOUT_S):
                reply = await waiting
        except TimeoutError as error:
            raise BusError(f"the master (node {master}) did not answer in {REPLY_TIMEOUT_S:.0f} s") from error
        finally:
            del self._replies[str(master), tag]
        if not reply.ok:
            raise RefusedError(reply.text, reply.again)

    async def insist(self, request: StartRun | StopRun) -> None:
        """Ask whoever leads, and ask again while nobody is ready to answer: asking twice does what asking once does.

        Raises:
            RefusedError: the master said no, and why.
            BusError: no master is heard, or none answers.
        """
        end_s = time.monotonic() + CONSENT_WAIT_S
        while True:
            await self.until(lambda view: view.master(time.monotonic()) is not None, MASTER_WAIT_S)
            master = self.view.master(time.monotonic())
            try:
                await self.ask(request)
                return
            except RefusedError as error:
                if not error.again or time.monotonic() >= end_s:
                    raise
            except BusError:
                if master is None or time.monotonic() >= end_s:
                    raise
            await asyncio.sleep(ASK_AGAIN_S)

    async def request_run(self, settings: RunSettings) -> str:
        """Ask whoever leads to start a run; its id. Waits for a master that is just being elected.

        Raises:
            RefusedError: another run is on, whose and since when; or this operator may not start one.
            BusError: no master is heard, or none answers.
        """
        request = StartRun(_new_run_id(), int(time.time()), settings)
        try:
            await self.insist(request)
        except RefusedError as error:
            spec = self.view.spec
            if spec is not None and spec.run in str(error):
                raise RefusedError(f"{error}; on since {asked_at(spec)}") from error
            raise
        return request.run

    async def newest_run(self) -> RunSpec | None:
        """The run that is on or was the last, once the master's word on it has come; None where there was none.

        Raises:
            BusError: no master is heard, and nothing of any run.
        """
        settled = await self.until(lambda view: view.is_settled(time.monotonic()), MASTER_WAIT_S)
        if not settled and self.view.spec is None:
            raise BusError(NO_MASTER)
        return self.view.spec

    async def _open(self, broker: BrokerConfig) -> Connection:
        connection = await Connection(broker, self._config.cluster, self._sender).__aenter__()
        try:
            await connection.subscribe([*WATCHED, "reply"])
        except BaseException:
            await connection.__aexit__(None, None, None)
            raise
        return connection

    async def _take(self, changed: Callable[[], None]) -> None:
        """Take messages until nobody is heard to lead here, where there is another broker to look at.

        Raises:
            BusError: the connection is lost.
        """
        clock, others = asyncio.get_running_loop().time, len(self._config.brokers) > 1
        try:
            async with asyncio.timeout(NO_MASTER_S if others else None) as quiet:
                async for incoming in self.connection.receive():
                    message, beacon_at_s = incoming.envelope.message, self.view.beacon_at_s
                    if isinstance(message, Reply):
                        self._hear_reply(incoming.envelope.sender, incoming.correlation, message)
                        continue
                    self.view.apply(incoming, time.monotonic())
                    if others and self.view.beacon_at_s != beacon_at_s:
                        quiet.reschedule(clock() + LATE_S + NO_MASTER_S)
                    changed()
        except TimeoutError:
            return
        raise BusError("the connection to the broker was closed")

    def _hear_reply(self, sender: str, tag: bytes, reply: Reply) -> None:
        waiting = self._replies.get((sender, tag))
        if waiting is not None and not waiting.done():
            waiting.set_result(reply)


def _new_run_id() -> str:
    """A name that sorts by time and that two operators don't choose at once."""
    return f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


@asynccontextmanager
async def operator(config: NodeConfig, role: str, name: str = "") -> AsyncIterator[Operator]:
    """An operator that is connected.

    Raises:
        BusError: no broker of the config answers.
    """
    me = Operator(config, role, name)
    await me.connect()
    try:
        yield me
    finally:
        await me.close()
