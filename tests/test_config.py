"""The YAML of a node: what is right loads, what is wrong is one line with file, key and remedy."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import get_args

import msgspec
import pytest
import yaml

from pneumod.config import BrokerConfig, ConfigFile, load, roster_place
from pneumod.demo.phantom import write_dataset
from pneumod.errors import ConfigError
from pneumod.messages import RunSettings

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "configs" / "node.example.yaml"
GOOD = """\
cluster: lab
node: {id: 2, name: two, site: here}
brokers:
  - {host: 127.0.0.1}
state_dir: state
data: {train: images}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("NORMAL", "PNEUMONIA"):
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "images" / name / "a.JPEG").touch()
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "node.yaml"
    path.write_text(text)
    return path


def test_a_small_file_takes_the_defaults_and_paths_are_relative_to_it(folder: Path) -> None:
    config = load(write(folder, GOOD))
    assert (config.cluster, config.node_id, config.name, config.site) == ("lab", 2, "two", "here")
    assert config.brokers == (BrokerConfig("127.0.0.1", 1883, 5, None),)
    assert config.state_dir == folder / "state"
    assert config.data.train == folder / "images"
    assert config.data.val is None
    assert config.run == RunSettings()
    assert (config.log.level, config.log.max_mb, config.log.keep) == ("info", 10, 5)


def test_a_roster_gives_the_place_and_a_majority(folder: Path) -> None:
    roster = "roster: {9: there, 2: here, 1: here, 5: there}\n"
    config = load(write(folder, GOOD + roster))
    assert roster_place(config) == 1
    assert config.run.min_nodes == 3
    assert load(write(folder, GOOD + roster + "run: {min_nodes: 1}\n")).run.min_nodes == 1


def test_without_a_roster_the_place_is_the_id_modulo_16(folder: Path) -> None:
    assert roster_place(load(write(folder, GOOD.replace("id: 2", "id: 37")))) == 5


def test_numbers_like_1e_minus_3_are_numbers(folder: Path) -> None:
    assert load(write(folder, GOOD + "run: {learning_rate: 1e-3}\n")).run.learning_rate == 0.001


