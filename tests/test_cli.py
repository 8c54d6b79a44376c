"""The command line: values are checked, mistakes are one line, and exit codes mean something."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from pneumod import __version__
from pneumod.cli import build_parser, main
from pneumod.errors import BusError, ConfigError, PneumodError

MISTAKES = {
    "": "the following arguments are required: COMMAND",
    "dance": "invalid choice: 'dance'",
    "run": "the following arguments are required: --config",
    "predict": "one of the arguments IMAGE --watch is required",
    "predict a.png --model m --config c": "not allowed with argument",
    "train --config c --rounds 0": "argument --rounds: '0' is not a whole number from 1 to 10000",
    "train --config c --rounds 1.5": "argument --rounds: '1.5' is not a whole number from 1 to 10000",
    "train --config c --learning-rate nan": "argument --learning-rate: 'nan' is not a number from",
    "train --config c --learning-rate 1e400": "argument --learning-rate: '1e400' is not a number from",
    "train --config c --image-size 20": "argument --image-size: '20' is not a whole number from 28 to 256",
    "train --config c --name ''": "argument --name: '' is not a name",
    "broker --port 70000": "argument --port: '70000' is not a whole number from 1 to 65535",
    "demo --data /no/such": "argument --data: no such folder: /no/such",
    "status --config c --jso": "unrecognized arguments: --jso",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([part.strip("'") for part in line.split()]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("pneumod")
    assert MISTAKES[line] in error


def test_the_defaults_of_train_are_left_to_the_configuration() -> None:
    args = build_parser().parse_args(["train", "--config", "node.yaml", "--rounds", "3"])
    assert args.rounds == 3
    assert [args.local_epochs, args.batch_size, args.learning_rate, args.seed, args.name] == [None] * 5


def test_the_defaults_of_demo() -> None:
    args = build_parser().parse_args(["demo"])
    assert (args.nodes, args.rounds, args.seed, args.data, args.test) == (4, None, 0, None, None)
    assert (args.no_local, args.kill_master, args.keep, args.json) == (False, False, None, None)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"pneumod {__version__}\n"


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (ConfigError("node.yaml: cluster: is missing"), 2, "pneumod: node.yaml: cluster: is missing\n"),
        (BusError("no broker"), 1, "pneumod: no broker\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_what_a_command_raises_becomes_an_exit_code(
    raised: PneumodError | KeyboardInterrupt,
    code: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(args: object) -> int:
        raise raised

    command = ModuleType("pneumod.commands.status")
    monkeypatch.setattr(command, "run", run, raising=False)
    monkeypatch.setitem(sys.modules, "pneumod.commands.status", command)
    assert main(["status", "--config", "node.yaml"]) == code
    assert capsys.readouterr().err == line


def test_a_wrong_configuration_ends_the_daemon_with_one_line(tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    path.write_text("clusterr: lab\n")
    done = subprocess.run(
        [sys.executable, "-m", "pneumod", "run", "--config", path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == f"pneumod: {path}: clusterr: unknown key; did you mean cluster?\n"


def test_a_reader_that_goes_away_is_not_an_error_to_print(tmp_path: Path) -> None:
    """As `pneumod evaluate … | head -0` does: here with a command whose output is longer than a pipe holds."""
    code = (
        "import sys, types; from pneumod import cli\n"
        "command = types.ModuleType('pneumod.commands.status'); command.run = lambda args: print('x' * 10**6) or 0\n"
        "sys.modules['pneumod.commands.status'] = command\n"
        "sys.exit(cli.main(['status', '--config', 'node.yaml']))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=30) == 1
