"""`pneumod predict` beside a loop without it: the network alone, whole folders, and one image from a cold start.

    python benchmarks/predict.py FOLDER [--runs 5] [--repeat 24] [--many 100000]

FOLDER has X-rays as files (JPEG or PNG), at their native size. Four tables:
  1. The network: pixels that are ready -> answers, by Predictor and by the same interpreter in a bare loop.
  2. A folder: files -> answers, by `pneumod predict FOLDER --json` and by a plain script that reads each file with
     OpenCV and runs the same LiteRT file on all cores, batch by batch; as whole processes. Beside them the decoding of
     `pneumod predict` alone, without the network.
  3. A cold start: one image, as whole processes; also by Keras, where TensorFlow is installed.
  4. Many small files (links to one synthetic X-ray of 224 pixels), where --many says so: speed, and the peak memory of
     the command's own process, for a fiftieth of them and for all.
Both sides run in turn, so that a busy moment hits both; medians, and the median of the ratios.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from pneumod.demo import phantom
from pneumod.images.folders import image_files
from pneumod.learning.card import ModelFile, load_model
from pneumod.learning.predict import PACKAGED, Predictor

PLAIN = """
import os, sys, cv2, numpy as np
from pathlib import Path
from ai_edge_litert.interpreter import Interpreter
model, size, folder = Path(sys.argv[1]).read_bytes(), int(sys.argv[2]), sys.argv[3]
network = Interpreter(model_content=model, num_threads=os.cpu_count())
place = network.get_input_details()[0]["index"]
files = sorted(Path(folder).rglob("*"))
def answer(files):
    grey = [cv2.imread(str(file), cv2.IMREAD_GRAYSCALE) for file in files]
    pixels = [cv2.resize(one, (size, size), interpolation=cv2.INTER_AREA) for one in grey]
    network.resize_tensor_input(place, (len(files), size, size, 1))
    network.allocate_tensors()
    network.set_tensor(place, np.stack(pixels)[..., None].astype(np.float32))
    network.invoke()
    (output,) = (d["index"] for d in network.get_output_details() if len(d["shape"]) == 2 and d["shape"][1] == 1)
    for file, logit in zip(files, network.get_tensor(output)[:, 0]):
        print(file, 1 / (1 + np.exp(-logit)), flush=True)
files = [file for file in files if file.is_file()]
for start in range(0, len(files), 16):
    answer(files[start : start + 16])
"""
DECODE = """
import sys
from pathlib import Path
from pneumod.images.folders import image_files
from pneumod.images.pool import Pool
from pneumod.settings import Preparation
with Pool(Preparation(int(sys.argv[1]))) as pool:
    print(len(list(pool.map(image_files(Path(sys.argv[2]))))))
"""
KERAS = """
import sys, cv2, keras, numpy as np
from pneumod.learning.model import build
from pneumod.settings import RunSettings
model = build(RunSettings(image_size=int(sys.argv[1])))
x = cv2.resize(cv2.imread(sys.argv[2], cv2.IMREAD_GRAYSCALE), (int(sys.argv[1]),) * 2, interpolation=cv2.INTER_AREA)
print(model.predict(x[None, ..., None].astype(np.float32), verbose=0))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=5, help="of each side")
    parser.add_argument("--repeat", type=int, default=24, help="times that each file stands in the folder of table 2")
    parser.add_argument("--many", type=int, help="files of table 4, and that table alone")
    arguments = parser.parse_args()
    if arguments.many:
        many_table(arguments.many)
        return
    file = load_model(PACKAGED)
    files = list(image_files(arguments.folder))
    network_table(file, arguments.runs)
    with tempfile.TemporaryDirectory() as scratch:
        for index, path in enumerate(files * arguments.repeat):
            os.symlink(path.absolute(), Path(scratch, f"{index:05}{path.suffix}"))
        folder_table(file, Path(scratch), len(files) * arguments.repeat, arguments.runs)
    cold_table(file, files[0], arguments.runs)


