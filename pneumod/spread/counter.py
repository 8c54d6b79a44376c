"""The command's end of the desk: frames to and from the daemon, also across its restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path

from pneumod.desk import Bring, End, Frame, address, pack_frame, read_frame
from pneumod.errors import PneumodError, WireError

RETURN_S = 20.0  # a daemon that goes away in the middle is waited for so long
AGAIN_S = 0.2


class Away(PneumodError):
    """The daemon takes no batch, or no longer; the text says why."""


class Counter:
    """One batch at the daemon's desk."""

    def __init__(self, path: Path, bring: Bring) -> None:
        self.path = path
        self.bring = bring
        self._writer: asyncio.StreamWriter | None = None

    async def frames(self) -> AsyncGenerator[Frame]:
        """What the daemon says. When it went away, the same batch is brought again as soon as it is back.

        Raises:
            Away: it isn't running, can't be understood, or stays away.
        """
        loop = asyncio.get_running_loop()
        until_s: float | None = None  # it is waited for; None: it was never there
        while True:
            try:
                with address(self.path) as place:
                    reader, self._writer = await asyncio.open_unix_connection(place)
                until_s = until_s or loop.time() + RETURN_S
                await self.say(self.bring)
                while True:
                    frame = await read_frame(reader)
                    until_s = loop.time() + RETURN_S
                    yield frame
            except (OSError, asyncio.IncompleteReadError) as error:
                self._leave()
                if until_s is None or loop.time() >= until_s:
                    raise Away(_why(error)) from error
            except WireError as error:
                raise Away(f"the daemon of this node can't be understood ({error})") from error
            await asyncio.sleep(AGAIN_S)

    async def say(self, frame: Frame) -> None:
        """Send a frame; it is lost where the daemon is away: it will ask again."""
        if self._writer is not None:
            with suppress(OSError):
                self._writer.write(pack_frame(frame))
                await self._writer.drain()

    def end(self) -> None:
        """Withdraw the batch."""
        if self._writer is not None:
            self._writer.write(pack_frame(End()))
        self._leave()

    def _leave(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _why(error: Exception) -> str:
    match error:
        case FileNotFoundError() | ConnectionRefusedError():
            return "the daemon of this node isn't running"
        case OSError(strerror=str(text)):
            return f"the daemon of this node can't be reached ({text})"
    return "the daemon of this node went away"
