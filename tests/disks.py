"""A small disk of its own (tmpfs), which can be filled and made read-only. Mounting needs root."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


class Disk:
    """A file system of a few MiB at `folder`."""

    def __init__(self, folder: Path, mib: int) -> None:
        self.folder = folder
        self.mib = mib
        self.filler = folder / "filler"

    def mount(self) -> None:
        """Skips the test where this user may not."""
        self.folder.mkdir()
        options = ["-t", "tmpfs", "-o", f"size={self.mib}m", "tmpfs", str(self.folder)]
        done = subprocess.run(["mount", *options], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no small disk: {done.stderr.strip()}")

    def fill(self) -> None:
        """Take all the space that is left."""
        with contextlib.suppress(OSError), self.filler.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def free(self) -> None:
        self.filler.unlink()

    def read_only(self, on: bool) -> None:
        subprocess.run(["mount", "-o", f"remount,{'ro' if on else 'rw'}", str(self.folder)], check=True)

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


@contextlib.contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[Disk]:
    disk = Disk(folder, mib)
    disk.mount()
    try:
        yield disk
    finally:
        disk.unmount()
