"""`pneumod preprocess`: have the images of a folder prepared and kept, so that nothing has to be read twice."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from hashlib import blake2b
from pathlib import Path

import msgspec
from msgspec import Struct

from pneumod.blobs import refusal
from pneumod.config import NodeConfig, load
from pneumod.errors import ConfigError, DataError
from pneumod.images.cache import Cache, open_cache
from pneumod.images.dataset import cache_folder, fill, warn
from pneumod.images.folders import image_files
from pneumod.images.pool import Pool, Ready
from pneumod.output import name_of
from pneumod.progress import bar
from pneumod.settings import Preparation

LINE_S = 10.0  # between two lines of progress, where no terminal shows a bar


class SetAside(Struct):
    path: str
    reason: str


class Summary(Struct):
    """What came of a folder."""

    images: int
    prepared: int
    already_there: int
    set_aside: list[SetAside]
    images_per_s: float  # of those that were prepared or set aside now
    cache: str

    def lines(self) -> Iterator[str]:
        yield (
            f"{self.images:,} images: {self.prepared:,} prepared ({self.images_per_s:.0f} images/s), "
            f"{self.already_there:,} already there, {len(self.set_aside):,} set aside"
        )
        yield from (f"  set aside: {file.path}: {file.reason}" for file in self.set_aside)
        yield f"  kept in {self.cache}"


def run(args: argparse.Namespace) -> int:
    """Fill the cache of a folder; 1 if any image was set aside."""
    node = load(args.config, need_data=False) if args.config else None
    if node is not None and args.force:
        raise ConfigError("--force: a node's own cache takes chest X-rays only; use --out in place of --config")
    if args.cluster and node is None:
        raise ConfigError("--cluster: name this machine's node with --config")
    folder = Path(os.path.abspath(args.folder))
    target = cache_folder(node) if node else args.out or _default_target(folder)
    preparation = _preparation(args, node.run.preparation if node else Preparation())
    try:
        summary = _preprocess(folder, Path(os.path.abspath(target)), preparation, args, node)
    except OSError as error:
        if error.filename is None:  # not of the cache
            raise
        raise DataError(refusal(error, target)) from error
    if args.json:
        print(json.dumps(msgspec.to_builtins(summary)))
    else:
        print(*summary.lines(), sep="\n")
    return int(bool(summary.set_aside))


def _preparation(args: argparse.Namespace, default: Preparation) -> Preparation:
    given = {name: getattr(args, name) for name in default.__struct_fields__}
    return msgspec.structs.replace(default, **{name: value for name, value in given.items() if value is not None})


def _default_target(folder: Path) -> Path:
    """A folder of its own under the user's cache directory."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return caches / "pneumod" / f"{folder.name}-{blake2b(os.fsencode(folder), digest_size=4).hexdigest()}"


def _preprocess(
    folder: Path, target: Path, preparation: Preparation, args: argparse.Namespace, node: NodeConfig | None
) -> Summary:
    with open_cache(target, preparation, warn, args.force) as cache:
        images = cache.see(image_files(folder), within=folder)
        if images == 0:
            raise DataError(f"{folder}: no image in it")
        before = sum(entry.row is not None for entry in cache.index.entries())
        images_per_s = 0.0
        if missing := cache.index.missing_count():
            with Pool(preparation, args.processes, args.force) as pool:
                images_per_s = _fill(cache, images, missing, *_source(args, node, pool))
        rows, set_aside = 0, []
        for entry in cache.index.entries():
            rows += entry.row is not None
            if entry.reason is not None:
                set_aside.append(SetAside(name_of(entry.path), entry.reason))
        return Summary(images, rows - before, before, set_aside, round(images_per_s, 1), name_of(target))


def _source(
    args: argparse.Namespace, node: NodeConfig | None, pool: Pool
) -> tuple[Callable[[Iterable[Path]], Generator[Ready | str]], Callable[[], str]]:
    """Who prepares the files, and what a line of progress says of them."""
    if not args.cluster or node is None:
        return pool.map, str
    from pneumod.spread.site import Site

    site = Site(node)
    return lambda missing: site.prepared(list(missing), pool), site.brief


def _fill(
    cache: Cache,
    images: int,
    missing: int,
    prepared: Callable[[Iterable[Path]], Generator[Ready | str]],
    who: Callable[[], str],
) -> float:
    """Have what is missing prepared, and show how far it is; images a second."""
    started_s = told_s = time.monotonic()
    rate = 0.0
    try:
        with bar(True, lambda: missing) as show, closing(fill(cache, prepared)) as files:
            for done, _ in enumerate(files, 1):
                now_s = time.monotonic()
                rate = done / max(now_s - started_s, 1e-3)
                text = f"{rate:.0f} images/s{who()}"
                show(done, text)
                if now_s - told_s >= LINE_S and not sys.stderr.isatty():
                    told_s = now_s
                    print(f"{done:,} of {missing:,} images, {text}", file=sys.stderr)
    except KeyboardInterrupt:
        there = images - cache.index.missing_count()
        warn(f"stopped: {there:,} of {images:,} images are done; the same command goes on from there")
        raise
    return rate
