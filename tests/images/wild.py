"""A decoder that does what a file's name says: hang, die, die-once, eat, raise, mark, slow; it reads the others."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from pneumod.children.decoder import read, start
from pneumod.images.picture import Picture


def wild(source: Path | bytes, least: int, force: bool) -> Picture:
    words = source.stem.split("_") if isinstance(source, Path) else source[:8].decode(errors="replace").split("_")
    if "hang" in words:
        signal.pause()
    if "die" in words:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "die-once" in words and isinstance(source, Path):
        mark = source.with_suffix(".died")
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    if "eat" in words:
        bytearray(8 * 1024**3)
    if "raise" in words:
        raise ZeroDivisionError
    if "mark" in words and isinstance(source, Path):
        source.with_suffix(".seen").touch()
    if "slow" in words:
        time.sleep(0.05)
    return read(source, least, force)


if __name__ == "__main__":
    start(wild)
