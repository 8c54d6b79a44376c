"""An MQTT 5 broker on loopback, in a child process: for the demo and for development.

It is rumqttd, by way of `iotcore`: no access control, no TLS. A lab runs Mosquitto (broker/mosquitto.conf).
"""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from iotcore import Broker

from pneumod.errors import BusError

HOST = "127.0.0.1"
MAX_PAYLOAD_BYTES = 512 * 1024  # twice the largest packet of ours; rumqttd's own default is 20 KiB

# rumqttd keeps the last segments of each subscribed filter in memory, for slow readers: here at most 64 MiB a filter.
TOML = """\
id = 0

[router]
id = 0
max_connections = 1000
max_outgoing_packet_count = 1000
max_segment_size = 16777216
max_segment_count = 4

[v5.1]
name = "pneumod"
listen = "{host}:{port}"
next_connection_delay_ms = 1

[v5.1.connections]
connection_timeout_ms = 5000
max_payload_size = {max_payload_bytes}
max_inflight_count = 100
dynamic_filters = true
"""


def free_port() -> int:
    """A TCP port of loopback on which nothing listens."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


class EmbeddedBroker:
    """A broker that accepts connections from `start` to `stop`. It dies with this process, however that ends.

    Args:
        port: to listen on; None takes a free one.
    """

    def __init__(self, port: int | None = None) -> None:
        self.port = free_port() if port is None else port
        self._broker: Broker | None = None

    def start(self) -> None:
        """Start the child process and wait until it accepts connections, about 0.1 s.

        Raises:
            BusError: the port is in use, or the broker didn't start.
        """
        with tempfile.TemporaryDirectory(prefix="pneumod-broker-") as folder:
            path = Path(folder) / "rumqttd.toml"
            path.write_text(TOML.format(host=HOST, port=self.port, max_payload_bytes=MAX_PAYLOAD_BYTES))
            broker = Broker(config_path=str(path))
            try:
                broker.start()
            except OSError as error:
                raise BusError(f"port {self.port} of {HOST} is in use; choose another with --port") from error
            except RuntimeError as error:
                raise BusError(f"the embedded broker: {error}") from error
        self._broker = broker

    def stop(self) -> None:
        """Stop the broker and free its port; without effect when it isn't running."""
        if self._broker is not None:
            self._broker.stop()
            self._broker = None

    @property
    def is_running(self) -> bool:
        return self._broker is not None and self._broker.is_running

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
