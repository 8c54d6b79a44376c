"""Finding a model, and what it answers."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from pneumod.blobs import digest_of
from pneumod.cli import main
from pneumod.errors import ModelError
from pneumod.learning import predict
from pneumod.learning.card import load_model
from pneumod.learning.predict import Predictor, find_model

SIZE = 32


@pytest.fixture(autouse=True)
def no_other_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PNEUMOD_MODEL", raising=False)
    monkeypatch.setattr(predict, "PACKAGED", tmp_path / "packaged" / "provisional.json")


@contextlib.contextmanager
def ordinary_user() -> Iterator[None]:
    """Not root, who may do everything."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def state_of(model: Path, folder: Path) -> Path:
    """The YAML of a node that has `model` and logs."""
    copy_of(model, folder / "state" / "models")
    (folder / "state" / "log" / "predict").mkdir(parents=True)
    config = folder / "node.yaml"
    config.write_text(
        "cluster: lab\nnode: {id: 1, name: one, site: here}\nbrokers: [{host: 127.0.0.1}]\n"
        "state_dir: state\ndata: {train: images}\n"
    )
    return config


def copy_of(model: Path, folder: Path) -> Path:
    """A copy of a model's folder, its `current.json` still a link."""
    return Path(shutil.copytree(model.parent, folder, symlinks=True)) / model.name


def expected(mean: float) -> float:
    return float(1 / (1 + np.exp(-(mean - 128) / 16)))


def write_flat(path: Path, level: int, size: int = 40) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((size, size), level, np.uint8))
    return path


def test_a_probability_is_the_sigmoid_of_the_networks_logit(brightness_model: Path) -> None:
    predictor = Predictor(load_model(brightness_model))
    levels = np.array([0, 64, 120, 128, 140, 255], np.uint8)
    pixels = np.broadcast_to(levels[:, None, None], (6, SIZE, SIZE))
    assert np.allclose(predictor.probability(pixels), [expected(level) for level in levels.tolist()], rtol=1e-5)


def test_batches_of_any_size_give_the_same_answers(brightness_model: Path) -> None:
    predictor = Predictor(load_model(brightness_model))
    pixels = np.random.default_rng(0).integers(0, 256, (150, SIZE, SIZE), np.uint8)
    together = predictor.probability(pixels)
    alone = [predictor.probability(image[None])[0] for image in pixels[::25]]
    assert np.allclose(together[::25], alone, rtol=1e-5)
    assert predictor.probability(pixels[:0]).shape == (0,)


def test_the_card_says_where_a_model_comes_from(brightness_model: Path) -> None:
    card = load_model(brightness_model).card
    assert (card.status, card.name, card.nodes, card.threshold, card.image_size) == ("run", "run-a-r3", 4, 0.6, SIZE)
    assert card.metrics.auc == 0.9
    assert card.train_images is not None
    assert (card.train_images.normal, card.train_images.pneumonia) == (100, 200)
    assert card.notice == "For research only, not for diagnosis."


def test_a_model_may_be_named_by_either_file_or_by_the_link(brightness_model: Path) -> None:
    names = (brightness_model, brightness_model.with_suffix(".tflite"), brightness_model.parent / "current.json")
    assert len({load_model(path).data for path in names}) == 1


