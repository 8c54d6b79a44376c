"""Many real daemons on one real Mosquitto on this machine, with a trainer that trains nothing.

    python benchmarks/load.py                                                # 5, then 50 nodes; 20 rounds
    python benchmarks/load.py --nodes 4 --rounds 3 --parameters 25000000     # a model of 100 MB

Prints rounds a second, memory of the master and its children, processor time of idle daemons, the longest
silence of every node and of the master while the rounds run, messages dropped, and bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from statistics import median

import aiomqtt
from load_cluster import Cluster, cpu_s, memory_bytes

from pneumod.broker.embedded import HOST
from pneumod.client import Operator, operator
from pneumod.settings import RunSettings
from pneumod.view import ClusterView

MB = 1e6
BEAT_S = 1.0
START_S = 300.0
RUN_S = 3600.0
BROKER_FIGURES_S = 12.0  # Mosquitto tells them every 10 s
DROPPED_TOPIC = "$SYS/broker/publish/messages/dropped"
MASTER = 1
Table = dict[str, str]


class Silences:
    """The longest time without a beat of each node, and without a beacon, by this watcher's clock."""

    def __init__(self, view: ClusterView) -> None:
        self.view = view
        self.beats_s: dict[int, float] = {}
        self.beacon_s = 0.0
        self.terms = {view.term}
        self._heard = {node: one.beat_at_s for node, one in view.nodes.items()}
        self._beacon_at_s = view.beacon_at_s

    def look(self) -> None:
        """To be called after every message."""
        for node, one in self.view.nodes.items():
            if (before := self._heard.get(node, one.beat_at_s)) != one.beat_at_s:
                self.beats_s[node] = max(self.beats_s.get(node, 0.0), one.beat_at_s - before)
            self._heard[node] = one.beat_at_s
        self.beacon_s = max(self.beacon_s, self.view.beacon_at_s - self._beacon_at_s)
        self._beacon_at_s = self.view.beacon_at_s
        self.terms.add(self.view.term)


def dropped(view: ClusterView) -> int:
    return sum(one.beat.dropped for one in view.nodes.values() if one.beat is not None)


def traffic_bytes(view: ClusterView, node: int) -> tuple[int, int]:
    """What a node sent and received since its start."""
    beat = view.nodes[node].beat
    assert beat is not None
    return beat.sent_bytes, beat.received_bytes


class BrokerDrops:
    """How many messages the broker dropped, as it tells every 10 s when the number has changed."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.count = 0

    async def follow(self) -> None:
        async with aiomqtt.Client(HOST, self.port) as client:
            await client.subscribe(DROPPED_TOPIC)
            async for message in client.messages:
                self.count = int(bytes(message.payload))


async def all_ready(watcher: Operator, nodes: int) -> None:
    def ready(view: ClusterView) -> bool:
        now_s = time.monotonic()
        beats = [one.beat for one in view.nodes.values() if one.is_live(now_s)]
        idle = sum(beat is not None and beat.activity == "idle" for beat in beats)
        return idle == nodes and view.master(now_s) == MASTER and view.beacon is not None and view.beacon.live == nodes

    if not await watcher.until(ready, START_S):
        raise SystemExit(f"the {nodes} daemons did not come up in {START_S:.0f} s")


async def idle_cpu(cluster: Cluster, idle_s: float) -> Table:
    """The share of a core that daemons without a run take."""
    before = {node: cpu_s(daemon.pid) for node, daemon in cluster.daemons.items()}
    started_s = time.monotonic()
    await asyncio.sleep(idle_s)
    spent_s = time.monotonic() - started_s
    shares = {node: 100 * (cpu_s(daemon.pid) - before[node]) / spent_s for node, daemon in cluster.daemons.items()}
    workers = [share for node, share in shares.items() if node != MASTER]
    return {
        "CPU of an idle worker, % of a core (median)": f"{median(workers):.2f}",
        "the same, the highest": f"{max(workers):.2f}",
        "CPU of the idle master": f"{shares[MASTER]:.2f}",
    }


async def run_rounds(cluster: Cluster, watcher: Operator, rounds: int, told: Silences) -> Table:
    """Start a run, wait for its end; how long its rounds took, and how the master's memory grew meanwhile."""
    settings = RunSettings(rounds=rounds, patience=rounds + 1, min_nodes=len(cluster.nodes))
    before = {node: traffic_bytes(watcher.view, node) for node in cluster.nodes}
    run = await watcher.request_run(settings)
    shown, first_at_s = -1, time.monotonic()

    def ended(view: ClusterView) -> bool:
        nonlocal shown, first_at_s
        closed = view.closed
        if closed is not None and closed.run == run and closed.round > shown:
            shown = closed.round
            print(f"  round {shown} at {time.monotonic() - first_at_s:.1f} s", flush=True)
            first_at_s = time.monotonic() if shown == 0 else first_at_s
        return closed is not None and closed.run == run and closed.ended is not None

    if not await watcher.until(ended, RUN_S):
        raise SystemExit(f"the run did not end in {RUN_S:.0f} s")
    spent_s = time.monotonic() - first_at_s
    closed = watcher.view.closed
    assert closed is not None
    counted = [one.summary.counted for one in watcher.view.rounds.values() if one.summary is not None]
    await asyncio.sleep(2 * BEAT_S)  # the last figures
    moved = {node: traffic_bytes(watcher.view, node) for node in cluster.nodes}
    sent, received = (sum(moved[n][i] - before[n][i] for n in cluster.nodes) / (rounds + 1) / MB for i in (0, 1))
    return {
        "how the run ended": str(closed.ended),
        "updates that counted, the fewest in a round": str(min(counted)),
        "rounds a second": f"{(rounds + 1) / spent_s:.3f}",
        "MB sent a round, all nodes": f"{sent:.1f}",
        "MB received a round, all nodes": f"{received:.1f}",
        "longest time between two beats of a node, s": f"{max(told.beats_s.values()):.2f}",
        "longest time between two beacons, s": f"{told.beacon_s:.2f}",
        "takeovers": str(len(told.terms) - 1),
    }


