"""What a node keeps on its disk. All writing, syncing and hashing happens in one writer thread."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from pneumod import wire
from pneumod.blobs import BlobFolder, write_atomic
from pneumod.core.actions import Durable
from pneumod.errors import PneumodError, WireError
from pneumod.logs import component

T = TypeVar("T")


class StateFile(Struct, frozen=True):
    boot: Annotated[int, Meta(ge=0, le=2**53)]
    durable: Durable


class Store:
    """The state directory of one node, locked against a second daemon.

        state.msgpack   what must outlive a crash (Durable) and the number of starts
        blobs/          models, updates, checkpoints, by digest
        receipts/       RUN/ROUND.msgpack, for good
        models/         exported models
        cache/, log/

    Raises:
        PneumodError: another daemon uses the directory, or it can't be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "state.msgpack"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = (folder / "lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.blobs = BlobFolder(folder / "blobs")
        except BlockingIOError as error:
            raise PneumodError(f"{folder}: another daemon uses this state directory; stop it first") from error
        except OSError as error:
            raise self._unusable(error) from error
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="writer")
        self._boot = 0

    def load(self) -> tuple[int, Durable, frozenset[str]]:
        """The boot number of this start (persisted), what is remembered, and the blobs that are here."""
        state = self._read()
        self._boot = state.boot + 1 if state is not None else int(time.time())
        durable = state.durable if state is not None else Durable()
        self._write(durable)
        return self._boot, durable, self.blobs.digests()

    async def persist(self, durable: Durable) -> None:
        await self.in_writer(lambda: self._write(durable))

    async def keep(self, digests: frozenset[str]) -> None:
        await self.in_writer(lambda: self.blobs.keep(digests))

    async def archive(self, digest: str, run: str, round_: int) -> None:
        """Copy a receipt to where it stays."""
        target = self.folder / "receipts" / run / f"{round_:05}.msgpack"
        await self.in_writer(lambda: self._archive(digest, target))

    async def in_writer(self, work: Callable[[], T]) -> T:
        """Run file work in the writer thread; what is asked for first is done first.

        Raises:
            PneumodError: the disk refused it.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._writer, work)
        except OSError as error:
            raise self._unusable(error) from error

    def close(self) -> None:
        self._writer.shutdown()
        self._lock.close()

    def _read(self) -> StateFile | None:
        try:
            data = self.path.read_bytes()
            return msgspec.convert(wire.unpack(data), StateFile)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable(error) from error
        except (WireError, msgspec.ValidationError) as error:
            aside = self.path.with_name(f"state.msgpack.damaged-{int(time.time())}")
            os.replace(self.path, aside)
            component("worker").error("%s is damaged (%s): set aside as %s", self.path, error, aside.name)
            return None

    def _write(self, durable: Durable) -> None:
        try:
            write_atomic(self.path, wire.pack(StateFile(self._boot, durable)))
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> PneumodError:
        return PneumodError(f"{error.filename or self.folder}: {error.strerror}; free space or fix rights")

    def _archive(self, digest: str, target: Path) -> None:
        source = self.blobs.folder / digest
        if source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
