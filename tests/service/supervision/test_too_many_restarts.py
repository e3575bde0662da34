"""Restarts that become too many, or cannot be made now: the service goes on slowly, unless it is told to give up."""

import socket
import time
from pathlib import Path

from service.server.guardian import processes_of
from service.supervision.supervisor import GAVE_UP, PORT_PAUSE_S
from tests.service.supervision.test_supervisor import Supervised
from tests.service.toy import build_folder as toy
from tests.service.toy.running import eventually, kill_process


def test_it_gives_up_after_too_many_restarts_where_it_is_told_to(tmp_path: Path) -> None:
    supervised = Supervised(toy.write(tmp_path / "build"), restart_limit=2, give_up=True)
    mark = supervised.launcher.mark
    # From now on no start succeeds.
    (supervised.build / "golden.npz").unlink()
    assert supervised.launcher.pid is not None
    kill_process(supervised.launcher.pid)
    supervised.thread.join(30)
    assert not supervised.thread.is_alive()
    assert supervised.code == GAVE_UP
    assert supervised.supervisor.counts == {"process": 1, "start": 2}
    assert any("gave up: 3 faults" in line and "golden.npz" in line for line in supervised.lines)
    assert processes_of(mark) == []


def test_it_goes_on_slowly_after_too_many_restarts(tmp_path: Path) -> None:
    supervised = Supervised(toy.write(tmp_path / "build"), restart_limit=1, restart_backoff_max_s=0.1)
    golden = supervised.build / "golden.npz"
    golden.rename(golden.with_suffix(".away"))
    assert supervised.launcher.pid is not None
    kill_process(supervised.launcher.pid)
    eventually(lambda: supervised.supervisor.counts["start"] >= 3)
    assert "golden.npz" in supervised.supervisor.degraded
    assert sum("degraded: 2 faults" in line for line in supervised.lines) == 1
    golden.with_suffix(".away").rename(golden)
    eventually(lambda: supervised.supervisor.ready)
    assert supervised.supervisor.degraded, "faults are as many as before"
    assert supervised.stop() == 0


def test_a_port_that_is_taken_during_a_restart_is_waited_for(tmp_path: Path) -> None:
    supervised = Supervised(toy.write(tmp_path / "build"), restart_limit=1)
    with socket.socket() as thief:

        def take(line: str) -> None:
            supervised.lines.append(line)
            if line.startswith("supervisor: restart"):
                thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                thief.bind(("127.0.0.1", supervised.supervisor.config.grpc_port))
                thief.listen()

        supervised.supervisor.sink = take
        assert supervised.launcher.pid is not None
        kill_process(supervised.launcher.pid)
        eventually(lambda: any("waiting: Port" in line for line in supervised.lines))
        assert "grpc_port" in supervised.supervisor.degraded
        time.sleep(2 * PORT_PAUSE_S)
        assert supervised.supervisor.counts == {"process": 1}, "a port that is taken is no fault of the server"
    eventually(lambda: supervised.supervisor.ready)
    eventually(lambda: not supervised.supervisor.degraded)
    assert sum("waiting: Port" in line for line in supervised.lines) == 1
    assert supervised.stop() == 0
