"""What an operator's command imports: never TensorFlow, and the command line itself next to nothing."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

HEAVY = ("tensorflow", "keras")


def modules_after_importing(*names: str) -> set[str]:
    """The top-level modules that a fresh interpreter has after importing `names`."""
    code = f"import sys, {', '.join(names)}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_command_line_imports_next_to_nothing() -> None:
    loaded = modules_after_importing("pneumod.cli")
    assert loaded.isdisjoint({*HEAVY, "numpy", "cv2", "textual", "rich", "aiomqtt", "asyncio", "msgspec", "yaml"})


def test_help_is_immediate() -> None:
    """The best of three: 0.05 s where nothing else runs; a library at the top of cli.py costs 0.3 s and more."""

    def seconds() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "pneumod", "--help"], capture_output=True, check=True)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(3)) < 0.25


@pytest.mark.parametrize("name", ["predict", "evaluate", "status", "tui", "train", "run", "broker", "demo"])
def test_a_command_starts_without_tensorflow(name: str) -> None:
    assert modules_after_importing(f"pneumod.commands.{name}").isdisjoint(HEAVY)


def test_the_dashboard_and_the_light_child_never_load_tensorflow() -> None:
    loaded = modules_after_importing("pneumod.tui.app", "pneumod.children.light", "pneumod.learning.predict")
    assert loaded.isdisjoint(HEAVY)
