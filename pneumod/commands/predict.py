"""`pneumod predict`: classify images with a trained model."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

from pneumod.errors import ConfigError, DataError
from pneumod.imagefile import IMAGE_SUFFIXES
from pneumod.images.pool import Pool
from pneumod.learning.classify import Seen, classify
from pneumod.learning.predict import Predictor, find_model
from pneumod.maps import Maps
from pneumod.output import Output, Result, Tally, Terms, age_years, notices, result_of
from pneumod.progress import bar

if TYPE_CHECKING:
    from pneumod.config import NodeConfig


# An image costs a core 3 to 5 ms to decode, and the network 0.2 ms (benchmarks/predict.py): with fewer cores than that,
# more than one thread would only take time from the decoders.
THREADS = max(1, (os.cpu_count() or 1) // 8)


def run(args: argparse.Namespace) -> int:
    """Answer images as they come, in their order; the exit code is Tally's."""
    _check(args)
    node = named_node(args)
    file = find_model(args.model, node.state_dir if node else None)
    terms = Terms(file.card, file.card.threshold if args.threshold is None else args.threshold, args.abstain)
    one = len(args.images) == 1 and not args.images[0].is_dir()
    with Pool(file.card.preparation, 1 if one else args.processes, args.force) as pool, ExitStack() as held:
        predictor = Predictor(file, 1 if one else THREADS, args.batch)  # while the pool starts
        maps = None
        if args.heatmap:
            maps = held.enter_context(closing(Maps(args.heatmap, args.images or [args.watch], predictor, args.force)))
        if args.watch is not None:
            from pneumod.commands.watch import watch

            return watch(args, terms, pool, predictor, maps)
        if args.cluster and node is not None:
            tally = _predict_together(args, node, terms, pool, predictor)
        else:
            tally = _predict(args, terms, classify(files_of(args.images), pool, predictor), maps)
    if node is not None:
        _record(node, f"{tally.images} images, {tally.failed} failed, model {file.card.name}")
    return tally.exit_code


def _check(args: argparse.Namespace) -> None:
    """Options that don't go together."""
    if (args.watch is None) != (args.out is None):
        raise ConfigError("--watch DIR and --out FILE need each other")
    if args.watch is not None and args.csv is not None:
        raise ConfigError("--csv: with --watch the results go to --out")
    if args.cluster and args.config is None:
        raise ConfigError("--cluster: name this machine's node with --config")
    if args.cluster and (args.watch or args.heatmap):
        raise ConfigError("--cluster: not with --watch or --heatmap; leave one out")


def _predict_together(
    args: argparse.Namespace, node: NodeConfig, terms: Terms, pool: Pool, predictor: Predictor
) -> Tally:
    """`_predict`, with the answers of all nodes of the site."""
    from pneumod.spread.site import Site

    site = Site(node)
    with closing(site.classified(list(files_of(args.images)), pool, predictor)) as answered:
        return _predict(args, terms, answered, None, site.brief)


def _predict(
    args: argparse.Namespace,
    terms: Terms,
    answered: Iterable[Seen[Path]],
    maps: Maps | None,
    who: Callable[[], str] = str,
) -> Tally:
    """Say what came of each file, and in the end of all.

    Args:
        who: says who did how much so far.

    Raises:
        DataError: there is no image.
    """
    folders, tally = any(path.is_dir() for path in args.images), Tally()
    with (
        Output(args.json, args.csv) as output,
        bar(folders and not output.on_terminal, lambda: sum(1 for _ in files_of(args.images))) as show,
    ):
        try:
            for seen in answered:
                result = result_of(seen.source, seen.answer, terms, age_years(seen.source, terms))
                if maps is not None and isinstance(result, Result):
                    maps.draw(seen, result)
                tally.add(result)
                output.write(result)
                show(tally.images, tally.brief() + who())
        except KeyboardInterrupt:
            print(f"stopped: {tally}; {tally.brief()}", file=sys.stderr)
            raise
    if tally.images == 0:
        raise DataError(f"{', '.join(map(str, args.images))}: no image in it ({', '.join(IMAGE_SUFFIXES)})")
    if folders:
        print(f"{tally}; {tally.brief()}", file=sys.stderr)
    if not args.json:
        print(*notices(terms.card), sep="\n", file=sys.stderr)
    return tally


def named_node(args: argparse.Namespace) -> NodeConfig | None:
    """The node that --config names.

    Raises:
        ConfigError: its configuration is wrong.
    """
    if args.config is None:
        return None
    from pneumod.config import load  # imports YAML, which --model need not wait for

    return load(args.config, need_data=False)


def files_of(arguments: Iterable[Path]) -> Iterator[Path]:
    """The files that are named, and those in the folders that are named."""
    for path in arguments:
        if path.is_dir():
            from pneumod.images.folders import image_files

            yield from image_files(path)
        else:
            yield path


def _record(node: NodeConfig, text: str) -> None:
    """A line in the node's log/predict, without names of files; none from a user who may not write there."""
    from pneumod import logs

    folder = node.state_dir / "log" / "predict"
    if not os.access(folder, os.W_OK | os.X_OK):  # rotation needs it
        return
    try:
        (folder / "predict.log").open("ab").close()
        logs.setup(node.state_dir, node.log, stderr=False)
    except OSError:
        return
    logs.component("predict").info(text)
