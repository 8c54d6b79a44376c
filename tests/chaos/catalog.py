"""All scenarios: importing this module fills the catalog."""

from __future__ import annotations

from tests.chaos import brokers, disks, figures, masters, operators, workers
from tests.chaos.scenario import CATALOG, Scenario, Theatre

__all__ = ["CATALOG", "Scenario", "Theatre", "brokers", "disks", "figures", "masters", "operators", "workers"]
