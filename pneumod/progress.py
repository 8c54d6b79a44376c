"""A bar of progress on standard error, for people only: a pipe or a log gets none."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def bar(wanted: bool, count: Callable[[], int]) -> Iterator[Callable[[int, str], None]]:
    """A function that shows how many images are done, and a text; it does nothing where there is no terminal.

    Args:
        wanted: False where something else shows on the same terminal how far it is.
        count: of all images; it may take long, and is called in a thread of its own.
    """
    if not (wanted and sys.stderr.isatty()):
        yield lambda done, text: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = MofNCompleteColumn(), BarColumn(), TimeRemainingColumn(), TextColumn("{task.description}")
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        threading.Thread(target=lambda: progress.update(task, total=count()), daemon=True).start()
        yield lambda done, text: progress.update(task, completed=done, description=text)
