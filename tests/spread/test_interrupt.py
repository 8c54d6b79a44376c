"""Ctrl-C while a decoder of the part that is done at home hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np

CONFIG = """
cluster: test
node: {id: 1, name: one, site: here}
brokers: [{host: localhost}]
state_dir: state
data: {train: train, val: val}
roster: {1: here, 2: here}
"""
WITHIN_S = 10  # a decoder that hangs is given up after 30 s


def test_ctrl_c_does_not_wait_for_a_decoder_that_hangs(tmp_path: Path) -> None:
    (tmp_path / "node.yaml").write_text(CONFIG)
    folder = tmp_path / "many"
    folder.mkdir()
    cv2.imwrite(str(tmp_path / "x.png"), np.random.default_rng(0).integers(0, 256, (600, 600), np.uint8))
    for number in range(400):
        os.link(tmp_path / "x.png", folder / f"{number:03}.png")
    process = subprocess.Popen(
        [sys.executable, "-m", "pneumod", "predict", folder, "--cluster", "--json", "--config", tmp_path / "node.yaml"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        process.stdout.readline()
        for thread in Path(f"/proc/{process.pid}/task").iterdir():
            for decoder in (thread / "children").read_text().split():
                os.kill(int(decoder), signal.SIGSTOP)
        time.sleep(1.0)  # until what they had done is said
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=WITHIN_S)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "\nstopped: " in err
    assert "Traceback" not in err
