"""`pneumod predict --watch`: classify each image that arrives in a folder, once."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pneumod.images.arrivals import Arrival, Arrivals, stamp_of
from pneumod.images.pool import Pool
from pneumod.learning.classify import classify
from pneumod.learning.predict import Predictor
from pneumod.maps import Maps
from pneumod.output import Output, Result, Tally, Terms, age_years, name_of, notices, result_of
from pneumod.results import ResultsFile


def watch(args: argparse.Namespace, terms: Terms, pool: Pool, predictor: Predictor, maps: Maps | None) -> int:
    """Classify what is in the folder and what comes, until Ctrl-C; 0 then.

    Raises:
        DataError: the folder is gone, or the file of results can't be used (any more).
    """
    folder: Path = args.watch.absolute()
    with ResultsFile(args.out) as results, Output(args.json, None) as output:

        def is_done(arrival: Arrival) -> bool:
            return results.is_done(name_of(arrival.path.relative_to(folder)), arrival.stamp)

        def say(text: str) -> None:
            print(text, file=sys.stderr)

        arrivals = Arrivals(folder, args.settle, args.poll, is_done, say)
        tally = Tally()
        for text in notices(terms.card):
            say(text)
        say(f"watching {args.watch}, {len(results):,} files are done; Ctrl-C ends it")
        try:
            for due in arrivals.complete():
                seen_all = classify([arrival.path for arrival in due], pool, predictor)
                for arrival, seen in zip(due, seen_all, strict=True):
                    if stamp_of(arrival.path) != arrival.stamp:  # it was written while it was read
                        arrivals.look(arrival.path, touched=True)
                        continue
                    result = result_of(
                        arrival.path.relative_to(folder), seen.answer, terms, age_years(arrival.path, terms)
                    )
                    if maps is not None and isinstance(result, Result):
                        maps.draw(seen, result)
                    if results.add(result, arrival.stamp):
                        tally.add(result)
                        output.write(result)
        except KeyboardInterrupt:
            say(str(tally))
    return 0