def compared(sides: dict[str, Callable[[], float]], runs: int) -> tuple[dict[str, float], list[float]]:
    """Median seconds of each side, and the median of its time as a share of the first side's."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(runs):
        for name, run in sides.items():
            seconds[name].append(run())
    first, *_ = seconds.values()
    ratios = [
        median(one / reference for one, reference in zip(times, first, strict=True)) for times in seconds.values()
    ]
    return {name: median(times) for name, times in seconds.items()}, ratios


def network_table(file: ModelFile, runs: int) -> None:
    print("\n1. The network alone, images/s\nbatch  threads  interpreter  Predictor   share")
    size = file.card.image_size
    for threads in (1, os.cpu_count() or 1):
        for batch in (1, 4, 16, 64):
            pixels = np.random.default_rng(0).integers(0, 256, (batch, size, size), np.uint8)
            sides = {"bare": bare(file, pixels, threads), "ours": ours(file, pixels, threads)}
            times, ratios = compared(sides, max(1, 100 * runs // batch))
            rates = [batch / seconds for seconds in times.values()]
            print(f"{batch:5} {threads:8} {rates[0]:12,.0f} {rates[1]:10,.0f} {1 / ratios[1]:7.0%}")


def bare(file: ModelFile, pixels: NDArray[np.uint8], threads: int) -> Callable[[], float]:
    """The interpreter without us, with its input as float32 from the start."""
    network = Interpreter(model_content=file.data, num_threads=threads)
    place = network.get_input_details()[0]["index"]
    network.resize_tensor_input(place, (*pixels.shape, 1))
    network.allocate_tensors()
    inputs = pixels[..., None].astype(np.float32)
    outputs = [details["index"] for details in network.get_output_details()]

    def run() -> float:
        started = time.perf_counter()
        network.set_tensor(place, inputs)
        network.invoke()
        for output in outputs:
            network.get_tensor(output)
        return time.perf_counter() - started

    return run


def ours(file: ModelFile, pixels: NDArray[np.uint8], threads: int) -> Callable[[], float]:
    predictor = Predictor(file, threads, len(pixels))

    def run() -> float:
        started = time.perf_counter()
        predictor.answers(pixels)
        return time.perf_counter() - started

    return run


def process(*command: str) -> Callable[[], float]:
    def run() -> float:
        started = time.perf_counter()
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        subprocess.run([sys.executable, *command], check=True, capture_output=True, env=environment)
        return time.perf_counter() - started

    return run


def folder_table(file: ModelFile, folder: Path, count: int, runs: int) -> None:
    model = str(file.path.with_name(file.card.file))
    sides = {
        "plain script (OpenCV, LiteRT)": process("-c", PLAIN, model, str(file.card.image_size), str(folder)),
        "pneumod predict DIR --json": process("-m", "pneumod", "predict", str(folder), "--json"),
        "its decoding alone": process("-c", DECODE, str(file.card.image_size), str(folder)),
    }
    times, ratios = compared(sides, runs)
    print(f"\n2. A folder of {count} files, images/s, start of the process included")
    for (name, seconds), ratio in zip(times.items(), ratios, strict=True):
        print(f"{name:32} {count / seconds:8,.0f}   x {1 / ratio:.2f}")


def cold_table(file: ModelFile, image: Path, runs: int) -> None:
    sides = {
        "pneumod predict IMAGE": process("-m", "pneumod", "predict", str(image)),
        "python -c pass": process("-c", "pass"),
    }
    if importlib.util.find_spec("keras"):
        sides["Keras predict"] = process("-c", KERAS, str(file.card.image_size), str(image))
    times, ratios = compared(sides, runs)
    print("\n3. One image, a cold process, seconds")
    for (name, seconds), ratio in zip(times.items(), ratios, strict=True):
        print(f"{name:32} {seconds:8.2f}   x {ratio:.2f}")


def many_table(most: int) -> None:
    random = np.random.default_rng(0)
    small = phantom.draw(random, phantom.site(random, 0, 1), True).pixels
    print("\n4. Many files, by pneumod predict DIR --json\n  files  images/s  peak MB")
    for count in (most // 50, most):
        with tempfile.TemporaryDirectory() as scratch:
            image, folder = Path(scratch, "x.png"), Path(scratch, "many")
            cv2.imwrite(str(image), cv2.resize(small, (224, 224), interpolation=cv2.INTER_CUBIC))
            folder.mkdir()
            for index in range(count):
                os.symlink(image, folder / f"{index:06}.png")
            started, peak_kb = time.perf_counter(), 0
            command = [sys.executable, "-m", "pneumod", "predict", str(folder), "--json"]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
                while running.poll() is None:
                    told = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{running.pid}/status").read_text())
                    peak_kb = int(told[1]) if told else peak_kb  # a process that has just ended tells none
                    time.sleep(0.05)
            print(f"{count:7,} {count / (time.perf_counter() - started):9,.0f} {peak_kb / 1000:8.0f}")


if __name__ == "__main__":
    main()
