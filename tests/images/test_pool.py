"""Pictures -> pixels in child processes: in order, in bounded memory, and past files that hang or kill a decoder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Timer

import cv2
import numpy as np
import pytest

from pneumod.errors import DataError
from pneumod.images.load import read_picture
from pneumod.images.pool import DIED, HUNG, WINDOW, Pool, Ready
from pneumod.images.prepare import least_px, prepare_pixels
from pneumod.settings import Preparation

SMALL = Preparation(28)


class Wild(Pool):
    decoder = "tests.images.wild"
    decode_s = 0.6


def write_images(folder: Path, names: list[str]) -> list[Path]:
    random = np.random.default_rng(1)
    paths = [folder / f"{name}.png" for name in names]
    for path in paths:
        cv2.imwrite(str(path), random.integers(0, 256, (40, 50), np.uint8))
    return paths


def expected(path: Path, preparation: Preparation = SMALL) -> np.ndarray:
    return prepare_pixels(read_picture(path, least_px(preparation)).grey, preparation)


def decoders() -> set[int]:
    """Process ids of this process's children."""
    return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}


def kinds(came: list[Ready | str]) -> list[str]:
    return [one if isinstance(one, str) else "pixels" for one in came]


@pytest.mark.parametrize("processes", [1, 3])
def test_pixels_come_in_the_order_of_the_sources(tmp_path: Path, processes: int) -> None:
    paths = write_images(tmp_path, [f"{i}_slow" if i % 7 == 0 else f"{i}" for i in range(40)])
    with Wild(SMALL, processes) as pool:
        came = list(pool.map(paths))
    for path, one in zip(paths, came, strict=True):
        assert isinstance(one, Ready)
        assert (one.pixels == expected(path)).all()
        assert (one.facts.height, one.facts.width) == (40, 50)


def test_bytes_give_what_their_file_gives(tmp_path: Path) -> None:
    paths = write_images(tmp_path, ["a", "b"])
    with Pool(SMALL, 1) as pool:
        (from_paths, from_bytes) = (list(pool.map(each)) for each in (paths, [path.read_bytes() for path in paths]))
    for one, other in zip(from_paths, from_bytes, strict=True):
        assert isinstance(one, Ready)
        assert isinstance(other, Ready)
        assert (one.pixels == other.pixels).all()
        assert one.facts == other.facts


def test_a_file_that_cannot_be_used_is_a_reason_in_its_place(tmp_path: Path) -> None:
    good, bad = write_images(tmp_path, ["good"])[0], tmp_path / "bad.png"
    bad.write_bytes(b"")
    sources = [bad, good, tmp_path / "none.png", tmp_path, Path("x" * 5000), b"", b"nonsense"]
    with Pool(SMALL, 2) as pool:
        reasons = kinds(list(pool.map(sources)))
    assert reasons[:3] == ["the file is empty", "pixels", "no such file"]
    assert reasons[3:5] == ["can't be read: Is a directory", "can't be read: File name too long"]
    assert "pixels" not in reasons[5:]


def test_only_the_file_that_kills_its_decoder_is_set_aside(tmp_path: Path) -> None:
    names = [f"{i}" for i in range(30)]
    names[3], names[4], names[10], names[20], names[29] = "a_die", "b_die", "e_eat", "c_raise", "d_die"
    with Wild(SMALL, 2) as pool:
        came = kinds(list(pool.map(write_images(tmp_path, names))))
    assert {place: why for place, why in enumerate(came) if why != "pixels"} == {
        3: DIED, 4: DIED, 29: DIED,
        10: "the decoder failed on it (MemoryError)",
        20: "the decoder failed on it (ZeroDivisionError)",
    }  # fmt: skip


def test_only_the_file_that_hangs_is_set_aside(tmp_path: Path) -> None:
    names = [f"{i}" for i in range(20)]
    names[0], names[9] = "a_hang", "b_hang"
    with Wild(SMALL, 2) as pool:
        came = kinds(list(pool.map(write_images(tmp_path, names))))
    assert {place: why for place, why in enumerate(came) if why != "pixels"} == {0: HUNG, 9: HUNG}


def test_stop_ends_a_map_that_waits_for_a_file_that_hangs(tmp_path: Path) -> None:
    paths = write_images(tmp_path, ["a", "b_hang", "c"])
    with Wild(SMALL, 1) as pool:
        pool.decode_s = 60.0
        came = pool.map(paths)
        first = next(came)
        timer = Timer(0.5, pool.stop)
        timer.start()
        assert kinds([first, *came]) == ["pixels"]
        pool.decode_s = Wild.decode_s
        assert kinds(list(pool.map(paths))) == ["pixels", HUNG, "pixels"], "it can be used again"


def test_bytes_that_kill_their_decoder_are_set_aside(tmp_path: Path) -> None:
    good = write_images(tmp_path, ["a"])[0].read_bytes()
    with Wild(SMALL, 1) as pool:
        assert kinds(list(pool.map([good, b"_die_", good]))) == ["pixels", DIED, "pixels"]


def test_a_file_is_not_blamed_for_a_kill_from_outside(tmp_path: Path) -> None:
    paths = write_images(tmp_path, ["a", "b_die-once", "c"])
    with Wild(SMALL, 1) as pool:
        assert kinds(list(pool.map(paths))) == ["pixels"] * 3


