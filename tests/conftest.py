"""Fixtures that many tests share."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from pneumod.logs import Component


@pytest.fixture(autouse=True)
def logging_stays_as_it_was() -> Iterator[None]:
    """A command that is run in this process sets up logging for the whole of it: undo that."""
    loggers = [logging.getLogger(name) for name in ("pneumod", *(f"pneumod.{part}" for part in get_args(Component)))]
    before = [(logger, logger.handlers[:], logger.propagate, logger.level) for logger in loggers]
    yield
    for logger, handlers, propagate, level in before:
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture(scope="session")
def cxr() -> Path:
    """The folder of real chest X-rays; tests that need it are skipped where PNEUMOD_CXR isn't set."""
    folder = os.environ.get("PNEUMOD_CXR")
    if not folder:
        pytest.skip("real chest X-rays: PNEUMOD_CXR is not set")
    return Path(folder)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="write what happens into the scripts of tests/core/scripts")
    parser.addoption("--chaos", action="store_true", help="play all scenarios of tests/chaos, not only the short form")
