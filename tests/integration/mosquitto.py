"""A real Mosquitto with the shipped configuration, on loopback."""

from __future__ import annotations

import shutil
import subprocess
import threading
from pathlib import Path
from typing import IO

from pneumod.broker.embedded import HOST, free_port
from pneumod.children.protocol import die_with_parent

CONF = Path(__file__).parents[2] / "broker" / "mosquitto.conf"
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
START_S = 10.0
STOP_S = 2.0


class Mosquitto:
    """Only the port, the folder and the user of the shipped file are changed.

    It keeps its port from start to start; what it says is in `folder`/mosquitto.log.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def start(self) -> None:
        """Start it and wait until it serves."""
        assert MOSQUITTO is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        text = CONF.read_text().replace("listener 1883\n", f"listener {self.port} {HOST}\nuser root\n")
        path = self.folder / "mosquitto.conf"
        path.write_text(text.replace("/var/lib/pneumod-broker/", f"{self.folder}/"))
        process = self._process = subprocess.Popen(
            [MOSQUITTO, "-c", str(path)], stderr=subprocess.PIPE, text=True, preexec_fn=die_with_parent
        )
        assert process.stderr is not None
        running = threading.Event()
        self._reader = threading.Thread(target=self._log, args=(process.stderr, running), daemon=True)
        self._reader.start()
        if not running.wait(START_S) or process.poll() is not None:
            self.kill()
            raise AssertionError(f"Mosquitto ended with {process.returncode}; see {self.folder / 'mosquitto.log'}")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:  # it forgets a signal that comes just as it begins to run
                self._process.kill()
            self._end()

    def kill(self) -> None:
        """SIGKILL: what it had not saved is lost."""
        if self._process is not None:
            self._process.kill()
            self._end()

    def forget(self) -> None:
        """Delete what a stopped broker kept: retained messages and sessions."""
        (self.folder / "mosquitto.db").unlink(missing_ok=True)

    def _end(self) -> None:
        assert self._process is not None
        assert self._reader is not None
        self._process.wait()
        self._reader.join()
        self._process = None

    def _log(self, lines: IO[str], running: threading.Event) -> None:
        """Keep reading: a full pipe would stop the broker. `running` is set when it serves, or has ended."""
        with lines, (self.folder / "mosquitto.log").open("a") as log:
            for line in lines:
                log.write(line)
                log.flush()
                if " running" in line:
                    running.set()
        running.set()