def test_models_are_looked_for_in_order(
    brightness_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, named, other = tmp_path / "state", tmp_path / "named", tmp_path / "other"
    with pytest.raises(ModelError, match=r"no model in .*current.json, \$PNEUMOD_MODEL, .*provisional.json; train one"):
        find_model(None, state)
    copy_of(brightness_model, predict.PACKAGED.parent).rename(predict.PACKAGED)
    assert find_model(None, state).path == predict.PACKAGED
    monkeypatch.setenv("PNEUMOD_MODEL", str(copy_of(brightness_model, named)))
    assert find_model(None, state).path.parent == named
    copy_of(brightness_model, state / "models")
    assert find_model(None, state).path == state / "models" / "current.json"
    assert find_model(None, None).path.parent == named
    assert find_model(copy_of(brightness_model, other), state).path.parent == other


def test_a_model_that_was_named_and_is_not_there_is_an_error(
    brightness_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match=r"x.tflite: no model here: .*x.json doesn't exist"):
        find_model(tmp_path / "x.tflite", None)
    copied = copy_of(brightness_model, tmp_path / "state" / "models")
    copied.unlink()
    with pytest.raises(ModelError, match=r"current\.json"):
        find_model(None, tmp_path / "state")
    monkeypatch.setenv("PNEUMOD_MODEL", str(tmp_path / "y.json"))
    with pytest.raises(ModelError, match=r"y\.json"):
        find_model(None, None)


def test_a_state_directory_of_another_user_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    closed = tmp_path / "state"
    closed.mkdir(mode=0)
    with (
        ordinary_user(),
        pytest.raises(ModelError, match=r"current.json: Permission denied; run this as the node's user, or give --mo"),
    ):
        find_model(None, closed)


def test_a_state_directory_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(ModelError, match=r"state/models/current.json: Not a directory; "):
        find_model(None, tmp_path / "state")


def test_a_damaged_model_is_refused(brightness_model: Path, tmp_path: Path) -> None:
    copied = copy_of(brightness_model, tmp_path / "models")
    network = copied.with_suffix(".tflite")
    network.write_bytes(network.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ModelError, match=r"run-a-r3.tflite: not the file of run-a-r3.json: its digest differs"):
        load_model(copied)


@pytest.mark.parametrize(
    ("key", "value"),
    [("format", 2), ("file", "../x.tflite"), ("threshold", 1.5), ("status", "best"), ("run", None), ("file", "x.h5")],
)
def test_a_card_that_is_none_is_refused(brightness_model: Path, tmp_path: Path, key: str, value: object) -> None:
    copied = copy_of(brightness_model, tmp_path / "models")
    copied.write_text(json.dumps({**json.loads(copied.read_text()), key: value}))
    with pytest.raises(ModelError, match=rf"run-a-r3.json: not a model's card: .*{key}"):
        load_model(copied)


def test_a_network_of_another_size_or_no_network_is_refused(brightness_model: Path, tmp_path: Path) -> None:
    copied = copy_of(brightness_model, tmp_path / "models")
    card = json.loads(copied.read_text())
    copied.write_text(json.dumps({**card, "image_size": 64}))
    with pytest.raises(ModelError, match="the network doesn't take 64 x 64 grey levels"):
        Predictor(load_model(copied))
    copied.with_suffix(".tflite").write_bytes(b"noise")
    copied.write_text(json.dumps({**card, "file_digest": digest_of(b"noise")}))
    with pytest.raises(ModelError, match="LiteRT refuses the model"):
        Predictor(load_model(copied))


def test_the_command_prints_one_json_object_a_line(
    brightness_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bright, dark = write_flat(tmp_path / "bright.png", 136), write_flat(tmp_path / "dark.png", 120, size=20)
    assert main(["predict", str(bright), str(dark), "--model", str(brightness_model), "--json"]) == 0
    out, err = capfd.readouterr()
    one, two = map(json.loads, out.splitlines())
    assert err == ""
    assert one.pop("ms") >= 0
    assert one.pop("probability") == pytest.approx(expected(136), rel=1e-5)
    assert one == {
        "path": str(bright),
        "label": "PNEUMONIA",
        "threshold": 0.6,
        "model": "run-a-r3",
        "warnings": ["the image has hardly any contrast"],
    }
    assert two["label"] == "NORMAL"
    assert "the image is smaller than the 32 pixels that the model looks at" in two["warnings"]


def test_the_threshold_is_the_cards(brightness_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = write_flat(tmp_path / "x.png", 132)  # probability 0.56: above one half, below 0.6
    main(["predict", str(image), "--model", str(brightness_model), "--json"])
    assert json.loads(capsys.readouterr().out)["label"] == "NORMAL"


def test_one_bad_file_fails_the_command_and_not_the_others(
    brightness_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").write_text("text")
    write_flat(tmp_path / "b.png", 200)
    paths = [str(tmp_path / name) for name in ("a.png", "b.png", "c.png")]
    assert main(["predict", *paths, "--model", str(brightness_model), "--json"]) == 1
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert lines[0] == {"path": paths[0], "error": "not a JPEG or PNG image"}
    assert lines[1]["label"] == "PNEUMONIA"
    assert lines[2] == {"path": paths[2], "error": "no such file"}


def test_readable_lines_end_with_the_notice(
    brightness_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    image = write_flat(tmp_path / "x.png", 200)
    assert main(["predict", str(image), "--model", str(brightness_model)]) == 0
    out, err = capfd.readouterr()
    assert out.startswith(f"{image}: PNEUMONIA, probability of pneumonia 0.989 (threshold 0.600, model run-a-r3;")
    assert err == "For research only, not for diagnosis.\n"


def test_a_provisional_model_says_so(
    brightness_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = copy_of(brightness_model, tmp_path / "models")
    copied.write_text(json.dumps({**json.loads(copied.read_text()), "status": "provisional"}))
    main(["predict", str(write_flat(tmp_path / "x.png", 200)), "--model", str(copied), "--json"])
    assert "the model is provisional" in json.loads(capsys.readouterr().out)["warnings"]


def test_a_line_without_names_goes_to_the_nodes_log(brightness_model: Path, tmp_path: Path) -> None:
    config = state_of(brightness_model, tmp_path)
    assert main(["predict", str(write_flat(tmp_path / "secret.png", 200)), "--config", str(config)]) == 0
    (line,) = (tmp_path / "state/log/predict/predict.log").read_text().splitlines()
    assert line.endswith("1 images, 0 failed, model run-a-r3")


@pytest.mark.parametrize("obstacle", ["the file", "the folder", "the other folders"])
def test_a_log_that_cannot_be_written_is_left_alone(
    brightness_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], obstacle: str
) -> None:
    config, log = state_of(brightness_model, tmp_path), tmp_path / "state" / "log"
    if obstacle == "the file":
        (log / "predict" / "predict.log").mkdir()
    elif obstacle == "the folder":
        (log / "predict").rmdir()
        (log / "predict").touch()
    else:
        (log / "master").touch()
    assert main(["predict", str(write_flat(tmp_path / "x.png", 200)), "--config", str(config)]) == 0
    assert capfd.readouterr().err == "For research only, not for diagnosis.\n"


def test_the_configuration_is_read_once(
    brightness_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, read = state_of(brightness_model, tmp_path), []
    text = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path, *rest, **more: read.append(path) or text(path, *rest, **more))
    assert main(["predict", str(write_flat(tmp_path / "x.png", 200)), "--config", str(config)]) == 0
    assert read == [config]


def test_no_model_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(tmp_path / "x.png"), "--model", str(tmp_path / "no.tflite")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_cold_process_answers_in_a_moment_without_tensorflow(brightness_model: Path, tmp_path: Path) -> None:
    image = write_flat(tmp_path / "x.jpg", 200)
    code = (
        "import sys; from pneumod.cli import main; main(sys.argv[1:]);"
        "print([name for name in ('tensorflow', 'keras', 'sklearn', 'yaml', 'asyncio') if name in sys.modules])"
    )
    seconds = []
    for _ in range(3):
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", code, "predict", str(image), "--model", str(brightness_model), "--json"],
            capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        seconds.append(time.monotonic() - started)
    answer, imported = done.stdout.splitlines()
    assert json.loads(answer)["label"] == "PNEUMONIA"
    assert imported == "[]"
    assert done.stderr == ""
    assert min(seconds) < 0.6
