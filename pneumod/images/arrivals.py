"""Files that arrive in a folder, each once it is complete: when its size and time have stood still for a stated time.

What the system tells of changes (inotify) is only a hint: all that counts is seen by looking, so that a lost hint costs
time and no file.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pneumod.errors import DataError
from pneumod.imagefile import is_image

if TYPE_CHECKING:
    from watchfiles.main import FileChange

TICK_MS = 200  # of waiting at a time
GROUP_MS = 400  # changes that follow each other are told together, at most so late
SWEEP_S = 30.0  # between two looks at the whole folder, for what was not told
SWEEP_SHARE = 0.1  # of the time is spent on them at most, in a folder so large that a look takes long


class Stamp(NamedTuple):
    """A file that was written again has another one."""

    size: int  # bytes
    mtime_ns: int


class Arrival(NamedTuple):
    path: Path
    stamp: Stamp


def stamp_of(path: Path) -> Stamp | None:
    """None where there is no such file (any more)."""
    try:
        status = path.stat()
    except OSError:
        return None
    return Stamp(status.st_size, status.st_mtime_ns)


class Arrivals:
    """The images that are in a folder, and those that arrive in it and in the folders inside it.

    Args:
        settle_s: how long a file must stand still.
        poll_s: look at the whole folder so often, and wait for no hints; None: where the system tells of changes.
        is_done: whether a file is done, as it stands.
        say: is told which folder inside can't be read, once.
    """

    def __init__(
        self,
        folder: Path,
        settle_s: float,
        poll_s: float | None,
        is_done: Callable[[Arrival], bool],
        say: Callable[[str], None],
    ) -> None:
        self.folder, self.settle_s, self.poll_s, self.is_done, self.say = folder, settle_s, poll_s, is_done, say
        self._unreadable: set[str] = set()
        self._standing: dict[Path, tuple[Stamp, float]] = {}  # and since when it stands still (s), in ascending order
        self._sweep_at_s = 0.0

    def complete(self) -> Iterator[list[Arrival]]:
        """Files that are complete, some together, without end. One that is not done then is given out again.

        Raises:
            DataError: the folder is gone, or the system can't watch it.
        """
        try:
            here = os.open(self.folder, os.O_PATH)
        except OSError as error:
            raise self._gone(str(error.strerror)) from error
        try:
            for changes in self._changes():
                self._check(here)
                self._take(changes)
                now_s = time.monotonic()
                if now_s >= self._sweep_at_s:
                    self.sweep(self.folder)
                    took_s = time.monotonic() - now_s
                    self._sweep_at_s = now_s + max(self.poll_s or SWEEP_S, took_s / SWEEP_SHARE)
                if due := self._due():
                    yield due
        finally:
            os.close(here)

    def look(self, path: Path, touched: bool = False) -> None:
        """Note how a file stands.

        Args:
            touched: it was written to since the last look, though that may not show.
        """
        try:
            status = path.stat()
        except OSError:
            return
        stamp = Stamp(status.st_size, status.st_mtime_ns)
        hidden = any(part.startswith(".") for part in path.relative_to(self.folder).parts)
        if hidden or not stat.S_ISREG(status.st_mode) or not is_image(path) or self.is_done(Arrival(path, stamp)):
            return
        known = self._standing.get(path)
        if touched or known is None or known[0] != stamp:
            self._standing.pop(path, None)
            self._standing[path] = stamp, time.monotonic()

    def sweep(self, folder: Path) -> None:
        """Look at every file in a folder, and in the folders inside it."""
        for inside, folders, names in os.walk(folder, onerror=self._tell):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                self.look(Path(inside, name))

    def _tell(self, error: OSError) -> None:
        if not isinstance(error, FileNotFoundError) and error.filename not in self._unreadable:
            self._unreadable.add(error.filename)
            self.say(f"{error.filename}: can't be read: {error.strerror}")

    def _check(self, here: int) -> None:
        """That the folder is still the one that was opened as `here`: after a share was unmounted, another of the same
        name is left."""
        try:
            same = os.path.samestat(self.folder.stat(), os.fstat(here))
        except OSError as error:
            raise self._gone(str(error.strerror)) from error
        if not same:
            raise self._gone("another is in its place")

    def _gone(self, why: str) -> DataError:
        return DataError(f"{self.folder}: the folder is gone ({why})")

    def _changes(self) -> Iterator[set[FileChange]]:
        """What the system tells, at least every TICK_MS."""
        while self.poll_s is not None:
            yield set()
            time.sleep(TICK_MS / 1000)
        from watchfiles import watch
        from watchfiles._rust_notify import WatchfilesRustInternalError

        while True:
            try:
                yield from watch(
                    self.folder, watch_filter=None, debounce=GROUP_MS, rust_timeout=TICK_MS, yield_on_timeout=True
                )
            except (OSError, WatchfilesRustInternalError) as error:
                if "decode path" not in str(error):
                    raise DataError(
                        f"{self.folder}: the system can't watch it ({error}); take --poll SECONDS"
                    ) from error
                self._sweep_at_s = 0.0  # it ends at a name that isn't UTF-8: look, and watch anew
                yield set()

    def _take(self, changes: set[FileChange]) -> None:
        for _, name in sorted(changes, key=lambda change: change[1]):
            path = Path(name)
            if path.is_dir() and not path.is_symlink():
                self.sweep(path)  # files may have come into a new folder before it was watched
            else:
                self.look(path, touched=True)

    def _due(self) -> list[Arrival]:
        """What has stood still long enough, after a last look."""
        still_s = time.monotonic() - self.settle_s
        standing = takewhile(lambda item: item[1][1] <= still_s, self._standing.items())
        due = [Arrival(path, stamp) for path, (stamp, _) in standing]
        for arrival in due:
            del self._standing[arrival.path]
        for moved in [arrival for arrival in due if stamp_of(arrival.path) != arrival.stamp]:
            due.remove(moved)
            self.look(moved.path)
        return due
