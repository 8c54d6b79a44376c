"""What `pneumod predict` says of one image: in words, as JSON, as a line of CSV."""

from __future__ import annotations

import csv
import io
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple, Self, TextIO, get_args

import msgspec
from msgspec import Struct

from pneumod import RESEARCH_ONLY
from pneumod.errors import ConfigError, DataError
from pneumod.imagefile import is_dicom_file
from pneumod.learning import sanity
from pneumod.learning.card import ModelCard
from pneumod.parcel import Answer

Label = Literal["NORMAL", "PNEUMONIA"]

FORMULA = ("=", "+", "-", "@")  # what begins so, a spreadsheet computes
FIELDS = ("path", "label", "probability", "threshold", "model", "warnings", "error", "about", "notice")


class Terms(NamedTuple):
    """How answers are judged: the same for all images of a command."""

    card: ModelCard
    threshold: float  # of the probability, in [0, 1], from which on the label is PNEUMONIA
    abstain: bool  # whether a doubtful image gets no answer


class Result(Struct, frozen=True):
    """An image and its answer. Probability and threshold are of pneumonia, in [0, 1]."""

    path: str
    label: Label
    probability: float
    threshold: float
    model: str
    warnings: tuple[str, ...]  # why the answer may be worth little
    about: str | None  # what the model was trained on
    notice: str = RESEARCH_ONLY


class NoAnswer(Struct, frozen=True, omit_defaults=True):
    """An image without an answer, and why."""

    path: str
    error: str
    abstained: bool = False  # it could be read, and is doubtful


def name_of(path: Path) -> str:
    """A path for a line, of printable characters only; no two paths have the same.

    One that a spreadsheet would take for a formula begins with `./`, which names the same file.

    Bytes that aren't UTF-8, and characters that can't be printed, become escapes as Python writes them; so that these
    can be told from a name's own characters, a backslash is doubled.
    """
    text = os.fsencode(path).replace(b"\\", b"\\\\").decode(errors="backslashreplace")
    if text.startswith(FORMULA):
        text = f"./{text}"
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def result_of(path: Path, answer: Answer | str, terms: Terms, age_years: float | None = None) -> Result | NoAnswer:
    """What is said of an image.

    Args:
        answer: what came of it; a text is the reason why it was set aside.
        age_years: of the patient, where the file tells; it decides about a warning, and is never shown.
    """
    name = name_of(path)
    if isinstance(answer, str):
        return NoAnswer(name, answer)
    assert answer.probability is not None
    card = terms.card
    doubts = sanity.warnings(answer.facts, card, answer.distance, age_years)
    if doubts and terms.abstain:
        return NoAnswer(name, f"no answer: {'; '.join(doubts)}", abstained=True)
    return Result(
        path=name,
        label="PNEUMONIA" if answer.probability >= terms.threshold else "NORMAL",
        probability=answer.probability,
        threshold=terms.threshold,
        model=card.name,
        warnings=(*(["the model is provisional"] if card.status == "provisional" else []), *doubts),
        about=card.about,
    )


def age_years(path: Path, terms: Terms) -> float | None:
    """Of the patient, where the model's card tells ages and the file is a DICOM file that tells one."""
    if terms.card.ages_years is None or not is_dicom_file(path):
        return None
    from pneumod.images import dicom

    return dicom.age_years(path)


def as_words(result: Result | NoAnswer) -> str:
    if isinstance(result, NoAnswer):
        return f"{result.path}: {result.error}"
    warnings = "".join(f"; {warning}" for warning in result.warnings)
    return (
        f"{result.path}: {result.label}, probability of pneumonia {result.probability:.3f} "
        f"(threshold {result.threshold:.3f}, model {result.model}{warnings})"
    )


def notices(card: ModelCard) -> list[str]:
    """What is said once beside all results of a model."""
    return [*([f"The model was trained on: {card.about}"] if card.about else []), RESEARCH_ONLY]


def as_json(result: Result | NoAnswer) -> str:
    return msgspec.json.encode(result).decode()


