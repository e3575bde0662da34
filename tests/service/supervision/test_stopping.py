"""From the moment that a stop is asked for the service says not ready, though calls are answered still."""

from pathlib import Path

import pytest

from auralsam2_client.calls.client import Client
from service.container import healthcheck
from service.server.launcher import Launcher
from service.server.serving import free_ports
from service.supervision.exporter import Exporter
from service.supervision.supervisor import Supervisor
from tests.service.toy import build_folder as toy
from tests.service.toy.running import toy_config


def test_a_stop_shuts_the_door_before_it_drains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (exporter_port,) = free_ports(1)
    config = toy_config(toy.write(tmp_path / "build"), exporter_port=exporter_port)
    supervisor = Supervisor(config, sink=lambda line: None)
    # A server that says ready for as long as it lives, as the real one does.
    supervisor.launcher = Launcher(config, sink=lambda line: None)
    supervisor.launcher.ready = True
    monkeypatch.setattr(Client, "is_ready", lambda client, timeout_s: True)
    monkeypatch.setenv("AURALSAM2_EXPORTER_PORT", str(exporter_port))
    with Exporter(supervisor):
        assert supervisor.ready
        assert healthcheck.main() == 0
        supervisor.request_stop()
        assert not supervisor.ready
        assert healthcheck.main() == 1
    # No page: nobody who watches the server.
    assert healthcheck.main() == 1
