"""From files to pixels: how fast, how exact, and in how much memory.

    PNEUMOD_CXR=DIR python benchmarks/images.py [--repeats 20] [--only speed|difference|folder] [--files 100000]

speed: native_samples, at 96 pixels. Images in a second of a core (of processor time, of all processes together), and
images/s by the clock, whose best repetition tells most on a machine that others use too. difference: of the pixels,
and of what the packaged model makes of them, from full grey decoding. folder: `pneumod preprocess` on many synthetic
X-rays of 128 pixels, which are hard links to a few hundred.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import median

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from pneumod.demo import phantom
from pneumod.images.load import read_picture
from pneumod.images.pool import Pool, Ready
from pneumod.images.prepare import least_px, prepare_pixels
from pneumod.learning.predict import Predictor, find_model
from pneumod.settings import Preparation

PREPARATION = Preparation(96)
SIDE = PREPARATION.image_size
COPIES = 4  # of native_samples in one repetition

Pixels = NDArray[np.uint8]


def full_colour(path: Path) -> Pixels:
    pixels = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    resized = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(resized, cv2.COLOR_BGR2GRAY).astype(np.uint8)


def full_grey(path: Path) -> Pixels:
    pixels = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
    return cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.uint8)


def ours(path: Path) -> Pixels:
    return prepare_pixels(read_picture(path, least_px(PREPARATION)).grey, PREPARATION)


def tf_data(paths: list[Path], threads: int) -> Callable[[], object]:
    """A pass over the files by tf.data: its JPEG decoder, grey, and its resizing by area."""
    import tensorflow as tf

    def load(path: tf.Tensor) -> tf.Tensor:
        grey = tf.io.decode_jpeg(tf.io.read_file(path), channels=1)
        return tf.image.resize(grey[None], (SIDE, SIDE), method="area")[0]

    options = tf.data.Options()
    options.threading.private_threadpool_size = threads
    options.threading.max_intra_op_parallelism = 1
    data = tf.data.Dataset.from_tensor_slices([str(path) for path in paths])
    data = data.map(load, num_parallel_calls=threads).with_options(options)
    return lambda: sum(1 for _ in data)


def speed(cxr: Path, repeats: int) -> None:
    """The ways take turns, so that a busy moment hits all of them."""
    paths = sorted((cxr / "native_samples").glob("*/*")) * COPIES
    cv2.setNumThreads(1)

    def one_by_one(way: Callable[[Path], Pixels]) -> Callable[[], object]:
        return lambda: [way(path) for path in paths]

    with Pool(PREPARATION, 1) as one, Pool(PREPARATION, 2) as two:
        ways: dict[str, Callable[[], object]] = {
            "full colour decode + resize": one_by_one(full_colour),
            "full grey decode + resize": one_by_one(full_grey),
            "ours, in this process": one_by_one(ours),
            "ours, a pool of one": lambda: sum(isinstance(came, Ready) for came in one.map(paths)),
            "ours, a pool of two": lambda: sum(isinstance(came, Ready) for came in two.map(paths)),
            "tf.data, one thread": tf_data(paths, 1),
            "tf.data, two threads": tf_data(paths, 2),
        }
        wall: dict[str, list[float]] = {name: [] for name in ways}  # images/s
        core: dict[str, list[float]] = {name: [] for name in ways}  # images in a second of a core
        for repetition in range(repeats + 1):
            for name, way in ways.items():
                started_s, used_s = time.perf_counter(), _cpu_s()
                way()
                if repetition:  # the first one warms up
                    wall[name].append(len(paths) / (time.perf_counter() - started_s))
                    core[name].append(len(paths) / (_cpu_s() - used_s))
    print(f"{len(paths)} reads of {len(paths) // COPIES} X-rays, {SIDE} x {SIDE}, medians of {repeats}\n")
    print("| way | images/s a core | ratio to full colour | images/s | the best | ratio of the bests |")
    print("|---|---|---|---|---|---|")
    first = next(iter(ways))
    for name in ways:
        a_core = f"{median(core[name]):.0f} | {_ratio(core[name], core[first])}"
        best = max(wall[name])
        print(f"| {name} | {a_core} | {median(wall[name]):.0f} | {best:.0f} | {best / max(wall[first]):.2f} |")
    for name, one_way, other in (
        ("two processes to one", "ours, a pool of two", "ours, a pool of one"),
        ("ours to tf.data, one core", "ours, a pool of one", "tf.data, one thread"),
        ("ours to tf.data, two cores", "ours, a pool of two", "tf.data, two threads"),
    ):
        bests = max(wall[one_way]) / max(wall[other])
        print(f"\n{name}: of the bests {bests:.2f}, in a repetition {_ratio(wall[one_way], wall[other])}")
    print()


def _cpu_s() -> float:
    """Seconds of a core that this process and its children have used."""
    ticks = 0
    for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def _ratio(these: list[float], to: list[float]) -> str:
    """Median and range of the ratios of each repetition."""
    ratios = [one / other for one, other in zip(these, to, strict=True)]
    return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def difference(cxr: Path) -> None:
    """The hospitals' validation images are too small to be reduced, so they are enlarged."""
    predictor = Predictor(find_model(None, None))
    print("| images | mean difference, grey levels | of the worst | probability, mean and most | AUC full | AUC ours |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary, Pool(PREPARATION) as pool:
        for name, paths in (
            ("native_samples", sorted((cxr / "native_samples").glob("*/*"))),
            ("hospitals' val, 4 x enlarged", list(_enlarged(cxr, Path(temporary)))),
        ):
            full = np.stack([full_grey(path) for path in paths])
            reduced = np.stack([came.pixels for came in pool.map(paths) if isinstance(came, Ready)])
            apart = np.abs(full.astype(float) - reduced).mean(axis=(1, 2))
            labels = [path.parent.name == "PNEUMONIA" for path in paths]
            scores = [predictor.probability(pixels) for pixels in (full, reduced)]
            aucs = " | ".join(f"{roc_auc_score(labels, score):.4f}" for score in scores)
            change = np.abs(scores[0] - scores[1])
            print(
                f"| {len(paths)} {name} | {apart.mean():.3f} | {apart.max():.2f} "
                f"| {change.mean():.4f}, {change.max():.4f} | {aucs} |"
            )
    print()


def _enlarged(cxr: Path, folder: Path) -> Iterator[Path]:
    """The validation images of all hospitals, about 900 pixels wide, as JPEG."""
    for path in sorted((cxr / "hospitals").glob("*/val/*/*")):
        target = folder / path.parents[2].name / path.parent.name / f"{path.stem}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        large = cv2.resize(read_picture(path).grey, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(target), large, [cv2.IMWRITE_JPEG_QUALITY, 90])
        yield target


def folder(files: int) -> None:
    print("| files | first run, s | images/s | peak MiB, command | peak MiB, all processes | second run, s |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        for count in (files // 10, files):
            images, cache = Path(temporary, f"x{count}"), Path(temporary, f"c{count}")
            _write_links(images, count)
            first_s, command, everything = _measured(images, cache)
            second_s, _, _ = _measured(images, cache)
            rate = count / first_s
            print(f"| {count:,} | {first_s:.1f} | {rate:.0f} | {command:.0f} | {everything:.0f} | {second_s:.1f} |")


def _write_links(folder: Path, count: int) -> None:
    """Files in one folder, and in folders of 1,000 below it."""
    folder.mkdir()
    originals = []
    for index, picture in enumerate(_phantoms(200)):
        originals.append(folder / f"original{index}.png")
        cv2.imwrite(str(originals[-1]), picture)
    for index in range(count - len(originals)):
        inside = folder / f"{index // 1000}" if index % 2 else folder
        inside.mkdir(exist_ok=True)
        os.link(originals[index % len(originals)], inside / f"{index}.png")


def _phantoms(count: int) -> Iterable[Pixels]:
    random = np.random.default_rng(0)
    look = phantom.site(random, 0, 1)
    return (phantom.draw(random, look, index % 2 == 1).pixels for index in range(count))


def _measured(images: Path, cache: Path) -> tuple[float, float, float]:
    """Seconds of `pneumod preprocess`, the peak of its own memory, and of its memory with its decoders' (MiB)."""
    command = [sys.executable, "-m", "pneumod", "preprocess", str(images), "--out", str(cache), "--image-size", "96"]
    started_s, most = time.perf_counter(), 0.0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        own = 0.0
        while process.poll() is None:
            pids = [str(process.pid)]
            try:
                pids += Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
                sizes = [_pss_mib(pid) for pid in pids]
            except OSError:  # one has just ended
                continue
            own, most = max(own, sizes[0]), max(most, sum(sizes))
            time.sleep(0.05)
    return time.perf_counter() - started_s, own, most


def _pss_mib(pid: str) -> float:
    """Memory of a process, shared pages by their share."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--only", choices=("speed", "difference", "folder"))
    parser.add_argument("--files", type=int, default=100_000)
    arguments = parser.parse_args()
    cxr = os.environ.get("PNEUMOD_CXR")
    if not cxr and arguments.only != "folder":
        sys.exit("benchmarks/images.py: set PNEUMOD_CXR to the folder of X-rays, or take --only folder")
    if arguments.only in (None, "speed"):
        speed(Path(cxr or ""), arguments.repeats)
    if arguments.only in (None, "difference"):
        difference(Path(cxr or ""))
    if arguments.only in (None, "folder"):
        folder(arguments.files)


if __name__ == "__main__":
    main()
