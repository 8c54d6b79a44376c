"""What a node keeps on its disk. All writing, syncing and hashing happens in one writer thread."""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from pneumod import wire
from pneumod.blobs import BlobFolder, read_file, refusal, write_atomic
from pneumod.core.actions import Durable
from pneumod.core.events import ReceiptMissing
from pneumod.errors import PneumodError, WireError
from pneumod.logs import component
from pneumod.shell.receipts import Receipts
from pneumod.shell.results import Results

T = TypeVar("T")
MIB = 1024 * 1024
LEAST_FREE_BYTES = 16 * MIB  # besides room for one more model: a node that has less ends, and doesn't start
CHECK_BYTES = 32
MAX_BOOT = 2**53

log = component("worker")


class StateFile(Struct, frozen=True):
    boot: Annotated[int, Meta(ge=0, le=MAX_BOOT)]
    durable: Durable
    cluster: str = ""


class Store:
    """The state directory of one node, locked against a second daemon.

        state.msgpack   what must outlive a crash (Durable) and the number of starts, then their BLAKE2b-256
        boot            the number of starts once more, in digits: it must grow also when state.msgpack is damaged
        blobs/          models, updates, checkpoints, by digest
        receipts/       RUN/ROUND.msgpack, for good
        models/         exported models
        results/        what came of the items of this node's batch, while it is on
        cache/, log/

    What is damaged is set aside and said; the rest of the cluster has it. What can't be written raises, also at
    a start: a node whose disk is full never comes to lead, and goes on from its old state once there is space.

    Raises:
        PneumodError: another daemon uses the directory, or it can't be written.
    """

    def __init__(self, folder: Path, cluster: str = "") -> None:
        self.folder = folder
        self.cluster = cluster
        self.path = folder / "state.msgpack"
        self.receipts = Receipts(folder / "receipts")
        self.results = Results(folder / "results")
        self.missing: ReceiptMissing | None = None  # at the start
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
        """The boot number of this start (persisted), what is remembered, and the blobs that are here, whole.

        Raises:
            PneumodError: the directory can't be read or written, or has hardly any space left.
        """
        try:
            for half_written in self.folder.rglob(".*.tmp"):  # by a daemon or a child that was killed
                half_written.unlink(missing_ok=True)
            self.check_disk(self.blobs.largest_bytes())
            state = self._read()
            boots = [] if state is None else [state.boot]
            boots += self._read_boot()
            self._boot = max(
                [int(time.time()), *[boot + 1 for boot in boots]]
            )  # above those that a restored backup forgot
            durable = state.durable if state is not None else Durable()
            write_atomic(self.folder / "boot", b"%d\n" % self._boot)
            self._write(durable)
            self.receipts.scan()
            if durable.closed is not None and durable.closed.receipt is not None:  # a crash may have come first
                newest = durable.closed.receipt.digest
                self.missing = self._archive(newest, durable.closed.run, durable.closed.round)
            return self._boot, durable, self.blobs.whole()
        except OSError as error:
            raise self._unusable(error) from error

    def check_disk(self, room_bytes: int = 0) -> None:
        """Raise PneumodError where the disk is nearly full, has no room for so much more, or was made read-only."""
        disk = os.statvfs(self.folder)
        if disk.f_flag & os.ST_RDONLY:
            raise PneumodError(f"{self.folder}: Read-only file system; make it writable")
        free_bytes, least_bytes = disk.f_bavail * disk.f_frsize, LEAST_FREE_BYTES + room_bytes
        if free_bytes < least_bytes:
            raise PneumodError(
                f"{self.folder}: {free_bytes / MIB:.1f} MiB of the disk are free, and a node needs "
                f"{least_bytes / MIB:.0f}; free space"
            )

    def look(self) -> frozenset[str]:
        """The blobs that are here.

        Raises:
            PneumodError: the disk is read-only, or has no room for one more blob such as the largest that is here: a
                node can't do without the next model and its own update.
        """
        self.check_disk(self.blobs.largest_bytes())
        return self.blobs.digests()

    async def persist(self, durable: Durable) -> None:
        await self.in_writer(lambda: self._persist(durable))

    async def keep(self, digests: frozenset[str]) -> None:
        await self.in_writer(lambda: self.blobs.keep(digests))

    async def archive(self, digest: str, run: str, round_: int) -> ReceiptMissing | None:
        """Copy a receipt to where it stays; the first that is missing on the way back from it."""
        return await self.in_writer(lambda: self._archive(digest, run, round_))

    async def read(self, digest: str) -> bytes | None:
        """The bytes of a blob or of a kept receipt; None if it isn't here, or was found to be damaged."""
        return await self.in_writer(lambda: self.blobs.read(digest) or self.receipts.read(digest))

    async def in_writer(self, work: Callable[[], T]) -> T:
        """Run file work in the writer thread; what is asked for first is done first.

        Raises:
            PneumodError: the disk refused it.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._writer, work)
        except OSError as error:
            raise self._unusable(error) from error

    def later(self, work: Callable[[], object]) -> None:
        """Run file work that can't fail in the writer thread, and don't wait for it."""
        self._writer.submit(work)

    def close(self) -> None:
        self._writer.shutdown()
        self._lock.close()

    def _read(self) -> StateFile | None:
        try:
            data = read_file(self.path)
            body, check = data[:-CHECK_BYTES], data[-CHECK_BYTES:]
            if blake2b(body, digest_size=CHECK_BYTES).digest() != check:
                raise WireError("its digest differs")
            state = msgspec.convert(wire.unpack(body), StateFile)
            if self.cluster and state.cluster not in ("", self.cluster):
                raise WireError(f"it is of cluster {state.cluster}, this node is of {self.cluster}")
            return state
        except FileNotFoundError:
            return None
        except (WireError, msgspec.ValidationError) as error:
            aside = self.path.with_name(f"{self.path.name}.damaged-{int(time.time())}")
            os.replace(self.path, aside)
            log.error("%s can't be used (%s): set aside as %s; the master tells the rest", self.path, error, aside.name)
            return None

    def _read_boot(self) -> list[int]:
        """The number of the last start, where its file is whole."""
        try:
            boot = int(read_file(self.folder / "boot"))
        except (FileNotFoundError, ValueError):
            return []
        return [boot] if 0 <= boot < MAX_BOOT else []

    def _persist(self, durable: Durable) -> None:
        self.results.sync()  # first: it may say of items that they are done
        self._write(durable)

    def _write(self, durable: Durable) -> None:
        body = wire.pack(StateFile(self._boot, durable, self.cluster))
        write_atomic(self.path, body + blake2b(body, digest_size=CHECK_BYTES).digest())

    def _archive(self, digest: str, run: str, round_: int) -> ReceiptMissing | None:
        data = self.blobs.read(digest)
        if data is not None:
            self.receipts.add(data, run, round_)
        return self.receipts.gap(digest)

    def _unusable(self, error: OSError) -> PneumodError:
        return PneumodError(refusal(error, self.folder))
