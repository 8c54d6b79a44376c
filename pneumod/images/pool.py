"""Many pictures -> pixels, by all cores. A file that hangs or kills its decoder is set aside, and nothing else is.

The decoders are processes of their own (children/decoder.py), started as `python -m`: a fork would copy the locks of
TensorFlow's and LiteRT's threads, and a start takes 0.1 s, while the caller loads its model. Each has a few requests
ahead and answers them in order, so that the file that it was at when it hung or died is known.
"""

from __future__ import annotations

import os
import selectors
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pneumod import parcel
from pneumod.errors import DataError
from pneumod.parcel import Facts
from pneumod.settings import Preparation

START_S = 60.0  # of a decoder
HUNG = "the decoder hung on it"
DIED = "the decoder died on it"
AHEAD = 4  # requests that a decoder has
WINDOW = 32  # files a decoder that are taken from the sources before the first of them is given out
PART_S = 0.25  # waited for at a time
FROZEN_S = 1.0  # a part that took so much longer says that this process was not run (SIGSTOP, a paused machine)

READY = b"ready"
INSIDE = b"\0"  # in place of a path: the file's bytes are in the descriptor that comes with it
MAX_PATH_BYTES = 4096  # PATH_MAX of Linux: a longer one is refused by the system, cut off or not
PREPARED = struct.Struct("<?IIdd")  # True and parcel.Facts; the pixels follow. Else: SET_ASIDE and the reason
SET_ASIDE = b"\0"
REPLY_BYTES = 128 * 1024


class Ready(NamedTuple):
    """A picture that is prepared."""

    pixels: NDArray[np.uint8]  # [S, S], read-only
    facts: Facts


@dataclass(eq=False)
class _Task:
    source: Path | bytes
    result: Ready | str | None = None
    deaths: int = 0  # of decoders that were at it


@dataclass(eq=False)
class _Decoder:
    process: subprocess.Popen[bytes]
    socket: socket.socket
    ready: bool = False
    quiet_s: float = 0.0  # since its last word, as long as there is something to wait for
    tasks: deque[_Task] = field(default_factory=deque)


