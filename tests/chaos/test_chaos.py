"""The scenarios as tests: the short form always, all of them with --chaos (or `make chaos`)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.catalog import CATALOG, Theatre
from tests.chaos.figures import figures_frozen, figures_killed

FIGURES = {figures_killed, figures_frozen}  # they take minutes, and tell nothing else than the others

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def theatre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Theatre]:
    with Theatre(tmp_path_factory.mktemp("chaos")) as stage:
        yield stage


@pytest.mark.parametrize("name", [name for name, one in CATALOG.items() if one.play not in FIGURES])
def test_nothing_is_lost_and_nothing_done_twice(name: str, theatre: Theatre, request: pytest.FixtureRequest) -> None:
    one = CATALOG[name]
    if not one.short and not request.config.getoption("--chaos"):
        pytest.skip("not in the short form: pytest --chaos, or make chaos")
    why = one.unplayable()
    if why:
        pytest.skip(why)
    theatre.play(one)
