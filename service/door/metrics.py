"""What Prometheus reads of the door: calls by method and status, bytes, connections, and how often it was started."""

import http.client
import re
import socket
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from service.door.configuration import STATUS_PATH
from service.door.front_door import FrontDoor

_ACTIVE = re.compile(r"Active connections: (\d+)")
_HANDLED = re.compile(r"^ *\d+ +(\d+) +\d+ *$", re.MULTILINE)
TIMEOUT_S = 2.0


def door_metrics(door: FrontDoor | None) -> Iterator[Metric]:
    """Yield the door's families of metrics; none where there is no door."""
    if door is None:
        return
    yield GaugeMetricFamily(
        "auralsam2_door_open", "Whether the front door lets calls in", value=int(door.is_open and not door.trouble)
    )
    yield CounterMetricFamily("auralsam2_door_restarts", "Starts of a door that had ended", value=door.num_restarts)
    counted, sums = door.calls.counts()
    calls = CounterMetricFamily(
        "auralsam2_door_calls", "Calls by method and gRPC's status", labels=["method", "grpc_status"]
    )
    for (method, status), number in sorted(counted.items()):
        calls.add_metric([method, status], number)
    yield calls
    yield CounterMetricFamily(
        "auralsam2_door_received_bytes", "Bytes of requests at the door", value=sums["bytes_received"]
    )
    yield CounterMetricFamily("auralsam2_door_sent_bytes", "Bytes of answers at the door", value=sums["bytes_sent"])
    yield CounterMetricFamily(
        "auralsam2_door_call_seconds", "Seconds of calls, from request to answer", value=sums["milliseconds"] / 1e3
    )
    text = read_status(door.status_socket)
    active, handled = _ACTIVE.search(text), _HANDLED.search(text)
    if active and handled:
        yield GaugeMetricFamily("auralsam2_door_connections", "Open connections", value=int(active[1]))
        yield CounterMetricFamily(
            "auralsam2_door_accepted_connections", "Connections since nginx was started", value=int(handled[1])
        )


def read_status(path: Path) -> str:
    """Read nginx's own page from its socket; "" where nobody answers."""
    connection = http.client.HTTPConnection("door", timeout=TIMEOUT_S)
    try:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(TIMEOUT_S)
        connection.sock.connect(str(path))
        connection.request("GET", STATUS_PATH)
        return connection.getresponse().read(4096).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()