class Pool:
    """Decoders, to be used in a `with` statement, by one thread (but for `stop`).

    Args:
        processes: decoders at most; 0: one a core.
        force: also take DICOM files that are no chest projection.

    Attributes:
        decoder: the module that is started.
        decode_s: the longest that a decoder may be at one file; the largest that are taken need a few seconds.
    """

    decoder = "pneumod.children.decoder"
    decode_s = 30.0

    def __init__(self, preparation: Preparation, processes: int = 0, force: bool = False) -> None:
        self.preparation = preparation
        self.processes = processes or len(os.sched_getaffinity(0))
        self.force = force
        self._decoders: list[_Decoder] = []
        self._selector = selectors.DefaultSelector()
        self._waiting: deque[_Task] = deque()  # that no decoder has yet
        self._stopped = False

    def __enter__(self) -> Pool:
        self._start()  # the first needs no work to be started: meanwhile the caller does something else
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for decoder in self._decoders[:]:
            self._end(decoder)
        self._selector.close()

    def map(self, sources: Iterable[Path | bytes]) -> Generator[Ready | str]:
        """What came of each source, in their order: pixels, or the reason why it was set aside.

        Sources are paths, or the bytes of files. The first are begun with at once; the others are taken as there is
        room for them.

        Raises:
            DataError: the decoders can't be started.
        """
        self._waiting.clear()  # of a map that was left before its end
        self._stopped = False
        files, window = iter(sources), deque[_Task]()
        self._take(files, window)
        return self._results(files, window)

    def stop(self) -> None:
        """Have a `map` end within PART_S, before its time. May be called from another thread."""
        self._stopped = True

    def _results(self, sources: Iterator[Path | bytes], window: deque[_Task]) -> Generator[Ready | str]:
        while window and not self._stopped:
            result = window[0].result
            if result is None:
                self._receive()
            else:
                window.popleft()
                yield result
            self._take(sources, window)

    def _take(self, sources: Iterator[Path | bytes], window: deque[_Task]) -> None:
        """Fill the window, and hand out what waits."""
        for source in islice(sources, WINDOW * self.processes - len(window)):
            window.append(_Task(source))
            self._waiting.append(window[-1])
        self._hand_out()

    def _hand_out(self) -> None:
        """Give what waits to the decoders with the fewest requests; start another when all have AHEAD."""
        while self._waiting:
            decoder = min(self._decoders, key=lambda decoder: len(decoder.tasks), default=None)
            if decoder is None or len(decoder.tasks) >= AHEAD:
                if len(self._decoders) == self.processes:
                    return
                decoder = self._start()
            task = self._waiting.popleft()
            decoder.tasks.append(task)
            with suppress(BrokenPipeError, ConnectionResetError):  # it has just died, as it will be read
                _ask(decoder.socket, task.source)

    def _start(self) -> _Decoder:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", self.decoder, str(theirs.fileno())],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"},
            )  # fmt: skip
        decoder = _Decoder(process, ours)
        ours.send(parcel.pack(parcel.Head(self.preparation, self.force)))
        self._decoders.append(decoder)
        self._selector.register(ours, selectors.EVENT_READ, decoder)
        return decoder

    def _receive(self) -> None:
        """Read what the decoders say, or see that they hang."""
        started_s = time.monotonic()
        speaking = {key.data for key, _ in self._selector.select(PART_S)}
        waited_s = time.monotonic() - started_s
        for decoder in self._decoders[:]:
            if decoder in speaking:
                decoder.quiet_s = 0.0
                self._read(decoder)
            elif waited_s < PART_S + FROZEN_S and (decoder.tasks or not decoder.ready):
                decoder.quiet_s += waited_s
                if decoder.quiet_s > (self.decode_s if decoder.ready else START_S):
                    self._lose(decoder, HUNG)

    def _read(self, decoder: _Decoder) -> None:
        try:
            packet = decoder.socket.recv(REPLY_BYTES)
        except ConnectionResetError:
            return  # it is dead; what it said before is read next
        if not packet:
            self._lose(decoder, DIED)
        elif not decoder.ready:
            decoder.ready = True
        else:
            decoder.tasks.popleft().result = self._result(packet)

    def _result(self, packet: bytes) -> Ready | str:
        if packet.startswith(SET_ASIDE):
            return packet.removeprefix(SET_ASIDE).decode()
        _, height, width, colour, contrast = PREPARED.unpack_from(packet)
        side = self.preparation.image_size
        pixels = np.frombuffer(packet, np.uint8, offset=PREPARED.size).reshape(side, side)
        return Ready(pixels, Facts(height, width, colour, contrast))

    def _lose(self, decoder: _Decoder, why: str) -> None:
        """End a decoder that hangs or died. The file it was at is set aside; one that it died on is tried once more,
        as the fault may have been another's (no memory, somebody's kill)."""
        self._end(decoder)
        if not decoder.ready:
            raise DataError("the decoders of images can't be started; is pneumod installed whole, is memory free?")
        if decoder.tasks:
            task = decoder.tasks[0]
            task.deaths += 1
            if why == HUNG or task.deaths > 1:
                task.result = why
                decoder.tasks.popleft()
        self._waiting.extendleft(reversed(decoder.tasks))

    def _end(self, decoder: _Decoder) -> None:
        self._decoders.remove(decoder)
        self._selector.unregister(decoder.socket)
        decoder.socket.close()
        decoder.process.kill()
        with suppress(subprocess.TimeoutExpired):  # one in the middle of a read that hangs dies when that ends
            decoder.process.wait(timeout=1.0)


def _ask(decoder: socket.socket, source: Path | bytes) -> None:
    if isinstance(source, Path):
        decoder.send(os.fsencode(source)[:MAX_PATH_BYTES])
        return
    with os.fdopen(os.memfd_create("picture"), "wb", buffering=0) as file:
        file.write(source)
        socket.send_fds(decoder, [INSIDE], [file.fileno()])
