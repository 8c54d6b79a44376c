"""`pneumod broker`: the embedded broker in the foreground, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import signal

from pneumod.broker.embedded import HOST, EmbeddedBroker
from pneumod.errors import BusError


def run(args: argparse.Namespace) -> int:
    with EmbeddedBroker(args.port) as broker:
        # Blocked only now: a child inherits the mask, and must itself obey SIGTERM.
        awaited = {signal.SIGINT, signal.SIGTERM, signal.SIGCHLD}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
        try:
            print(f"MQTT broker on {HOST}:{broker.port}, for this machine only; Ctrl-C stops it.", flush=True)
            if broker.is_running:
                signal.sigwait(awaited)
            if not broker.is_running:
                raise BusError("the embedded broker ended by itself")
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return 0
