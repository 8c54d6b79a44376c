"""The load benchmark, small: real daemons without TensorFlow on a real Mosquitto."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.mosquitto import MOSQUITTO

ROOT = Path(__file__).parents[2]
NODES = 3


@pytest.mark.skipif(MOSQUITTO is None, reason="Mosquitto is not installed")
def test_every_update_counts_and_no_message_is_dropped() -> None:
    arguments = ["--nodes", str(NODES), "--rounds", "2", "--parameters", "1000000", "--idle", "2"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "load.py"), *arguments], capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^(\S.*?)  +(\S.*)$", done.stdout, re.MULTILINE)
    table = dict(rows)
    assert table["how the run ended"] == "all 2 rounds done"
    assert table["updates that counted, the fewest in a round"] == str(NODES)
    assert table["messages dropped by the daemons"] == table["messages dropped by the broker"] == "0"
    assert table["takeovers"] == "0"
