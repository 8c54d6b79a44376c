"""A painter: the process that draws heat maps. A file that kills it, or that it hangs at, costs its own map alone.

Started as `python -m pneumod.children.painter FD`: FD is a connection of `multiprocessing` to the caller, who sends how
pictures are prepared and whether any DICOM file is taken, and then what is wanted, one map after the other.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pneumod.errors import DataError
from pneumod.images.pool import DIED, HUNG, Pool
from pneumod.settings import Preparation


class Wanted(NamedTuple):
    """What `heatmap.draw` takes, with the file in place of its picture."""

    path: Path
    cam: NDArray[np.float32]
    probability: float
    threshold: float
    label: str
    model: str
    warnings: tuple[str, ...]


class Painter:
    """The caller's side of a painter, which is started at once, after a death anew, and ends with the caller."""

    paint_s = Pool.decode_s  # the longest that it may be at one map

    def __init__(self, preparation: Preparation, force: bool) -> None:
        self._how = preparation, force
        self._start()

    def _start(self) -> None:
        self._line, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "pneumod.children.painter", str(theirs.fileno())],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )  # fmt: skip
        self._line.send(self._how)

    def close(self) -> None:
        """End the painter, whatever it does."""
        self._line.close()
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):  # one in the middle of a read that hangs dies when that ends
            self._process.wait(1)

    def draw(self, wanted: Wanted) -> bytes:
        """A PNG.

        Raises:
            DataError: the reason why there is none, without a path.
        """
        if self._line.closed or self._process.poll() is not None:
            self._start()
        try:
            self._line.send(tuple(wanted))
            if not self._line.poll(self.paint_s):
                self.close()
                raise DataError(HUNG)
            drawn: bytes | str = self._line.recv()
        except (EOFError, OSError) as error:
            self.close()
            raise DataError(DIED) from error
        if isinstance(drawn, str):
            raise DataError(drawn)
        return drawn


def start() -> None:
    """The main part of a painter's process."""
    # The imports are here, as the caller need not wait for OpenCV and Pillow; and first, beside its own start.
    from pneumod.children.decoder import confine
    from pneumod.images import heatmap  # noqa: F401

    confine()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # as a decoder does
    with Connection(int(sys.argv[1])) as line, suppress(EOFError, OSError):  # until the caller has gone
        preparation, force = line.recv()
        while True:
            line.send(_drawn(line.recv(), preparation, force))


def _drawn(wanted: tuple[Any, ...], preparation: Preparation, force: bool) -> bytes | str:
    from pneumod.images import heatmap
    from pneumod.images.load import read_picture
    from pneumod.images.prepare import content_box

    path, cam, probability, threshold, label, model, warnings = wanted
    try:
        grey = read_picture(path, max(heatmap.PANEL_PX), force).grey
        box = content_box(grey, preparation)
        return heatmap.draw(grey, cam, probability, threshold, label, model, warnings, box)
    except DataError as error:
        return str(error)
    except Exception as error:  # of a decoder's library: a fault of this file alone
        return f"the decoder failed on it ({type(error).__name__})"


if __name__ == "__main__":
    start()