def memory(cluster: Cluster) -> Table:
    """Resident memory of processes in MB: at its peak, and now."""
    pids = {"the master": cluster.daemons[MASTER].pid}
    pids |= {f"its {module.rpartition('.')[2]}": pid for module, pid in cluster.children(MASTER).items()}
    pids["a worker"] = cluster.daemons[cluster.nodes[-1]].pid
    figures = {name: memory_bytes(pid) for name, pid in pids.items()}
    return {
        f"memory of {name}, MB (peak)": f"{now / MB:.0f} ({peak / MB:.0f})" for name, (now, peak) in figures.items()
    }


async def measure(cluster: Cluster, rounds: int, idle_s: float) -> Table:
    nodes, drops = len(cluster.nodes), BrokerDrops(cluster.broker.port)
    following = asyncio.create_task(drops.follow())
    async with operator(cluster.config(MASTER), "run", "load") as watcher:
        told = Silences(watcher.view)
        async with watcher.following(lambda: told.look()):
            await all_ready(watcher, nodes)
            print(f"{nodes} daemons are ready; {idle_s:.0f} s of nothing", flush=True)
            table = await idle_cpu(cluster, idle_s)
            told = Silences(watcher.view)
            table |= await run_rounds(cluster, watcher, rounds, told)
            table |= memory(cluster)
            await asyncio.sleep(BROKER_FIGURES_S)
            table["messages dropped by the daemons"] = str(dropped(watcher.view))
            table["messages dropped by the broker"] = str(drops.count)
    following.cancel()
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[5, 50])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--parameters", type=int, default=300_000)
    parser.add_argument("--idle", type=float, default=20.0, help="seconds of nothing, to measure idle daemons")
    arguments = parser.parse_args()
    tables = []
    for nodes in arguments.nodes:
        print(f"starting {nodes} daemons", flush=True)
        with (
            tempfile.TemporaryDirectory(prefix="pneumod-load-") as folder,
            Cluster(Path(folder), nodes, arguments.parameters) as cluster,
        ):
            tables.append(asyncio.run(measure(cluster, arguments.rounds, arguments.idle)))
    print(f"\n{arguments.parameters:,} parameters, {arguments.rounds} rounds")
    print(f"{'nodes':52}" + "".join(f"{nodes:>20}" for nodes in arguments.nodes))
    for name in tables[0]:
        print(f"{name:52}" + "".join(f"{table.get(name, ''):>20}" for table in tables))


if __name__ == "__main__":
    main()
