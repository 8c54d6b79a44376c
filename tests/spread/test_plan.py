"""Files -> items, and whether sending pays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pneumod import parcel
from pneumod.desk import Came, pack_frame
from pneumod.parcel import MAX_FILES, Answer, Answers, Facts
from pneumod.spread.plan import ITEM_BYTES, TRAVEL_BYTES, most_files, plan
from pneumod.spread.worth import LEAST, Cost, worth
from pneumod.work import DATA_BYTES, PARCEL_BYTES

FACTS = Facts(2**31, 2**31, 255.0, 255.0)


@given(
    st.lists(st.integers(-1, 2 * PARCEL_BYTES) | st.integers(0, ITEM_BYTES // 10), max_size=300),
    st.integers(1, 9),
    st.integers(1, MAX_FILES),
)
def test_every_file_that_may_travel_is_in_one_item(sizes: list[int], nodes: int, most: int) -> None:
    items = plan(sizes, nodes, most)
    assert [file for item in items for file in item] == [i for i, s in enumerate(sizes) if 0 <= s <= TRAVEL_BYTES]
    for item in items:
        assert 1 <= len(item) <= most
        assert len(item) == 1 or sum(sizes[file] for file in item) <= ITEM_BYTES


def finish(sizes: list[int], speeds: list[int]) -> list[float]:
    """When each node ends: it takes the next items as it has room, and holds four."""
    at_s, held = [0.0] * len(speeds), [[] for _ in speeds]  # type: ignore[var-annotated]
    items = plan(sizes, len(speeds), 21)
    while items or any(held):
        for mine in held:
            while items and len(mine) < 4:
                mine.append(items.pop(0))
        busy = [node for node in range(len(speeds)) if held[node]]
        node = min(busy, key=lambda n: at_s[n] + len(held[n][0]) / speeds[n])
        at_s[node] += len(held[node].pop(0)) / speeds[node]
    return at_s


@pytest.mark.parametrize("files", [500, 3000, 20_000])
def test_nodes_of_speeds_one_to_four_finish_together(files: int) -> None:
    ends = finish([10_000] * files, [1, 2, 4])
    assert max(ends) <= 1.1 * min(ends)


def test_a_folder_has_about_forty_items_a_node() -> None:
    for files in (400, 3000, 100_000):
        assert len(plan([10_000] * files, 3, 21)) > 3 * 30


def test_what_comes_of_an_item_fits_into_one_message() -> None:
    for side in (28, 96, 224, 256):
        most = most_files(side**2)
        assert most >= 2
        answers = Answers((Answer(FACTS, pixels=b"\0" * side**2),) * most)
        assert len(parcel.pack(answers)) <= DATA_BYTES
    most = most_files(0)
    scored = Answers((Answer(FACTS, probability=0.123456789, distance=1e9),) * most)
    assert len(pack_frame(Came(65_535, parcel.pack(scored), 2**31 - 1))) <= DATA_BYTES


def test_sending_pays_while_it_costs_less_than_doing() -> None:
    cheap = [Cost(files, 300_000 * files, 2.0 * files) for files in range(1, LEAST + 1)]
    dear = [Cost(files, 300_000 * files, 9.0 * files) for files in range(1, LEAST + 1)]
    good, bad = worth(sent=cheap, worked=dear), worth(sent=dear, worked=cheap)
    assert good is not None
    assert good.pays
    assert bad is not None
    assert not bad.pays
    assert str(bad) == "an image of 300 kB costs 9.0 ms to send, and 2.0 ms to work on here"
    odd = worth(sent=[Cost(1, 300_000, 1000.0), *cheap], worked=dear)
    assert odd is not None
    assert odd.pays, "one that was held up decides nothing"


def test_nothing_is_decided_by_a_few() -> None:
    costs = [Cost(1, 1000, 1.0)] * LEAST
    assert worth(costs[1:], costs) is None
    assert worth(costs, costs[1:]) is None
