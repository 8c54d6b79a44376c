"""A decoder: a process of a Pool that turns pictures into pixels. A file that kills it kills nothing else.

Started as `python -m pneumod.children.decoder FD`: FD is a Unix socket of packets to the pool.

    pool                                                decoder
    parcel.Head: what is to be done         ->
                                            <-          READY
    a path, or INSIDE and a file descriptor ->
                                            <-          what came of it, in the order of the requests
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import cv2

from pneumod import parcel
from pneumod.children.protocol import die_with_parent
from pneumod.errors import DataError
from pneumod.images.load import decode_picture, read_picture
from pneumod.images.picture import Picture
from pneumod.images.pool import INSIDE, MAX_PATH_BYTES, PREPARED, READY, SET_ASIDE
from pneumod.images.prepare import least_px, prepare_pixels

MEMORY_BYTES = 3 * 1024**3  # the largest pictures that are taken need 2

Read = Callable[[Path | bytes, int, bool], Picture]


def read(source: Path | bytes, least: int, force: bool) -> Picture:
    return decode_picture(source, least, force) if isinstance(source, bytes) else read_picture(source, least, force)


def start(read: Read = read) -> None:
    """The main part of a decoder's process."""
    confine()
    with socket.socket(fileno=int(sys.argv[1])) as pool, suppress(BrokenPipeError, ConnectionResetError):
        _serve(pool, read)  # until the pool has gone


def confine() -> None:
    """Make a process ready to decode files that may be malicious: it can't take the machine's memory or outlive its
    parent."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the pool's process
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump would hold a patient's picture
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    with suppress(OSError):  # /proc may be hidden, or for reading only
        Path("/proc/self/oom_score_adj").write_text("1000")  # where memory ends, a decoder is to die, not the daemon


def _serve(pool: socket.socket, read: Read) -> None:
    cv2.setNumThreads(1)  # the pool is the parallelism
    head = parcel.unpack(pool.recv(MAX_PATH_BYTES), parcel.Head)
    pool.send(READY)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libjpeg and libpng tell the terminal of every damaged file
    while True:
        request, descriptors, _, _ = socket.recv_fds(pool, MAX_PATH_BYTES, 1)
        if not request:
            return
        source = _bytes_in(descriptors[0]) if request == INSIDE else Path(os.fsdecode(request))
        try:
            picture = read(source, least_px(head.preparation), head.force)
            pixels = prepare_pixels(picture.grey, head.preparation)
        except DataError as error:
            pool.sendmsg([SET_ASIDE, str(error).encode(errors="replace")])
        except Exception as error:  # of a decoder's library: a fault of this file alone
            pool.sendmsg([SET_ASIDE, f"the decoder failed on it ({type(error).__name__})".encode()])
        else:
            facts = picture.facts
            what = PREPARED.pack(True, facts.height, facts.width, facts.colour, facts.contrast)
            pool.sendmsg([what, pixels.data])


def _bytes_in(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        file.seek(0)
        return file.read()


if __name__ == "__main__":
    start()
