"""The desk of a daemon that runs as a process, on a real broker of its site."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import cv2
import numpy as np
from msgspec.structs import replace

from pneumod import parcel
from pneumod.broker.embedded import HOST
from pneumod.demo.cluster import Broker
from pneumod.desk import Accepted, Came, End, Give, Need, Refused, Spent
from pneumod.parcel import Answer, Answers, Parcel
from tests.integration.test_demo import processes_that_name
from tests.shell.desks import BRING, command
from tests.shell.test_daemon import STOP_S, daemon_process, images, line_with, written

__all__ = ["images"]

_, PNG = cv2.imencode(".png", np.full((64, 64), 77, np.uint8))
FILES = parcel.pack(Parcel((PNG.tobytes(), b"no picture")))
TWO = replace(BRING, items=2)


async def test_a_daemon_alone_does_a_batch_and_goes_on_with_it_after_a_stop(
    tmp_path: Path, images: Path, broker: Broker
) -> None:
    brokers = [{"host": HOST, "port": broker.port, "site": "s"}]
    config = written(tmp_path, images, broker.port, cluster="desk", brokers=brokers)
    with daemon_process(config) as process:
        await line_with(process, "leads under term")
        async with command(config.state_dir, TWO) as its:
            assert await its.hear() == Accepted(3, (3,)), "without a roster it is at home with itself"
            assert {await its.hear() for _ in range(2)} == {Need(0), Need(1)}
            its.say(Give(1, FILES))
            frames = {type(frame): frame for frame in await its.hears(2)}
            _check(frames[Came], 1)
            assert isinstance(frames[Spent], Spent)
            process.terminate()
            started_s = time.monotonic()
            assert await its.gone()
            assert await asyncio.to_thread(process.wait, STOP_S) == 0
            assert time.monotonic() - started_s < STOP_S
    assert processes_that_name(str(config.path)) == [], "with the child and its decoders"
    with daemon_process(config) as process:
        await line_with(process, "connected to the broker")
        async with command(config.state_dir, TWO) as its:
            assert isinstance(await its.hear(), Accepted)
            _check(await its.hear(), 1)
            assert await its.hear() == Need(0)
            its.say(Give(0, FILES))
            frames = {type(frame): frame for frame in await its.hears(2)}
            _check(frames[Came], 0)
            its.say(End())
            assert await its.gone()


def _check(frame: object, item: int) -> None:
    assert isinstance(frame, Came)
    assert (frame.item, frame.node, frame.failed) == (item, 3, None)
    picture, text = parcel.unpack(frame.data, Answers).files
    assert isinstance(picture, Answer)
    assert picture.pixels == bytes([77]) * 32**2
    assert isinstance(text, str)


async def test_a_daemon_whose_broker_is_not_marked_as_of_its_site_refuses(
    tmp_path: Path, images: Path, broker: Broker
) -> None:
    config = written(tmp_path, images, broker.port, cluster="desk-away")
    with daemon_process(config) as process:
        await line_with(process, "leads under term")
        async with command(config.state_dir, TWO) as its:
            refused = await its.hear()
            assert isinstance(refused, Refused)
            assert "site" in refused.why
            assert await its.gone()