def test_a_decoder_that_dies_while_it_has_nothing_to_do_is_replaced(tmp_path: Path) -> None:
    paths = write_images(tmp_path, ["a"])
    with Pool(SMALL, 1) as pool:
        assert kinds(list(pool.map(paths))) == ["pixels"]
        (decoder,) = decoders()
        os.kill(decoder, signal.SIGKILL)
        assert kinds(list(pool.map(paths))) == ["pixels"]


def test_a_freeze_of_everything_is_nobodys_hang(tmp_path: Path) -> None:
    paths = write_images(tmp_path, [f"{i}_slow" for i in range(30)])
    code = (
        "import sys; from pathlib import Path; from tests.images.test_pool import SMALL, Wild\n"
        "Wild.decode_s = 2.0\n"
        "with Wild(SMALL, 1) as pool:\n"
        "    for came in pool.map(map(Path, sys.argv[1:])): print(isinstance(came, str), flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", code, *paths], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        (decoder,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        time.sleep(0.2)  # so that it is waiting for the decoder
        for pid in (int(decoder), process.pid):
            os.kill(pid, signal.SIGSTOP)
        time.sleep(3.5)
        os.kill(process.pid, signal.SIGCONT)
        time.sleep(0.5)  # it sees how late it is, and nothing from the decoder
        os.kill(int(decoder), signal.SIGCONT)
        assert [first, *process.stdout] == ["False\n"] * 30


def test_sources_are_taken_no_further_ahead_than_the_window(tmp_path: Path) -> None:
    path = write_images(tmp_path, ["a"])[0]
    taken = 0

    def sources() -> Iterator[Path]:
        nonlocal taken
        for _ in range(10 * WINDOW):
            taken += 1
            yield path

    with Pool(SMALL, 2) as pool:
        for given, _ in enumerate(pool.map(sources())):
            assert taken - given <= 2 * WINDOW
    assert taken == 10 * WINDOW


def test_work_begins_when_map_is_called_and_may_be_left(tmp_path: Path) -> None:
    paths = write_images(tmp_path, [f"{i}_die" if i % 5 == 1 else f"{i}" for i in range(20)])
    with Wild(SMALL, 2) as pool:
        for start in range(4):
            came = pool.map(paths)
            assert kinds([next(came) for _ in range(start)]) == ["pixels", DIED, "pixels"][:start]
        (only,) = pool.map(paths[:1])
        assert isinstance(only, Ready)


def test_no_decoder_outlives_the_pool(tmp_path: Path) -> None:
    before = decoders()
    paths = write_images(tmp_path, [f"{i}" for i in range(40)])
    with Pool(SMALL, 2) as pool:
        next(pool.map(paths))  # and Ctrl-C comes here
        assert len(decoders() - before) == 2
    assert decoders() == before


def test_decoders_die_with_a_parent_that_is_killed_also_in_the_middle_of_a_file(tmp_path: Path) -> None:
    path = write_images(tmp_path, ["a_hang"])[0]
    code = (
        "import sys; from pathlib import Path; from tests.images.test_pool import SMALL, Wild\n"
        "Wild.decode_s = 100\n"
        "with Wild(SMALL, 1) as pool:\n"
        "    came = pool.map([Path(sys.argv[1])]); print(pool._decoders[0].process.pid, flush=True); next(came)"
    )
    with subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        decoder = Path("/proc", process.stdout.readline().strip())
        handle = os.pidfd_open(int(decoder.name))
        time.sleep(0.5)  # so that it is at the file
        process.kill()
    ended = select_readable(handle, 10.0)
    os.close(handle)
    assert ended


def select_readable(descriptor: int, timeout_s: float) -> bool:
    import select

    return bool(select.select([descriptor], [], [], timeout_s)[0])


def test_decoders_that_cannot_start_are_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Broken(Pool):
        decoder = "no.such.module"

    with pytest.raises(DataError, match="the decoders of images can't be started"), Broken(SMALL) as pool:
        list(pool.map([tmp_path]))
    assert "No module named" in capfd.readouterr().err, "the reason is on standard error"


def test_a_decoder_is_not_taken_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = write_images(tmp_path, ["a"])
    (tmp_path / "cv2.py").write_text("raise SystemExit('taken over')")
    monkeypatch.chdir(tmp_path)
    with Pool(SMALL, 1) as pool:
        assert kinds(list(pool.map([path]))) == ["pixels"]


def test_real_x_rays_two_processes_as_one(cxr: Path) -> None:
    paths = sorted((cxr / "native_samples").glob("*/*"))
    with Pool(Preparation(96), 2) as two, Pool(Preparation(96), 1) as one:
        for path, (first, second) in zip(paths, zip(two.map(paths), one.map(paths), strict=True), strict=True):
            assert isinstance(first, Ready)
            assert isinstance(second, Ready)
            assert (first.pixels == second.pixels).all()
            full = prepare_pixels(read_picture(path).grey, Preparation(96)).astype(float)
            assert abs(first.pixels - full).mean() < 1.5, "reduced decoding shows no more than this"
