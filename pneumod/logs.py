"""Logs: one rotated file a component under the state directory, and readable lines on stderr.

A file keeps its own component's records; stderr shows all of them. Names of image files belong only in
`preprocess`, whose file stays on the node; nothing here sends a record anywhere.
"""

from __future__ import annotations

import logging
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Literal, get_args

from pneumod.config import LogConfig

Component = Literal["master", "worker", "train", "predict", "preprocess", "broker"]
FORMAT = "%(asctime)s %(levelname)-7s %(component)-10s %(message)s"
ROOT = logging.getLogger("pneumod")


def component(name: Component) -> logging.Logger:
    """The logger of a part of the node: `master` for what it does as master, `worker` for the rest of the daemon."""
    return ROOT.getChild(name)


class _Formatter(logging.Formatter):
    """Time, level, component and text on one line; a traceback goes below."""

    def format(self, record: logging.LogRecord) -> str:
        record.component = record.name.rpartition(".")[2]
        return super().format(record)


def setup(state_dir: Path, log: LogConfig, stderr: bool = True) -> None:
    """Log to `state_dir`/log/COMPONENT/COMPONENT.log and, unless told not to, to stderr; replaces an earlier set-up.

    A folder is made at once, a file when its first record is written; `log.max_mb` and `log.keep` bound it.

    Raises:
        OSError: a folder can't be made.
    """
    ROOT.setLevel(log.level.upper())
    ROOT.propagate = False
    formatter = _Formatter(FORMAT)
    _replace_handler(ROOT, logging.StreamHandler() if stderr else logging.NullHandler(), formatter)
    for name in get_args(Component):
        folder = state_dir / "log" / name
        folder.mkdir(parents=True, exist_ok=True)
        handler = RotatingFileHandler(
            folder / f"{name}.log",
            maxBytes=log.max_mb * 1024 * 1024,
            backupCount=log.keep,
            encoding="utf-8",
            delay=True,
        )
        _replace_handler(component(name), handler, formatter)


def _replace_handler(logger: logging.Logger, handler: logging.Handler, formatter: logging.Formatter) -> None:
    for old in logger.handlers[:]:
        logger.removeHandler(old)
        old.close()
    handler.setFormatter(formatter)
    logger.addHandler(handler)
