"""How messages, bytes, memory and time grow from 10 nodes to 5,000, and what one Mosquitto carries of it.

    python benchmarks/scale.py --picture docs/scale.svg          # about five minutes
    python benchmarks/scale.py --nodes 10 100 1000 --no-broker   # the virtual cluster alone

The real core on the virtual bus, every message encoded as it would be on the wire; a master fed from the wire, for
its memory; a real Mosquitto with the shipped configuration. docs/scale.md says what it means.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable, Iterable
from math import sqrt
from pathlib import Path

import scale_broker
import scale_master
from loglog import Line, Panel, svg
from msgspec import Struct
from scale_blobs import blobs_of
from scale_cluster import Cluster, Traffic, seconds_of

NODES = (10, 30, 100, 300, 1_000, 2_000, 5_000)
MODELS = {"1.2 MB": 1_200_000, "100 MB": 100_000_000}
CLEAR_S = 60.0  # in which a model should have reached everyone
LINE_MB_S = 118.0  # of payload on a network of 1 Gb/s
SILENCE_S = 5.0  # that a burst may hold the beacons up: then the nodes give the master up
REPORTS_S = 0.1
KB, MB, GB = 1e3, 1e6, 1e9


class Size(Struct):
    """Everything measured of one cluster size."""

    nodes: int
    cpu_s: float
    wall_s: float
    idle: Traffic
    round: Traffic
    takeover: Traffic
    master: scale_master.Figures


def measure(nodes: int) -> Size:
    cpu_s, wall_s = seconds_of(nodes)
    print(f"{nodes} nodes: a virtual minute takes {cpu_s:.1f} s of processor time, {wall_s:.1f} s in all", flush=True)
    cluster = Cluster(nodes)
    cluster.start()
    idle, round_ = cluster.idle(), cluster.round()
    return Size(nodes, cpu_s, wall_s, idle, round_, cluster.takeover(), scale_master.measure(nodes))


def table(title: str, sizes: list[Size], rows: dict[str, Callable[[Size], str]]) -> None:
    """Print a table in Markdown: a row for each cluster size."""
    print(f"\n**{title}**\n\n| nodes | {' | '.join(rows)} |\n|{'---:|' * (len(rows) + 1)}")
    for size in sizes:
        print(f"| {size.nodes:,} | {' | '.join(row(size) for row in rows.values())} |")


def figure(value: float) -> str:
    """Three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def at_rest(one: Traffic, *kinds: str) -> str:
    return figure(sum(one.delivered[kind] for kind in kinds) / one.seconds)


def moved(one: Traffic) -> int:
    """Bytes through the broker, in and out."""
    return one.bytes_in.total() + one.bytes_out.total()


def print_messages(sizes: list[Size]) -> None:
    table(
        "At rest, a second (messages delivered)",
        sizes,
        {
            "beats": lambda s: at_rest(s.idle, "beat"),
            "beacons": lambda s: at_rest(s.idle, "beacon"),
            "reports": lambda s: at_rest(s.idle, "report"),
            "KB through the broker": lambda s: figure(moved(s.idle) / s.idle.seconds / KB),
            "KB to the master": lambda s: figure(s.idle.masters_in / s.idle.seconds / KB),
            "KB from it": lambda s: figure(s.idle.masters_out / s.idle.seconds / KB),
            "simulated in, s": lambda s: f"{s.cpu_s:.1f}",
        },
    )
    table(
        "A round without its blobs (messages delivered)",
        sizes,
        {
            "virtual s": lambda s: f"{s.round.seconds:.0f}",
            "RoundOpen": lambda s: figure(s.round.delivered["open"] + s.round.delivered["reopen"]),
            "results": lambda s: figure(s.round.delivered["result"]),
            "RoundClosed": lambda s: figure(s.round.delivered["closed"]),
            "beacons": lambda s: figure(s.round.delivered["beacon"]),
            "beats": lambda s: figure(s.round.delivered["beat"]),
            "reports": lambda s: figure(s.round.delivered["report"]),
            "beacons published a second": lambda s: figure(s.round.published["beacon"] / s.round.seconds),
            "MB of RoundOpen": lambda s: figure((s.round.bytes_out["open"] + s.round.bytes_out["reopen"]) / MB),
            "MB of beacons": lambda s: figure(s.round.bytes_out["beacon"] / MB),
            "MB through the broker": lambda s: figure(moved(s.round) / MB),
        },
    )


