"""The daemon's end of the socket where commands come, and of each one's connection."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from pneumod.desk import SOCKET, Bring, Frame, Refused, address, pack_frame, read_frame
from pneumod.errors import WireError
from pneumod.logs import component
from pneumod.shell.patience import ends_within, look_away

BRING_S = 10.0  # from its connection until a command has brought its batch
UNREAD_BYTES = 4 * 1024 * 1024  # that wait for a command; one with more is dropped
UNREAD_S = 60.0  # a command that reads nothing for so long is dropped
CLOSE_S = 1.0  # to read the last words
MAX_WHY = 400  # characters

log = component("worker")


class Command:
    """Frames in, frames out."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def brings(self) -> Bring:
        """The first frame.

        Raises:
            WireError: it is another one.
            OSError, IncompleteReadError: the command left, or said nothing for BRING_S (TimeoutError).
        """
        async with asyncio.timeout(BRING_S):
            frame = await self.read()
        if not isinstance(frame, Bring):
            raise WireError(f"{type(frame).__name__} in place of Bring")
        return frame

    async def read(self) -> Frame:
        """The next frame; raises as `brings` does."""
        return await read_frame(self._reader)

    def send(self, frame: Frame) -> None:
        """Say a short thing without waiting. A command that doesn't read is dropped."""
        self._writer.write(pack_frame(frame))
        if self._writer.transport.get_write_buffer_size() > UNREAD_BYTES:
            log.warning("a command at the desk does not read: dropped")
            self._writer.transport.abort()

    async def tell(self, frames: bytes) -> None:
        """Say what came, as fast as it is read.

        Raises:
            OSError: the command left, or reads nothing (TimeoutError).
        """
        self._writer.write(frames)
        drained = asyncio.ensure_future(self._writer.drain())
        drained.add_done_callback(look_away)
        try:
            if not await ends_within(drained, UNREAD_S):
                log.warning("a command at the desk does not read: dropped")
                raise TimeoutError
            drained.result()
        finally:
            drained.cancel()

    async def close(self, why: str | None) -> None:
        """End the connection, with the reason where there is one."""
        if why is not None:
            self._writer.write(pack_frame(Refused(why[:MAX_WHY])))
        self._writer.close()
        closed = asyncio.ensure_future(self._writer.wait_closed())
        closed.add_done_callback(look_away)
        if not await ends_within(closed, CLOSE_S):
            self._writer.transport.abort()
        closed.cancel()


async def receive(folder: Path, serve: Callable[[Command], Coroutine[Any, Any, None]]) -> None:
    """Serve each command that comes, until cancelled. A fault in serving one ends it."""
    try:
        listening = _listening(folder)
    except OSError as error:
        log.warning("no command can bring work: %s: %s", folder / SOCKET, error.strerror)
        return
    async with asyncio.TaskGroup() as group:

        def came(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            group.create_task(serve(Command(reader, writer)))

        server = await asyncio.start_unix_server(came, sock=listening)
        try:
            await asyncio.Future()
        finally:
            server.close()
            (folder / SOCKET).unlink(missing_ok=True)


def _listening(folder: Path) -> socket.socket:
    """A new socket in a node's state directory, for this user and group. One that a daemon left behind is replaced.

    Raises:
        OSError: it can't be made there.
    """
    (folder / SOCKET).unlink(missing_ok=True)  # the directory is locked: nobody else serves it
    listening = socket.socket(socket.AF_UNIX)
    try:
        with address(folder / SOCKET) as path:
            listening.bind(path)
            os.chmod(path, 0o660)  # nobody can connect before it listens
    except OSError:
        listening.close()
        raise
    return listening
