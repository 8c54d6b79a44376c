"""How the judges are tried: a core that is broken on purpose has to be found out in a few small histories."""

from __future__ import annotations

import pytest

from tests.sim import history
from tests.sim.checkers import Violation

TRIES = 60
SAFETY_MS = 60_000
LIVENESS_MS = 120_000


def found_out(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Play until a judge says `by` of the broken core; other verdicts on it don't count."""
    monkeypatch.setattr(history, "LIVENESS_MS", LIVENESS_MS)
    monkeypatch.setattr(history, "HUNG_MS", 0)
    verdicts = []
    for seed in range(1, TRIES + 1):
        try:
            history.play(seed, nodes=2 + seed % 5, safety_ms=SAFETY_MS)
        except Violation as violation:
            if by in str(violation):
                print(f"found out by seed {seed}: {violation}")
                return
            verdicts.append(str(violation))
    pytest.fail(f"not found out in {TRIES} histories: {verdicts}")