def print_blobs(sizes: list[Size]) -> None:
    small, large = MODELS.values()
    table(
        "The blobs of a round (by arithmetic; an update is as large as the model)",
        sizes,
        {
            "receipt, KB": lambda s: figure(blobs_of(s.nodes, small).receipt / KB),
            "receipt to all, MB": lambda s: figure(blobs_of(s.nodes, small).receipts_out / MB),
            "1.2 MB model to all, GB": lambda s: figure(blobs_of(s.nodes, small).model_out / GB),
            "its updates to the master, GB": lambda s: figure(blobs_of(s.nodes, small).updates / GB),
            "all out of the broker, GB": lambda s: figure(blobs_of(s.nodes, small).out / GB),
            "the same with 100 MB, GB": lambda s: figure(blobs_of(s.nodes, large).out / GB),
        },
    )


def print_master(sizes: list[Size]) -> None:
    table(
        "The master, and one worker",
        sizes,
        {
            "MB at rest": lambda s: figure(s.master.idle_bytes / MB),
            "more in a round": lambda s: figure(s.master.round_bytes / MB),
            "KB a node": lambda s: figure((s.master.idle_bytes + s.master.round_bytes) / s.nodes / KB),
            "a worker's, KB": lambda s: figure(s.master.worker_bytes / KB),
            "RoundOpen, bytes": lambda s: figure(s.master.open_bytes),
            "µs a beat": lambda s: figure(s.master.times.beat_us),
            "µs a report": lambda s: figure(s.master.times.report_us),
            "µs a result": lambda s: figure(s.master.times.result_us),
            "ms a look": lambda s: figure(s.master.times.look_ms),
        },
    )
    table(
        "The master is killed in a round: the first 5 s",
        sizes,
        {
            "Gone": lambda s: figure(s.takeover.delivered["gone"]),
            "reports": lambda s: figure(s.takeover.delivered["report"]),
            "KB of reports": lambda s: figure(s.takeover.bytes_out["report"] / KB),
            "RoundOpen": lambda s: figure(s.takeover.delivered["open"] + s.takeover.delivered["reopen"]),
            "all": lambda s: figure(s.takeover.delivered.total()),
            "MB through the broker": lambda s: figure(moved(s.takeover) / MB),
        },
    )


def brokers_nodes(broker: scale_broker.Figures) -> float:
    """Nodes whose heartbeats, beacons and reports fill one core of the broker."""
    return 1 / (1 / broker.beats.deliveries + (1 + REPORTS_S) / broker.beacons.deliveries)


def masters_nodes(broker: scale_broker.Figures, beat_us: float) -> float:
    """Nodes whose heartbeats and reports fill one core of the master."""
    return 1e6 / ((1 + REPORTS_S) * (broker.link_beat_us + beat_us))


