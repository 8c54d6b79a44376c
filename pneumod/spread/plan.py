"""Files -> work items. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from pneumod.work import DATA_BYTES, PARCEL_BYTES

ITEM_BYTES = 4 * 1024 * 1024  # of files, beyond which an item takes no further one
TRAVEL_BYTES = PARCEL_BYTES * 3 // 4  # of one file; a larger one stays at home
SHARES = 24  # an item is at most this part of what each node has left to do, if all were equally fast
LEAST_SHARES = 160  # an item need not be smaller than this part of what each node has to do in all
ANSWER_BYTES = 256  # of what comes of a file beside its pixels, its frame among them
MOST_SCORED = 64  # files of an item that is classified


def most_files(pixels: int) -> int:
    """How many files an item may have, so that what comes of it fits into one message.

    Args:
        pixels: that come of each file; 0 where it is classified.
    """
    return min(MOST_SCORED, DATA_BYTES // (pixels + ANSWER_BYTES))


def plan(sizes: Sequence[int], nodes: int, most: int) -> list[tuple[int, ...]]:
    """The items, each the ascending indices of its files; together in ascending order.

    The items get smaller towards the end (guided self-scheduling, Polychronopoulos and Kuck 1987), so that nodes of
    different speeds finish together; too small ones would cost more than they even out.

    Args:
        sizes: of the files, in bytes. A file over TRAVEL_BYTES is in no item, and one of a negative size neither.
        nodes: of the site.
        most: files of an item.
    """
    travelling = [index for index, size in enumerate(sizes) if 0 <= size <= TRAVEL_BYTES]
    items: list[tuple[int, ...]] = []
    start = 0
    while start < len(travelling):
        left = len(travelling) - start
        count = min(most, max(-(-left // (nodes * SHARES)), len(travelling) // (nodes * LEAST_SHARES)))
        end, total = start + 1, sizes[travelling[start]]
        while end < min(start + count, len(travelling)) and total + sizes[travelling[end]] <= ITEM_BYTES:
            total += sizes[travelling[end]]
            end += 1
        items.append(tuple(travelling[start:end]))
        start = end
    return items
