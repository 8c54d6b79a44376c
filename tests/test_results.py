"""The file of results of `pneumod predict --watch`: what it remembers, and what it never touches."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from pneumod.errors import DataError
from pneumod.images.arrivals import Stamp
from pneumod.output import NoAnswer, name_of
from pneumod.results import COLUMNS, ResultsFile

STAMP = Stamp(size=2217, mtime_ns=1_764_000_000_123_456_789)
DENIED = NoAnswer("a.png", "can't be read: Permission denied")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "results.csv"


def errors(out: Path) -> list[str]:
    with out.open(newline="") as file:
        return [row["error"] for row in csv.DictReader(file)]


def test_what_can_not_be_opened_is_told_once_and_tried_again(out: Path) -> None:
    for told in (True, False):
        with ResultsFile(out) as results:
            assert results.add(DENIED, STAMP) == told
            assert not results.is_done("a.png", STAMP)
            assert not results.add(DENIED, STAMP)
    with ResultsFile(out) as results:
        assert results.add(NoAnswer("a.png", "the file is empty"), STAMP)
        assert results.is_done("a.png", STAMP)
    assert errors(out) == [DENIED.error, "the file is empty"]


@pytest.mark.parametrize("name", ['=cmd|"x".png', "+1.png", "-1.png", "@sum(a1).png"])
def test_a_name_that_a_spreadsheet_would_compute_is_written_as_a_path(out: Path, name: str) -> None:
    """`./` before it names the same file; and it is known again."""
    written = name_of(Path(name))
    with ResultsFile(out) as results:
        results.add(NoAnswer(written, "the file is empty"), STAMP)
    with out.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["path"] == f"./{name}"
    assert Path(row["path"]) == Path(name)
    with ResultsFile(out) as results:
        assert results.is_done(name_of(Path(name)), STAMP)
    assert name_of(Path("a=b.png")) == "a=b.png"


def test_a_semicolon_makes_no_second_cell(out: Path) -> None:
    """Many spreadsheets separate by semicolons; what would follow one may be a formula."""
    with ResultsFile(out) as results:
        results.add(NoAnswer("a;=1+1.png", "the file is empty"), STAMP)
        assert out.read_text().splitlines()[1].startswith('"a;=1+1.png","2217",')
    with ResultsFile(out) as results:
        assert results.is_done("a;=1+1.png", STAMP)


def test_a_line_that_is_torn_anywhere_is_cut_off(out: Path) -> None:
    odd = name_of(Path('with "quotes", and\nmore.png'))
    with ResultsFile(out) as results:
        header = out.read_bytes()
        results.add(NoAnswer("a.png", "x"), STAMP)
        whole = out.read_bytes()
        results.add(NoAnswer(odd, "two\nlines"), STAMP)
    last = out.read_bytes().removeprefix(whole)
    for length in range(len(last)):
        out.write_bytes(whole + last[:length])
        with ResultsFile(out) as results:
            assert (len(results), results.is_done("a.png", STAMP)) == (1, True)
        assert out.read_bytes() == whole
    for length in range(len(header)):
        out.write_bytes(header[:length])
        with ResultsFile(out) as results:
            assert len(results) == 0
        assert out.read_bytes() == header
    out.write_bytes(whole + last)
    with ResultsFile(out) as results:
        assert results.is_done(odd, STAMP)
        assert not results.is_done("a.png", STAMP._replace(mtime_ns=STAMP.mtime_ns + 1))


def test_what_a_spreadsheet_saved_is_taken(out: Path) -> None:
    with ResultsFile(out) as results:
        results.add(NoAnswer("a.png", "x"), STAMP)
    out.write_bytes(out.read_bytes().replace(b"\n", b"\r\n").replace(b'"', b""))
    with ResultsFile(out) as results:
        assert results.is_done("a.png", STAMP)
        results.add(NoAnswer("b.png", "x"), STAMP)
    assert errors(out) == ["x", "x"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("path,label\n", "has other columns"),
        ("a note of one line", "has other columns"),
        (",".join(COLUMNS) + "\nx.png,12,13\n", "line 2 is none of ours; was it edited"),
        (",".join(COLUMNS) + '\n"x.png\n', "line 2 is none of ours"),
    ],
)
def test_a_file_of_something_else_is_left_alone(out: Path, text: str, why: str) -> None:
    out.write_text(text)
    with pytest.raises(DataError, match=why):
        ResultsFile(out)
    assert out.read_text() == text


def test_results_that_are_removed_end_it(out: Path) -> None:
    with ResultsFile(out) as results:
        out.unlink()
        with pytest.raises(DataError, match="it was removed"):
            results.add(DENIED, STAMP)


@pytest.mark.parametrize("mtime_ns", [-(2**80), 0, 2**80])
def test_any_time_of_a_file_is_remembered(out: Path, mtime_ns: int) -> None:
    for is_new in (True, False):
        with ResultsFile(out) as results:
            assert results.is_done("a.png", Stamp(0, mtime_ns)) != is_new
            results.add(NoAnswer("a.png", "the file is empty"), Stamp(0, mtime_ns))