ERRORS = {
    "unknown key": (GOOD + "clusters: x\n", "clusters: unknown key; did you mean cluster?"),
    "unknown nested key": (
        GOOD + "run: {local_epoch: 2}\n",
        "run.local_epoch: unknown key; did you mean local_epochs?",
    ),
    "unknown key in a list": (
        GOOD.replace("{host:", "{prot: 1, host:"),
        "brokers[0].prot: unknown key; did you mean port?",
    ),
    "unknown key without a near one": (
        GOOD + "log: {zzz: 1}\n",
        "log.zzz: unknown key; the keys here are level, max_mb",
    ),
    "missing key": (GOOD.replace("cluster: lab\n", ""), "cluster: is missing; add it"),
    "missing nested key": (GOOD.replace("id: 2, ", ""), "node.id: is missing; add it"),
    "text for a number": (GOOD.replace("id: 2", "id: two"), "node.id: expected a whole number, got text; correct it"),
    "a number for text": (
        GOOD.replace("host: 127.0.0.1", "host: 5"),
        "brokers[0].host: expected text, got a whole number",
    ),
    "a list for a mapping": (GOOD + "run: []\n", "run: expected a mapping of keys, got a list"),
    "nothing for a mapping": (GOOD + "run:\n", "run: expected a mapping of keys, got nothing"),
    "out of range": (GOOD + "run: {rounds: 0}\n", "run.rounds: expected a whole number >= 1"),
    "not finite": (GOOD + "run: {l2: .nan}\n", "run.l2: is not a finite number"),
    "not a choice": (GOOD + "log: {level: loud}\n", "log.level: no such choice: 'loud'; correct it"),
    "no broker": (GOOD.replace("\n  - {host: 127.0.0.1}", " []"), "brokers: "),
    "an empty path": (GOOD.replace("state_dir: state", "state_dir: ''"), "state_dir: expected a path"),
    "a cluster unfit for a topic": (GOOD.replace("lab", "lab/#"), "cluster: 'lab/#' can't be part of a topic; use"),
    "an id that isn't in the roster": (GOOD + "roster: {1: a}\n", "node.id: 2 is not in the roster; add `2: here`"),
    "another site than the roster's": (
        GOOD + "roster: {2: a}\n",
        "node.site: 'here' is not the roster's 'a' for node 2",
    ),
    "a bad roster id": (GOOD + "roster: {x: a}\n", "roster: expected a whole number, got text"),
    "more nodes than the roster": (GOOD + "roster: {2: here}\nrun: {min_nodes: 2}\n", "run.min_nodes: 2 of 1 nodes"),
    "a bad pattern": (
        GOOD.replace("images}", "images, patient_pattern: '('}"),
        "data.patient_pattern: not a regular expr",
    ),
    "no such certificate": (
        GOOD.replace("127.0.0.1}", "127.0.0.1, tls: {ca: ca.pem, certificate: c.pem, key: k.pem}}"),
        "brokers[0].tls.ca: no such file ",
    ),
    "a key given twice": (GOOD + "state_dir: other\n", "state_dir: the key appears twice (line 7); delete one"),
    "invalid YAML": (GOOD + "run: {\n", "line 8: is not valid YAML ("),
    "not a mapping": ("- a\n- b\n", "holds no keys; write it after"),
    "empty": ("", "holds no keys; write it after"),
    "a state folder that is a file": (GOOD.replace("state_dir: state", "state_dir: node.yaml"), "state_dir: "),
    "no such folder": (GOOD.replace("images", "elsewhere"), "data.train: no such folder "),
    "no such folder for validation": (GOOD.replace("images}", "images, val: gone}"), "data.val: no such folder "),
    "the same folder twice": (
        GOOD.replace("images}", "images, val: images}"),
        "data.val: the same folder as data.train",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_is_one_line_with_file_key_and_remedy(folder: Path, case: str) -> None:
    text, expected = ERRORS[case]
    path = write(folder, text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: {expected}")
    assert "\n" not in line
    assert "; " in line  # the remedy
    assert caught.value.exit_code == 2


def test_an_empty_class_is_an_error_only_where_images_are_needed(folder: Path) -> None:
    path = write(folder, GOOD)
    (folder / "images" / "PNEUMONIA" / "a.JPEG").rename(folder / "images" / "PNEUMONIA" / "notes.txt")
    with pytest.raises(ConfigError, match=re.escape(f"data.train: no image in {folder / 'images' / 'PNEUMONIA'}; put")):
        load(path)
    assert load(path, need_data=False).node_id == 2


def test_class_folders_may_be_in_lower_case_and_hidden_files_do_not_count(folder: Path) -> None:
    path = write(folder, GOOD)
    for name in ("NORMAL", "PNEUMONIA"):
        (folder / "images" / name).rename(folder / "images" / name.lower())
    assert load(path).node_id == 2
    (folder / "images" / "normal" / "a.JPEG").rename(folder / "images" / "normal" / "._a.JPEG")
    with pytest.raises(ConfigError, match=r"data\.train: no image in .*NORMAL"):
        load(path)


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: can't be read \(No such file"):
        load(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ConfigError, match=r"binary\.yaml: "):
        load(tmp_path / "binary.yaml")


def keys_of(form: type[msgspec.Struct]) -> set[str]:
    """Every dotted key of a struct; lists of structs count as the struct."""

    def structs(kind: object) -> list[type[msgspec.Struct]]:
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return [kind]
        return [found for arg in get_args(kind) for found in structs(arg)]

    keys = set()
    for field in msgspec.structs.fields(form):
        inner = [f"{field.name}.{key}" for kind in structs(field.type) for key in keys_of(kind)]
        keys |= set(inner) or {field.name}
    return keys


def keys_in(value: object, where: str = "") -> set[str]:
    if isinstance(value, list):
        return set().union(*(keys_in(item, where) for item in value))
    if isinstance(value, dict) and where != "roster":
        return set().union(*(keys_in(item, f"{where}.{key}".strip(".")) for key, item in value.items()))
    return {where}


def test_the_example_has_every_key_and_no_other() -> None:
    text = EXAMPLE.read_text()
    uncommented = re.sub(r"^( *)# (tls|  ca|  certificate|  key|patient_pattern):", r"\1\2:", text, flags=re.MULTILINE)
    assert keys_in(yaml.safe_load(uncommented)) == keys_of(ConfigFile)


def test_every_key_of_the_example_has_a_comment_before_it() -> None:
    lines = EXAMPLE.read_text().splitlines()
    described = False
    for line in lines:
        if line.lstrip().startswith("#"):
            described = True
        elif not line.strip():
            described = False
        elif not re.match(r" +(\d+|certificate|key|keep|port):", line):  # a comment names these with the key before
            assert described or line.lstrip().startswith("- "), line
    assert described


@pytest.mark.parametrize("path", sorted(ROOT.glob("configs/**/*.yaml")), ids=lambda p: p.name)
def test_the_shipped_files_load(path: Path) -> None:
    assert load(path, need_data=False).path == path


def test_the_three_of_one_machine_find_the_images_that_the_demo_keeps(tmp_path: Path) -> None:
    """As after `pneumod demo --keep .dev/demo`."""
    shutil.copytree(ROOT / "configs" / "dev", tmp_path / "configs" / "dev")
    made = write_dataset(tmp_path / ".dev" / "demo" / "images", 3, train_images=4, val_images=4, test_images=0)
    for number, folder in enumerate(made, 1):
        node = load(tmp_path / "configs" / "dev" / f"node{number}.yaml")
        assert (node.node_id, node.data.train, node.data.val) == (number, folder / "train", folder / "val")
        assert node.state_dir == tmp_path / ".dev" / f"node{number}"
