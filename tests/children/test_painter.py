"""Heat maps are drawn by a process of their own, which a file may kill or hold up."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from threading import Timer

import cv2
import numpy as np
import pytest

from pneumod.children.painter import Painter, Wanted
from pneumod.errors import DataError
from pneumod.images.pool import DIED, HUNG
from pneumod.settings import Preparation

CAM = np.ones((6, 6), np.float32)


@pytest.fixture
def wanted(tmp_path: Path) -> Wanted:
    path = tmp_path / "x.png"
    cv2.imwrite(str(path), np.arange(200 * 100, dtype=np.uint8).reshape(200, 100))
    return Wanted(path, CAM, 0.9, 0.5, "PNEUMONIA", "model", ("a warning",))


@pytest.fixture
def painter() -> Iterator[Painter]:
    painter = Painter(Preparation(28), False)
    yield painter
    painter.close()


def pid() -> int:
    """Of this process's only child."""
    (child,) = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return int(child)


def is_map(drawn: bytes) -> bool:
    page = cv2.imdecode(np.frombuffer(drawn, np.uint8), cv2.IMREAD_COLOR)
    return page is not None and page.shape[1] > page.shape[0] > 400


def test_a_map_is_drawn_by_another_process_with_little_memory(painter: Painter, wanted: Wanted) -> None:
    assert is_map(painter.draw(wanted))
    assert pid() != os.getpid()
    limit = next(line for line in Path(f"/proc/{pid()}/limits").read_text().splitlines() if "address space" in line)
    assert "unlimited" not in limit


def test_a_file_without_a_picture_has_a_reason_and_the_painter_goes_on(painter: Painter, wanted: Wanted) -> None:
    painter.draw(wanted)
    first = pid()
    with pytest.raises(DataError, match="no such file"):
        painter.draw(wanted._replace(path=wanted.path.with_name("y.png")))
    assert is_map(painter.draw(wanted))
    assert pid() == first


def test_a_painter_that_hangs_is_ended_and_the_next_map_is_drawn(painter: Painter, wanted: Wanted) -> None:
    painter.draw(wanted)
    os.kill(pid(), signal.SIGSTOP)
    painter.paint_s = 0.2
    with pytest.raises(DataError, match=HUNG):
        painter.draw(wanted)
    painter.paint_s = Painter.paint_s
    assert is_map(painter.draw(wanted))


def test_a_painter_that_dies_costs_one_map(painter: Painter, wanted: Wanted) -> None:
    painter.draw(wanted)
    stopped = pid()
    os.kill(stopped, signal.SIGSTOP)
    Timer(0.2, os.kill, (stopped, signal.SIGKILL)).start()  # while it is waited for
    with pytest.raises(DataError, match=DIED):
        painter.draw(wanted)
    assert is_map(painter.draw(wanted))


def test_a_painter_that_died_between_two_maps_is_replaced(painter: Painter, wanted: Wanted) -> None:
    painter.draw(wanted)
    died = pid()
    os.kill(died, signal.SIGKILL)
    os.waitid(os.P_PID, died, os.WEXITED | os.WNOWAIT)
    assert is_map(painter.draw(wanted))
