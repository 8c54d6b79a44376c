"""A real Mosquitto with the shipped configuration, on loopback."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from pneumod.broker.embedded import HOST, free_port

CONF = Path(__file__).parents[2] / "broker" / "mosquitto.conf"
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
STOP_S = 2.0


class Mosquitto:
    """Only the port, the folder and the user of the shipped file are changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it and wait until it serves."""
        assert MOSQUITTO is not None
        text = CONF.read_text().replace("listener 1883\n", f"listener {self.port} {HOST}\nuser root\n")
        path = self.folder / "mosquitto.conf"
        path.write_text(text.replace("/var/lib/pneumod-broker/", f"{self.folder}/"))
        self._process = subprocess.Popen([MOSQUITTO, "-c", str(path)], stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if " running" in line:
                return
        raise AssertionError(f"Mosquitto ended with {self._process.wait()}")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.communicate(timeout=STOP_S)
            except subprocess.TimeoutExpired:  # it forgets a signal that comes just as it begins to run
                self._process.kill()
                self._process.communicate()
            self._process = None
