"""Fixtures that many tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def cxr() -> Path:
    """The folder of real chest X-rays; tests that need it are skipped where PNEUMOD_CXR isn't set."""
    folder = os.environ.get("PNEUMOD_CXR")
    if not folder:
        pytest.skip("real chest X-rays: PNEUMOD_CXR is not set")
    return Path(folder)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="write what happens into the scripts of tests/core/scripts")
