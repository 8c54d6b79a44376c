"""Logs: one rotated file a component under the state directory, and readable lines on stderr.

A file keeps its own component's records; stderr shows all of them. Names of image files belong only in
`preprocess`, whose file stays on the node; nothing here sends a record anywhere.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import QueueHandler, QueueListener, RotatingFileHandler
from pathlib import Path
from queue import SimpleQueue
from typing import Literal, get_args

from pneumod.config import LogConfig

Component = Literal["master", "worker", "train", "predict", "preprocess", "broker"]
FORMAT = "%(asctime)s %(levelname)-7s %(component)-10s %(message)s"
ROOT = logging.getLogger("pneumod")
MAX_WAITING = 10_000  # records that are still to be written


def component(name: Component) -> logging.Logger:
    """The logger of a part of the node: `master` for what it does as master, `worker` for the rest of the daemon."""
    return ROOT.getChild(name)


class _Formatter(logging.Formatter):
    """Time, level, component and text on one line; a traceback goes below."""

    def format(self, record: logging.LogRecord) -> str:
        record.component = record.name.rpartition(".")[2]
        return super().format(record)


class _LogFile(RotatingFileHandler):
    """A log file. A disk that refuses it is said once, not for each record, until it takes one again."""

    def __init__(self, path: Path, log: LogConfig) -> None:
        size = log.max_mb * 1024 * 1024
        super().__init__(path, maxBytes=size, backupCount=log.keep, encoding="utf-8", delay=True)
        self._refused = self._said = False

    def emit(self, record: logging.LogRecord) -> None:
        self._refused = False
        super().emit(record)
        self._said = self._refused

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        self._refused = True
        if not self._said and sys.stderr:
            text = f"{self.baseFilename}: {error.strerror}; its records are not kept until the disk takes them"
            print(f"pneumod: {text}", file=sys.stderr)


def setup(state_dir: Path, log: LogConfig, stderr: bool = True) -> None:
    """Log to `state_dir`/log/COMPONENT/COMPONENT.log and, unless told not to, to stderr; replaces an earlier set-up.

    A folder is made at once, a file when its first record is written; `log.max_mb` and `log.keep` bound it.

    Raises:
        OSError: a folder can't be made.
    """
    ROOT.setLevel(log.level.upper())
    ROOT.propagate = False
    handlers: list[logging.Handler] = [logging.StreamHandler()] if stderr else []
    for name in get_args(Component):
        folder = state_dir / "log" / name
        folder.mkdir(parents=True, exist_ok=True)
        file = _LogFile(folder / f"{name}.log", log)
        file.addFilter(logging.Filter(component(name).name))
        handlers.append(file)
    for old in ROOT.handlers[:]:
        ROOT.removeHandler(old)
        old.close()
    for handler in handlers:
        handler.setFormatter(_Formatter(FORMAT))
        ROOT.addHandler(handler)


class _Waiting(QueueHandler):
    """Puts records into a queue of at most MAX_WAITING; more are dropped, counted, and said when there is room."""

    def __init__(self, waiting: SimpleQueue[logging.LogRecord | None]) -> None:
        super().__init__(waiting)
        self.waiting = waiting
        self.dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        if self.waiting.qsize() >= MAX_WAITING:
            self.dropped += 1
            return
        if self.dropped:
            self.waiting.put(_loss(self.dropped))
            self.dropped = 0
        self.waiting.put(record)


@contextmanager
def in_background() -> Iterator[None]:
    """Inside, a thread of its own writes the records, so that a slow disk holds up nobody who logs.

    At most MAX_WAITING records wait. At the end, also by an exception, all of them are written.
    """
    handlers = ROOT.handlers[:]
    waiting = _Waiting(SimpleQueue())
    writer = QueueListener(waiting.waiting, *handlers)
    ROOT.handlers[:] = [waiting]
    writer.start()
    try:
        yield
    finally:
        ROOT.handlers[:] = handlers
        writer.stop()
        if waiting.dropped:
            ROOT.handle(_loss(waiting.dropped))


def _loss(count: int) -> logging.LogRecord:
    text = f"{count} log records were dropped: the disk of the log is slow"
    return logging.LogRecord(component("worker").name, logging.WARNING, __file__, 0, text, None, None)
