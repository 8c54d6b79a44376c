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

from pneumod.demo.cluster import DemoCluster
from pneumod.demo.sites import synthetic_sites
from pneumod.errors import PneumodError
from pneumod.messages import RunSettings

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


def await_process(folder: Path, text: str, limit_s: float = 60) -> None:
    """Wait until a process runs whose command line holds both."""
    deadline = time.monotonic() + limit_s
    while not any(text in line for line in processes_that_name(str(folder))):
        assert time.monotonic() < deadline, f"no process {text}"
        time.sleep(0.1)  # there is no event to await: another process' children


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


def test_real_hospitals_are_federated(cxr: Path, tmp_path: Path) -> None:
    target = tmp_path / "demo.json"
    options = ("--data", str(cxr / "hospitals"), "--rounds", "1", "--no-local", "--json", str(target))
    done = subprocess.run(demo(*options), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Real images" in done.stdout
    told = json.loads(target.read_text())
    assert [node["name"] for node in told["nodes"]] == ["hospital_a", "hospital_b", "hospital_c", "hospital_d"]
    assert told["nodes"][1]["train"] == {"normal": 102, "pneumonia": 408}
    assert told["rounds"][1]["counted"] == 4
    assert told["rounds"][2]["base_auc"] > told["rounds"][1]["base_auc"], "one round beats the untrained model"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    running = subprocess.Popen(
        demo("--nodes", "2", "--no-local"),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # a shell's background job ignores SIGINT
    )
    await_process(tmp_path, "children.light")
    running.send_signal(number)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []
    assert processes_that_name(str(tmp_path)) == []


def test_sigterm_ends_the_trainings_alone_too(tmp_path: Path) -> None:
    """Their signal doesn't come from a terminal."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    running = subprocess.Popen(demo("--nodes", "2", "--rounds", "1"), env=environment, stdout=subprocess.DEVNULL)
    await_process(tmp_path, "demo.alone", limit_s=120)
    running.send_signal(signal.SIGTERM)
    assert running.wait(10) == 130
    assert list(tmp_path.iterdir()) == []
    assert processes_that_name(str(tmp_path)) == []


def test_nothing_outlives_a_demo_that_is_killed(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    running = subprocess.Popen(demo("--nodes", "2", "--rounds", "1"), env=environment, stdout=subprocess.DEVNULL)
    await_process(tmp_path, "demo.alone", limit_s=120)
    time.sleep(1)  # until the interpreter is up: a child asks to die with its parent in its first lines
    running.kill()
    running.wait(10)
    deadline = time.monotonic() + 10
    while processes_that_name(str(tmp_path)):
        assert time.monotonic() < deadline, processes_that_name(str(tmp_path))
        time.sleep(0.1)


def test_a_node_that_cannot_be_scored_is_told_before_the_run(tmp_path: Path) -> None:
    """All of a class is of one patient: no image of it is left for validation."""
    synthetic_sites(tmp_path / "made", 2, 0)
    (tmp_path / "data").mkdir()
    for name in ("a", "b"):
        (tmp_path / f"made/node{'ab'.index(name)}/train").rename(tmp_path / "data" / name)
    for index, path in enumerate(sorted((tmp_path / "data/b/NORMAL").iterdir())):
        path.rename(path.with_name(f"person1_{index}.png"))
    done = subprocess.run(
        demo("--data", str(tmp_path / "data"), "--no-local", "--keep", str(tmp_path / "kept")),
        capture_output=True, text=True, timeout=90,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("pneumod: node 2 (b): no validation image of NORMAL; give it a val/ folder")
    assert done.stderr.count("\n") == 1
    assert "no run" in done.stdout or "round" not in done.stdout


def test_a_daemon_that_others_kill_is_noticed_and_one_killed_on_purpose_is_not(tmp_path: Path) -> None:
    sites = synthetic_sites(tmp_path / "images", 2, 0)
    with DemoCluster(tmp_path, sites, RunSettings()) as cluster:
        cluster.kill(1)
        cluster.check()
        os.kill(cluster.processes[2].pid, signal.SIGKILL)
        cluster.processes[2].wait()
        with pytest.raises(PneumodError, match="the daemon of node 2 was ended by SIGKILL"):
            cluster.check()
        cluster.start(1)
        del cluster.processes[2]
        os.kill(cluster.processes[1].pid, signal.SIGKILL)
        cluster.processes[1].wait()
        with pytest.raises(PneumodError, match="the daemon of node 1 was ended by SIGKILL"):
            cluster.check()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--data", "{empty}"], "no subfolder"),
        (["--data", "{one}"], "looks like one node's data, with train/ and val/ in it; give the folder that holds"),
        (["--json", "{empty}/no/where.json"], "can't be written: No such file or directory"),
        (["--json", "{empty}"], "can't be written: Is a directory"),
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
    for part in ("train", "val"):
        for name in ("NORMAL", "PNEUMONIA"):
            (tmp_path / "one" / part / name).mkdir(parents=True)
            (tmp_path / "one" / part / name / "a.png").touch()
    options = [option.format(empty=empty, full=full, one=tmp_path / "one") for option in options]
    done = subprocess.run(demo(*options), capture_output=True, text=True)
    assert done.returncode in (1, 2)
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1
