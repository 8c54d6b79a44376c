"""`pneumod demo` as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(300)


def demo(*options: str) -> list[str]:
    return [sys.executable, "-m", "pneumod", "demo", *options]


def processes_that_name(text: str) -> list[str]:
    """The command lines of this machine that hold `text`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it ended meanwhile
        if text in line:
            found.append(line)
    return found


def test_a_small_demo_ends_with_a_table_and_json(tmp_path: Path) -> None:
    target = tmp_path / "demo.json"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        demo("--nodes", "2", "--rounds", "1", "--json", str(target)), env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "Synthetic images" in done.stdout
    assert "not for diagnosis" in done.stdout
    told = json.loads(target.read_text())
    assert {"nodes", "rounds", "test", "takeovers", "takeover_events", "bytes", "seconds"} <= told.keys()
    assert [node["id"] for node in told["nodes"]] == [1, 2]
    for node in told["nodes"]:
        assert 0.0 <= node["auc_federated"] <= 1.0
        assert 0.0 <= node["auc_alone"] <= 1.0
        assert node["sent_bytes"] > 0
        assert node["received_bytes"] > 0
    assert len({node["model"] for node in told["nodes"]}) == 1
    assert told["test"] is None
    assert told["takeovers"] == 0
    assert told["takeover_events"] == []
    assert [entry.name for entry in tmp_path.iterdir()] == ["demo.json"], "the demo cleans up after itself"


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    running = subprocess.Popen(
        demo("--nodes", "2", "--no-local"), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not any("children.light" in line for line in processes_that_name(str(tmp_path))):
        assert time.monotonic() < deadline, "no daemon started its child"
        time.sleep(0.1)  # there is no event to await: another process' children
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []
    assert processes_that_name(str(tmp_path)) == []


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--data", "{empty}"], "no subfolder"),
        (["--json", "{empty}/no/where.json"], "no such folder"),
        (["--test", "{empty}"], "no folder NORMAL"),
        (["--keep", "{full}"], "is not empty"),
        (["--nodes", "0"], "not a whole number"),
    ],
)
def test_a_mistake_is_told_in_one_line(tmp_path: Path, options: list[str], complaint: str) -> None:
    empty, full = tmp_path / "empty", tmp_path / "full"
    empty.mkdir()
    full.mkdir()
    (full / "file").touch()
    options = [option.format(empty=empty, full=full) for option in options]
    done = subprocess.run(demo(*options), capture_output=True, text=True)
    assert done.returncode in (1, 2)
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1
