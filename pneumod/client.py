"""The operator's end of the bus: watch the cluster, and ask its master for something."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime

from pneumod.bus import Connection
from pneumod.config import BrokerConfig, NodeConfig
from pneumod.errors import BusError, RefusedError
from pneumod.messages import NO_TERM, Reply, StartRun
from pneumod.settings import RunSettings
from pneumod.view import ClusterView

WATCHED = ["card", "beat", "gone", "beacon", "spec", "closed"]
REPLY_TIMEOUT_S = 5.0
MASTER_WAIT_S = 15.0
ASK_AGAIN_S = 0.5


class Operator:
    """A watcher that is connected; `view` is kept up to date by `follow`, or inside `following`."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.view = ClusterView()
        self._replies: dict[tuple[str, bytes], asyncio.Future[Reply]] = {}  # by who is asked, and the request's tag
        self._following: asyncio.Task[None] | None = None

    async def follow(self, changed: Callable[[], None] = lambda: None) -> None:
        """Take messages as they come, for ever; `changed` is called after each.

        Raises:
            BusError: the connection is lost.
        """
        async for incoming in self.connection.receive():
            message = incoming.envelope.message
            if isinstance(message, Reply):
                waiting = self._replies.get((incoming.envelope.sender, incoming.correlation))
                if waiting is not None and not waiting.done():
                    waiting.set_result(message)
            else:
                self.view.apply(incoming, time.monotonic())
                changed()
        raise BusError("the connection to the broker was closed")

    @asynccontextmanager
    async def following(self, changed: Callable[[], None] = lambda: None) -> AsyncIterator[None]:
        """Follow in the background; a lost connection is raised by `until`."""
        self._following = asyncio.create_task(self.follow(changed))
        try:
            yield
        finally:
            self._following.cancel()
            await asyncio.wait({self._following})
            if not self._following.cancelled():
                self._following.exception()  # told by `until`, or of no interest any more

    async def until(self, condition: Callable[[ClusterView], bool], limit_s: float) -> bool:
        """Wait inside `following` until the view is so, at most `limit_s`; whether it was.

        Raises:
            BusError: the connection is lost.
        """
        assert self._following is not None
        end_s = time.monotonic() + limit_s
        while not condition(self.view):
            if self._following.done():
                self._following.result()
            if time.monotonic() >= end_s:
                return False
            await asyncio.sleep(0.05)
        return True

    async def ask(self, request: StartRun) -> None:
        """Send a request to the master and wait for its consent.

        Raises:
            RefusedError: it said no, and why.
            BusError: nobody leads, or the master didn't answer.
        """
        master = self.view.master(time.monotonic())
        if master is None:
            raise BusError("no master is heard; are the daemons running, and on this broker?")
        tag = secrets.token_bytes(8)
        waiting = self._replies[str(master), tag] = asyncio.get_running_loop().create_future()
        try:
            await self.connection.publish("request", NO_TERM, request, str(master), tag)
            reply = await asyncio.wait_for(waiting, REPLY_TIMEOUT_S)
        except TimeoutError as error:
            raise BusError(f"the master (node {master}) did not answer in {REPLY_TIMEOUT_S:.0f} s") from error
        finally:
            del self._replies[str(master), tag]
        if not reply.ok:
            raise RefusedError(reply.text)

    async def request_run(self, settings: RunSettings) -> str:
        """Ask whoever leads to start a run; its id. Waits for a master that is just being elected.

        Raises:
            RefusedError: another run is on, whose and since when; or this operator may not start one.
            BusError: no master is heard.
        """
        request = StartRun(_new_run_id(), int(time.time()), settings)
        end_s = time.monotonic() + MASTER_WAIT_S
        while True:
            await self.until(lambda view: view.master(time.monotonic()) is not None, end_s - time.monotonic())
            try:
                await self.ask(request)
                return request.run
            except RefusedError as error:
                spec = self.view.spec
                if spec is not None and spec.run in str(error):
                    since = datetime.fromtimestamp(spec.asked_at_s)
                    raise RefusedError(f"{error}, since {since:%Y-%m-%d %H:%M:%S}") from error
                if "just taken over" not in str(error) or time.monotonic() >= end_s:
                    raise
                await asyncio.sleep(ASK_AGAIN_S)


def _new_run_id() -> str:
    """A name that sorts by time and that two operators don't choose at once."""
    return f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


@asynccontextmanager
async def operator(config: NodeConfig, role: str, name: str = "") -> AsyncIterator[Operator]:
    """Connect as an operator of this role (watch, predict or run) to the first broker that answers.

    Raises:
        BusError: no broker of the config answers.
    """
    label = re.sub(r"[^a-z0-9_.-]", "-", name.lower())[:40] or secrets.token_hex(4)
    connection = await _connect(config.brokers, config.cluster, f"op-{role}-{label}")
    try:
        await connection.subscribe([*WATCHED, "reply"])
        yield Operator(connection)
    finally:
        await connection.__aexit__(None, None, None)


async def _connect(brokers: tuple[BrokerConfig, ...], cluster: str, sender: str) -> Connection:
    problems = []
    for broker in brokers:
        try:
            return await Connection(broker, cluster, sender).__aenter__()
        except BusError as error:
            problems.append(str(error))
    raise BusError("; ".join(problems) + "; is the broker running, and is the config's address right?")
