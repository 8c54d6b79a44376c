"""The power fails; the broker stops, forgets, or stays away."""

from __future__ import annotations

import asyncio

from tests.chaos.scenario import scenario
from tests.chaos.stage import Stage

AWAY_S = 30.0


@scenario(short=True)
async def power_cut(stage: Stage) -> None:
    """Every process and the broker die at once; started again, the run goes on where it stood."""
    await stage.begin()
    await stage.collecting(2)
    for node in stage.cluster.nodes:
        stage.cluster.kill(node)
    stage.cluster.mosquitto.kill()
    stage.cluster.mosquitto.start()
    for node in stage.cluster.nodes:
        stage.cluster.start(node)
    await stage.end()
    assert not [one for _, one in stage.watch.opened[1:] if one.run == stage.run and one.round == 1], "round 1 again"


@scenario()
async def broker_away(stage: Stage) -> None:
    """The broker stops for 30 s in the middle of a round."""
    await stage.begin()
    await stage.opened(2)
    stage.cluster.mosquitto.stop()
    await asyncio.sleep(AWAY_S)
    stage.cluster.mosquitto.start()
    await stage.end()


@scenario(short=True)
async def broker_forgets(stage: Stage) -> None:
    """The broker dies and comes back without its retained messages and sessions."""
    await stage.begin()
    await stage.collecting(1)
    stage.cluster.mosquitto.kill()
    stage.cluster.mosquitto.forget()
    stage.cluster.mosquitto.start()
    await stage.end()


@scenario(spare=True)
async def second_broker(stage: Stage) -> None:
    """The first broker stays away: all take the second and go on; they return when the first is back."""
    assert stage.cluster.spare is not None
    stage.cluster.spare.start()
    await stage.begin(rounds=2)
    await stage.collecting(1)
    stage.cluster.mosquitto.kill()
    await stage.end(limit_s=240)
    for node in stage.cluster.nodes:
        assert f"{stage.cluster.spare.port}" in _connected(stage, node), f"node {node} is not on the second broker"
    stage.cluster.mosquitto.start()

    def back() -> bool:
        return all(f"{stage.cluster.mosquitto.port}" in _connected(stage, node) for node in stage.cluster.nodes)

    await stage.until(back, 120, "all are on the first broker again")
    stage.cluster.spare.stop()
    await stage.begin(rounds=1)
    await stage.end()


def _connected(stage: Stage, node: int) -> str:
    """The last line in which a node says that it is connected."""
    return [line for line in stage.cluster.log(node).splitlines() if "connected to the broker at" in line][-1]
