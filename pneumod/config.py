"""The YAML of one node -> NodeConfig. The only reader of YAML.

Every key is checked; `configs/node.example.yaml` documents them all. What is wrong raises ConfigError,
one line: `FILE: KEY: what is wrong; what to do`.
"""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
import yaml
from msgspec import Meta, Struct

from pneumod.errors import ConfigError
from pneumod.imagefile import is_image
from pneumod.messages import Name, NodeId, RunSettings

CLASSES = ("NORMAL", "PNEUMONIA")
CLUSTER_PATTERN = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class TlsConfig(Struct, frozen=True):
    """PEM files of a TLS connection: the authority that signed the broker's certificate, and our own pair."""

    ca: Path
    certificate: Path
    key: Path


class BrokerConfig(Struct, frozen=True):
    """One MQTT 5 broker; the first that answers is used."""

    host: Annotated[str, Meta(min_length=1, max_length=253)]
    port: Annotated[int, Meta(ge=1, le=65535)] = 1883
    keepalive_s: Annotated[int, Meta(ge=1, le=65535)] = 5
    site: Name | None = None  # where it stands: only there images may travel over it, between nodes of that site
    tls: TlsConfig | None = None


Age = Annotated[float, Meta(ge=0, le=130)]


class DataConfig(Struct, frozen=True):
    """Folders that hold NORMAL/ and PNEUMONIA/, in upper or lower case."""

    train: Path
    val: Path | None = None  # None: a part of `train`, split by patient
    val_fraction: Annotated[float, Meta(ge=0.01, le=0.5)] = 0.15
    patient_pattern: str | None = None  # None: the default pattern
    share_counts: bool = True  # tell others than the master how many images there are by class
    about: Annotated[str, Meta(max_length=200)] | None = None  # who is on the images; for the cards of models made here
    ages_years: tuple[Age, Age] | None = None  # of them, the youngest and the oldest


class LogConfig(Struct, frozen=True):
    level: Literal["debug", "info", "warning", "error"] = "info"
    max_mb: Annotated[int, Meta(ge=1, le=10_000)] = 10
    keep: Annotated[int, Meta(ge=1, le=1000)] = 5


class NodeConfig(Struct, frozen=True):
    """One node. Paths are absolute; `run` holds the settings that `pneumod train` asks with."""

    path: Path
    cluster: str
    node_id: int
    name: str
    site: str
    roster: dict[int, str]  # node id -> site; empty: anyone may join
    brokers: tuple[BrokerConfig, ...]
    state_dir: Path
    data: DataConfig
    threads: int  # 0: all cores
    run: RunSettings
    log: LogConfig


class NodeSection(Struct, frozen=True):
    id: NodeId
    name: Name
    site: Name


class ConfigFile(Struct, frozen=True):
    """The form of the YAML file."""

    cluster: str
    node: NodeSection
    brokers: Annotated[tuple[BrokerConfig, ...], Meta(min_length=1, max_length=16)]
    state_dir: Path
    data: DataConfig
    roster: Annotated[dict[NodeId, Name], Meta(max_length=100_000)] = {}
    threads: Annotated[int, Meta(ge=0, le=4096)] = 0
    run: RunSettings = RunSettings()
    log: LogConfig = LogConfig()


