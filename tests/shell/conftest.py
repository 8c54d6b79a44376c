"""One broker for the tests of a module that don't stop it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pneumod.demo.cluster import Broker
from tests.shell.parts import new_broker, serving


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with serving(new_broker(tmp_path_factory.mktemp("broker"))) as broker:
        yield broker
