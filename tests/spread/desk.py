"""A daemon's desk that does what a test says: a real Unix socket, pretended nodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from pneumod import parcel
from pneumod.desk import Accepted, Bring, Came, End, Frame, Give, Need, pack_frame, read_frame
from pneumod.images.load import decode_picture, read_picture
from pneumod.images.prepare import prepare_pixels
from pneumod.parcel import Answer, Answers, Parcel
from pneumod.settings import Preparation

PREPARATION = Preparation(image_size=28)
PIXELS = PREPARATION.image_size**2
SITE = (1, 2, 3)


def answer(source: Path | bytes) -> Answer:
    """What any node makes of a file, or of its bytes.

    Raises:
        DataError: nothing comes of it.
    """
    picture = decode_picture(source) if isinstance(source, bytes) else read_picture(source)
    return Answer(picture.facts, pixels=prepare_pixels(picture.grey, PREPARATION).tobytes())


class Talk:
    """One connection of a command, after it brought its batch."""

    def __init__(self, bring: Bring, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.bring, self.reader, self.writer = bring, reader, writer
        self.given: dict[int, asyncio.Future[Parcel]] = {}
        self.ended = asyncio.Event()  # by End, not by the connection's end

    async def say(self, frame: Frame) -> None:
        self.writer.write(pack_frame(frame))
        await self.writer.drain()

    async def parcel(self, item: int) -> Parcel:
        """Ask for the files of an item."""
        future = self.given[item] = asyncio.get_running_loop().create_future()
        await self.say(Need(item))
        return await future

    async def do(self, item: int, node: int = 1) -> Came:
        """Have a node do an item, and tell the command."""
        files = (await self.parcel(item)).files
        outcomes = tuple(answer(data) if data else "the file is empty" for data in files)
        came = Came(item, parcel.pack(Answers(outcomes)), node)
        await self.say(came)
        return came

    def kill(self) -> None:
        """The daemon dies."""
        self.writer.transport.abort()

    async def listen(self) -> None:
        """Until the command wants no more, or has gone."""
        try:
            while not isinstance(frame := await read_frame(self.reader), End):
                assert isinstance(frame, Give)
                self.given[frame.item].set_result(parcel.unpack(frame.parcel, Parcel))
            self.ended.set()
        except (asyncio.IncompleteReadError, ConnectionError):
            return


Script = Callable[[Talk], Awaitable[None]]


@asynccontextmanager
async def desk(path: Path, scripts: Sequence[Script]) -> AsyncIterator[list[Talk]]:
    """Play one script for each connection, one after the other; then wait until the command ends it.

    What is given is the list of talks so far. A script's fault is raised at the end.
    """
    talks: list[Talk] = []
    connections: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        bring = await read_frame(reader)
        assert isinstance(bring, Bring)
        assert len(talks) < len(scripts), "the command came once too often"
        talk = Talk(bring, reader, writer)
        talks.append(talk)
        await talk.say(Accepted(SITE[0], SITE))
        script = asyncio.create_task(play(talk, scripts[len(talks) - 1]))
        await talk.listen()
        script.cancel()
        writer.close()
        with suppress(asyncio.CancelledError):
            await script

    def came(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(asyncio.create_task(serve(reader, writer)))

    server = await asyncio.start_unix_server(came, path)
    try:
        yield talks
    finally:
        server.close()
        path.unlink(missing_ok=True)  # noqa: ASYNC240
    await asyncio.gather(*connections)


async def play(talk: Talk, script: Script) -> None:
    with suppress(ConnectionError):  # the command has gone
        await script(talk)