def load(path: Path, need_data: bool = True) -> NodeConfig:
    """Read and check the YAML of one node. Relative paths in it are relative to its folder.

    Without `run.min_nodes`, a roster sets it to its majority: the smaller side of a split can't train.

    Args:
        need_data: also check that the folders of images exist and that no class is empty.

    Raises:
        ConfigError: one line that names the file, the key and the remedy.
    """
    try:
        raw = _read_yaml(path)
        _check_keys(raw, ConfigFile)
        file = _convert(raw, Path(os.path.abspath(path)).parent)
        _check_values(file)
        if need_data:
            _check_data(file.data)
    except _Problem as problem:
        raise ConfigError(f"{path}: {problem}") from problem
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.filename}: {error.strerror}; make it readable, or correct the path"
        ) from error
    run = file.run
    if file.roster and "min_nodes" not in (raw.get("run") or {}):
        run = msgspec.structs.replace(run, min_nodes=len(file.roster) // 2 + 1)
    return NodeConfig(
        path=Path(os.path.abspath(path)),
        cluster=file.cluster,
        node_id=file.node.id,
        name=file.node.name,
        site=file.node.site,
        roster=file.roster,
        brokers=file.brokers,
        state_dir=file.state_dir,
        data=file.data,
        threads=file.threads,
        run=run,
        log=file.log,
    )


def roster_place(config: NodeConfig) -> int:
    """The node's place in the sorted roster, counted from 0; without a roster, its id modulo 16."""
    return sorted(config.roster).index(config.node_id) if config.roster else config.node_id % 16


class _Problem(Exception):
    """`KEY: what is wrong; what to do`, before the file's name is known."""


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice and reads 1e-3 as a number, as YAML 1.2 does."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise _Problem(f"{key.value}: the key appears twice (line {key.start_mark.line + 1}); delete one")
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise _Problem(f"can't be read ({error.strerror}); give the path of a node's YAML file") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise _Problem("is not YAML text in UTF-8; write it after configs/node.example.yaml") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise _Problem(f"line {line}: is not valid YAML ({error.problem}); correct that line") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that doesn't exist
        raise _Problem(f"is not valid YAML ({' '.join(str(error).split())}); correct it") from error
    if not isinstance(raw, dict):
        raise _Problem("holds no keys; write it after configs/node.example.yaml")
    return raw


def _struct_in(kind: Any) -> type[Struct] | None:
    """The struct that `kind` is, or holds: TlsConfig of TlsConfig | None, BrokerConfig of tuple[BrokerConfig, ...]."""
    if isinstance(kind, type) and issubclass(kind, Struct):
        return kind
    return next((found for arg in get_args(kind) if (found := _struct_in(arg))), None)


def _check_keys(section: dict[Any, Any], form: type[Struct], where: str = "") -> None:
    """Refuse unknown keys and numbers that aren't finite, which pass every range check."""
    fields = {field.name: _struct_in(field.type) for field in msgspec.structs.fields(form)}
    for key, value in section.items():
        name = f"{where}{key}"
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the keys here are {', '.join(fields)}"
            raise _Problem(f"{name}: unknown key; {hint}")
        if isinstance(value, float) and not math.isfinite(value):
            raise _Problem(f"{name}: is not a finite number; write one")
        inner = fields[key]
        if inner is not None:
            for place, item in _items(value, name):
                _check_keys(item, inner, f"{place}.")


def _items(value: Any, name: str) -> Iterator[tuple[str, dict[Any, Any]]]:
    """The mappings in `value`, which is one or a list of them, each with its dotted name."""
    if isinstance(value, dict):
        yield name, value
    elif isinstance(value, list):
        yield from ((f"{name}[{i}]", item) for i, item in enumerate(value) if isinstance(item, dict))


_WORDS = {
    "`int`": "a whole number", "`float`": "a number", "`str`": "text", "`bool`": "true or false",
    "`object`": "a mapping of keys", "`array`": "a list", "`null`": "nothing", "`date`": "a date",
    "Expected": "expected", "Invalid enum value": "no such choice:",
}  # fmt: skip


def _convert(raw: dict[str, Any], folder: Path) -> ConfigFile:
    """The checked types and ranges; paths made absolute from `folder`."""

    def to_path(_: type, value: Any) -> Path:
        if not isinstance(value, str) or not value or not value.isprintable():
            raise ValueError("expected a path")
        return Path(os.path.abspath(folder / os.path.expanduser(value)))

    try:
        return msgspec.convert(raw, ConfigFile, dec_hook=to_path)
    except msgspec.ValidationError as error:
        text, _, place = str(error).partition(" - at ")
        key = place.replace("`key` in ", "").replace("[...]", "").strip("`").removeprefix("$").removeprefix(".")
        if missing := re.search(r"missing required field `(\w+)`", text):
            key = f"{key}.{missing[1]}".strip(".")
            raise _Problem(f"{key}: is missing; add it (configs/node.example.yaml shows how)") from error
        for word, plain in _WORDS.items():
            text = text.replace(word, plain)
        raise _Problem(f"{key}: {text}; correct it (configs/node.example.yaml shows how)") from error


def _check_values(file: ConfigFile) -> None:
    """What no type says: names fit for a topic, the roster, the pattern, the files of TLS."""
    if not CLUSTER_PATTERN.fullmatch(file.cluster):
        raise _Problem(
            f"cluster: {file.cluster!r} can't be part of a topic; use 1 to 64 letters, digits, '_', '.', '-'"
        )
    if file.roster:
        node, site = file.node.id, file.node.site
        if node not in file.roster:
            raise _Problem(f"node.id: {node} is not in the roster; add `{node}: {site}` to roster, or correct the id")
        if file.roster[node] != site:
            raise _Problem(
                f"node.site: {site!r} is not the roster's {file.roster[node]!r} for node {node}; correct one"
            )
        if file.run.min_nodes > len(file.roster):
            raise _Problem(f"run.min_nodes: {file.run.min_nodes} of {len(file.roster)} nodes in the roster; lower it")
    if file.data.patient_pattern is not None:
        try:
            re.compile(file.data.patient_pattern)
        except re.error as error:
            raise _Problem(f"data.patient_pattern: not a regular expression ({error}); correct it") from error
    if file.data.ages_years is not None and file.data.ages_years[0] > file.data.ages_years[1]:
        raise _Problem("data.ages_years: the youngest comes first; exchange the two")
    if file.state_dir.exists() and not file.state_dir.is_dir():
        raise _Problem(f"state_dir: {file.state_dir} is not a folder; name another")
    for i, broker in enumerate(file.brokers):
        for part in TlsConfig.__struct_fields__ if broker.tls else ():
            certificate = getattr(broker.tls, part)
            if not certificate.is_file():
                raise _Problem(f"brokers[{i}].tls.{part}: no such file {certificate}; correct the path")


def _check_data(data: DataConfig) -> None:
    for key, folder in (("train", data.train), ("val", data.val)):
        if folder is None:
            continue
        if not folder.is_dir():
            raise _Problem(f"data.{key}: no such folder {folder}; make it, or correct the path")
        for name in CLASSES:
            inside = [p for p in folder.iterdir() if p.name.upper() == name and p.is_dir()]
            if not any(is_image(p) for part in inside for p in part.iterdir()):
                raise _Problem(f"data.{key}: no image in {folder / name}; put DICOM, JPEG, PNG, TIFF or BMP there")
    if data.val == data.train:
        raise _Problem("data.val: the same folder as data.train; leave it out to split by patient")
