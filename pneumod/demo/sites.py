"""Whose images the demo's nodes have: a folder of real ones, or phantoms made for the occasion."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from pneumod.demo import phantom
from pneumod.errors import DataError
from pneumod.images.folders import labelled_files, layout

PARTS = ("train", "val", "test")  # of one node's data; not names of nodes


class Site(NamedTuple):
    """One node's images. Without `val` a part of `train` is split off by patient."""

    node: int
    name: str
    train: Path
    val: Path | None


def real_sites(data: Path) -> list[Site]:
    """Each subfolder of `data` is one node, numbered from 1 in the order of names.

    Raises:
        DataError: there is no subfolder, or one of them isn't a node's data but perhaps a part of it.
    """
    folders = sorted(path for path in data.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise DataError(f"{data}: no subfolder; each subfolder is one node's data")
    parts = [path.name for path in folders if path.name.lower() in PARTS]
    if parts:
        raise DataError(
            f"{data}: looks like one node's data, with {' and '.join(f'{name}/' for name in parts)} in it; "
            "give the folder that holds the nodes' folders and nothing else"
        )
    sites = []
    for number, folder in enumerate(folders, 1):
        train, val = layout(folder)
        for part in (train, val):
            if part is not None:
                labelled_files(part)
        sites.append(Site(number, folder.name, train, val))
    return sites


def synthetic_sites(folder: Path, nodes: int, seed: int) -> list[Site]:
    """Phantoms for `nodes` nodes, written under `folder`."""
    made = phantom.write_dataset(folder, nodes, seed)
    return [Site(number, f"synthetic-{number}", one / "train", one / "val") for number, one in enumerate(made, 1)]