def as_row(result: Result | NoAnswer) -> tuple[str, ...]:
    """The values of FIELDS."""
    if isinstance(result, NoAnswer):
        return (result.path, *[""] * 5, result.error, "", "")
    numbers = f"{result.probability:.6f}", f"{result.threshold:.6f}"
    more = "; ".join(result.warnings), "", _as_text(result.about or ""), result.notice
    return (result.path, result.label, *numbers, _as_text(result.model), *more)


def _as_text(value: str) -> str:
    """What a spreadsheet shows as it is: a text of a model's card may begin like a formula."""
    return f"'{value}" if value.startswith(FORMULA) else value


def csv_line(values: Iterable[str]) -> str:
    """One line of CSV, with its end; no value has a line's end in it."""
    text = io.StringIO()
    cells = [" ".join(value.splitlines()) for value in values]
    # Quoted, a value with a semicolon stays one cell also where spreadsheets separate by semicolons.
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerow(cells)
    return text.getvalue()


class Tally:
    """How many images had which end."""

    def __init__(self) -> None:
        self.images = self.failed = self.abstained = 0
        self.labels = dict.fromkeys(get_args(Label), 0)
        self._started_s = time.monotonic()

    def add(self, result: Result | NoAnswer) -> None:
        self.images += 1
        if isinstance(result, Result):
            self.labels[result.label] += 1
        elif result.abstained:
            self.abstained += 1
        else:
            self.failed += 1

    @property
    def exit_code(self) -> int:
        """0: all were answered; 1: some could not be read; 3: all could, and doubtful ones got no answer."""
        return 1 if self.failed else 3 if self.abstained else 0

    def brief(self) -> str:
        """How fast."""
        return f"{self.images / max(time.monotonic() - self._started_s, 1e-3):,.0f} images/s"

    def __str__(self) -> str:
        parts = [f"{count:,} {label}" for label, count in self.labels.items()]
        parts += [f"{self.abstained:,} without an answer"] if self.abstained else []
        parts += [f"{self.failed:,} failed"] if self.failed else []
        return f"{self.images:,} images: {', '.join(parts)}"


class Output:
    """Where results go, each as it comes: a line on standard output, and one in a CSV file where that is asked for."""

    def __init__(self, json: bool, csv_path: Path | None) -> None:
        """
        Args:
            csv_path: of a file that is written anew; `-` is standard output. With it, words are left out.

        Raises:
            ConfigError: JSON and CSV would be mixed.
            DataError: the file can't be written, or holds something else.
        """
        stdout = csv_path is not None and str(csv_path) == "-"
        if json and stdout:
            raise ConfigError("--json and --csv - would be mixed on standard output; name a file for the CSV")
        self._line = as_json if json else as_words if csv_path is None else None
        self._path = csv_path
        self._file: TextIO | None = None
        if csv_path is not None:
            self._file = sys.stdout if stdout else _csv_file(csv_path)
            self._write(self._file, csv_line(FIELDS))

    @property
    def on_terminal(self) -> bool:
        """Whether the results themselves show on a terminal how far it is."""
        return sys.stdout.isatty() and (self._line is not None or self._file is sys.stdout)

    def write(self, result: Result | NoAnswer) -> None:
        """Raises DataError where the results can't be written."""
        if self._line is not None:
            self._write(sys.stdout, self._line(result) + "\n")
        if self._file is not None:
            self._write(self._file, csv_line(as_row(result)))

    def _write(self, file: TextIO, line: str) -> None:
        try:
            file.write(line)
            file.flush()
        except BrokenPipeError:  # of a reader that has gone, as in `pneumod predict … | head`
            raise
        except OSError as error:
            name = "standard output" if file is sys.stdout else self._path
            raise DataError(f"{name}: can't be written: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None and self._file is not sys.stdout:
            self._file.close()


def _csv_file(path: Path) -> TextIO:
    """A file for new results. Only earlier results make place: `--csv *.jpg` would name an X-ray."""
    try:
        if path.is_file() and path.stat().st_size > 0:
            with path.open("rb") as file:
                if file.readline(1024) != csv_line(FIELDS).encode():
                    raise DataError(f"{path}: it holds something else than results; name another file with --csv")
        return path.open("w", encoding="utf-8", newline="")
    except OSError as error:
        raise DataError(f"{path}: can't be written: {error.strerror}") from error