def print_broker(broker: scale_broker.Figures, beat_us: float) -> None:
    """What was measured, and the number of nodes at which each ends."""
    print("\n**One Mosquitto, a second of its processor**\n\n| | deliveries | MB out |\n|---|---:|---:|")
    for name, rate in (
        ("beats (QoS 0) to one reader", broker.beats),
        (f"beacons (QoS 1) to {scale_broker.READERS} readers", broker.beacons),
        (f"RoundOpen of 5,000 nodes to {scale_broker.READERS} readers", broker.opens),
        (f"chunks of 192 KiB to {scale_broker.CHUNK_READERS} readers", broker.broadcast),
        ("chunks of 192 KiB to one reader", broker.piece),
    ):
        print(f"| {name} | {rate.deliveries:,.0f} | {rate.megabytes:,.0f} |")
    came = f"{broker.burst_came:,} of {scale_broker.BURST:,}"
    for name, text in {
        "connections that the shipped configuration takes": f"{broker.connections:,}",
        "memory for one more node, KB": figure(broker.node_kb),
        "processor time to connect one more node, ms": figure(broker.node_connect_ms),
        "a master's link, µs a beat": figure(broker.link_beat_us),
        "a master's link, µs a chunk of 192 KiB": figure(broker.link_piece_us),
        "reports, sent at once, that reached the master": came,
    }.items():
        print(f"- {name}: {text}")
    print("\n**Where it ends**\n\n| | nodes |\n|---|---:|")
    ends = {
        "connections of the shipped configuration": broker.connections / 2,
        "broker: beats, beacons, reports": brokers_nodes(broker),
        "master: beats and reports": masters_nodes(broker, beat_us),
        f"broker: RoundOpen to all within {SILENCE_S:.0f} s": sqrt(SILENCE_S * broker.opens.deliveries * 5_000),
    }
    for name, size in MODELS.items():
        both = 2 * size  # the model out to a node, its update on to the master
        ends[f"broker: {name} to all and back in {CLEAR_S:.0f} s"] = CLEAR_S * broker.broadcast.megabytes * MB / both
        ends[f"a broker's line of 1 Gb/s: the same with {name}"] = CLEAR_S * LINE_MB_S * MB / both
    for name, nodes in ends.items():
        print(f"| {name} | {nodes:,.0f} |")


def picture(sizes: list[Size], broker: scale_broker.Figures | None) -> str:
    def line(name: str, of: Callable[[Size], float]) -> Line:
        return Line(name, [(s.nodes, of(s)) for s in sizes])

    def ceiling(name: str, value: float) -> Line:
        return Line(name, [(s.nodes, value) for s in sizes], ceiling=True)

    small, large = MODELS.values()
    messages = [
        line("all, in a round", lambda s: s.round.delivered.total() / s.round.seconds),
        line("all, at rest", lambda s: s.idle.delivered.total() / s.idle.seconds),
        line("to the master, at rest", lambda s: s.idle.delivered["beat"] / s.idle.seconds),
    ]
    volumes = [
        line("blobs, 100 MB model", lambda s: blobs_of(s.nodes, large).out / MB),
        line("blobs, 1.2 MB model", lambda s: blobs_of(s.nodes, small).out / MB),
        line("receipts", lambda s: blobs_of(s.nodes, small).receipts_out / MB),
        line("messages", lambda s: s.round.bytes_out.total() / MB),
        line("RoundOpen", lambda s: s.round.bytes_out["open"] / MB),
        ceiling("1 Gb/s in 60 s", LINE_MB_S * CLEAR_S),
    ]
    if broker is not None:
        messages.append(ceiling("one Mosquitto", broker.beacons.deliveries))
        messages.append(ceiling("one master", masters_nodes(broker, sizes[-1].master.times.beat_us)))
        volumes.append(ceiling("one Mosquitto in 60 s", broker.broadcast.megabytes * CLEAR_S))
    return svg(
        [
            Panel("messages delivered a second", "nodes", messages),
            Panel("MB out of the broker a round", "nodes", volumes),
        ]
    )


def show(sizes: list[Size], broker: scale_broker.Figures | None) -> None:
    for part in (print_messages, print_blobs, print_master):
        part(sizes)
    if broker is not None:
        print_broker(broker, sizes[-1].master.times.beat_us)


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=list(NODES), help="cluster sizes, ascending, 2 or more")
    parser.add_argument("--no-broker", action="store_true", help="measure no real Mosquitto")
    parser.add_argument("--picture", type=Path, help="write the picture there (SVG)")
    options = parser.parse_args(list(arguments) if arguments is not None else None)
    if min(options.nodes) < 2:
        parser.error("a cluster has at least 2 nodes here: one of them leads")
    gc.disable()  # a third of the time at 5,000 nodes goes into looking for cycles; there are none
    broker = None if options.no_broker else scale_broker.measure()
    sizes = [measure(nodes) for nodes in options.nodes]
    show(sizes, broker)
    if options.picture is not None:
        options.picture.write_text(picture(sizes, broker))


if __name__ == "__main__":
    main()
