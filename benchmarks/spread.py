"""`pneumod predict DIR --cluster`: how evenly nodes of different speeds end, and what it is against one node alone.

    python benchmarks/spread.py [--images 300] [--repeat 3] [--costs FOLDER ...] [--line BYTES_PER_S]

Four daemons and a Mosquitto on this machine: nodes 1 to 3 are of one site, node 2 has the files, node 4 is of another
site and does nothing. Speeds are shares of the time that a node's whole process tree may run (SIGSTOP and SIGCONT,
0.2 s). All nodes and the command share this machine's cores: here together is no faster than alone.

--costs: of folders of X-rays instead, what the command says that an image costs to send and to work on; a last row has
the first folder's JPEG files as DICOM. --line: with so many bytes a second between node 2 and the broker.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

import cv2

from pneumod.images.folders import image_files
from tests.images.dicoms import dataset, written
from tests.integration.site import SiteCluster, begin, slow_line, slowed, spying, write_images

SPEEDS = {"equal": {1: 1.0, 2: 1.0, 3: 1.0}, "1:2:4": {1: 0.25, 2: 1.0, 3: 0.5}, "1:4:4": {1: 0.25, 2: 1.0, 3: 1.0}}
COST = re.compile(r"an image of .* on here")
LINE = re.compile(r"^  node (\d+): (\d+) images?, the last after ([\d.]+) s", re.MULTILINE)


class Share(NamedTuple):
    node: int
    images: int
    end_s: float


async def together(cluster: SiteCluster, images: Path, speeds: dict[int, float]) -> tuple[float, list[Share]]:
    """Seconds that the command took, and what each node did."""
    async with AsyncExitStack() as stack:
        for node, share in speeds.items():
            if share < 1.0:
                await stack.enter_async_context(slowed(lambda node=node: cluster.tree(node), share))  # type: ignore[misc]
        started_s = time.monotonic()
        said = await (await begin("predict", images, "--cluster", "--config", cluster.config_path(2))).end()
        took_s = time.monotonic() - started_s
    shares = [Share(*map(int, numbers), float(end)) for *numbers, end in LINE.findall(said.err)]
    if len(shares) != len(speeds):
        sys.exit(f"the work was not spread: {said.err}")
    return took_s, shares


async def alone(images: Path) -> float:
    started_s = time.monotonic()
    await (await begin("predict", images, "--processes", "1")).end()
    return time.monotonic() - started_s


async def costs(scratch: Path, folders: list[Path], repeat: int, bytes_per_s: int | None) -> None:
    """Each folder's files are taken so often that something can be measured."""
    cluster = SiteCluster(scratch)
    async with AsyncExitStack() as stack:
        if bytes_per_s:
            cluster.line = await stack.enter_async_context(slow_line(cluster.broker.port, bytes_per_s))
        stack.enter_context(cluster)
        async with spying(cluster) as spy:
            await spy.all_up()
        dicom = scratch / "DICOM"
        dicom.mkdir()
        for path in image_files(folders[0]):
            if path.suffix in (".jpg", ".jpeg"):
                grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
                assert grey is not None
                (dicom / f"{path.stem}.dcm").write_bytes(written(dataset(grey, 8)))
        for folder in [*folders, dicom]:
            files, many = list(image_files(folder)), scratch / f"many-{folder.name}"
            many.mkdir()
            for index in range(max(len(files), 300)):
                path = files[index % len(files)]
                shutil.copyfile(path, many / f"{index:04}{path.suffix}")
            for _ in range(repeat):
                said = await (await begin("predict", many, "--cluster", "--config", cluster.config_path(2))).end()
                print(f"{folder.name}: {''.join(COST.findall(said.err)[:1])}", flush=True)


async def measure(folder: Path, count: int, repeat: int) -> None:
    images = write_images(folder / "images", count)
    with SiteCluster(folder) as cluster:
        async with spying(cluster) as spy:
            await spy.all_up()
        alone_s: list[float] = []
        evenness: dict[str, list[float]] = {name: [] for name in SPEEDS}
        for _ in range(repeat):
            alone_s.append(await alone(images))
            for name, speeds in SPEEDS.items():
                took_s, shares = await together(cluster, images, speeds)
                ends_s = [share.end_s for share in shares]
                evenness[name].append(min(ends_s) / max(ends_s))
                print(f"{name:>6}  {took_s:5.1f} s, alone {alone_s[-1]:4.1f} s  ", end="")
                print("; ".join(f"node {s.node}: {s.images} until {s.end_s} s" for s in shares))
    for name, shares_of_last in evenness.items():
        print(f"speeds {name}: the first node ends at {100 * median(shares_of_last):.0f} % of the last one's time")
    print(f"one process alone: {count / median(alone_s):.0f} images/s; {os.cpu_count()} cores for all")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--costs", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--line", type=int, metavar="BYTES_PER_S")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="spread-") as folder:
        if args.costs:
            asyncio.run(costs(Path(folder), args.costs, args.repeat, args.line))
            return
        asyncio.run(measure(Path(folder), args.images, args.repeat))


if __name__ == "__main__":
    main()
