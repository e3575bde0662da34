"""Prometheus for a server of this machine: the shipped configuration, with this machine's ports as its targets.

python -m service.monitoring.local            # until Ctrl-C; http://127.0.0.1:9090
python -m service.monitoring.local --target 127.0.0.1:8003 --target 10.0.0.2:8003 --port 9091
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import service.monitoring
from auralsam2_client.calls.address import MAX_PORT, parse_address
from auralsam2_client.errors import BadInput, ConfigError
from auralsam2_client.new_file import write_new

FOLDER = Path(service.monitoring.__file__).parent
COPIED = ("recording_rules.yml", "alert_rules.yml")


def write_configuration(folder: Path, targets: Sequence[str], *, scrape_interval: str | None = None) -> Path:
    """Write prometheus.yml, the rules and targets.json into `folder`; return the path of prometheus.yml.

    Args:
        targets: host:port of supervisors' pages.
        scrape_interval: as "1s"; None is the shipped one. Rules are evaluated as often.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        write_new(folder / name, (FOLDER / name).read_text())
    text = (FOLDER / "prometheus.yml").read_text()
    if scrape_interval is not None:
        shipped = ("scrape_interval: 5s", "scrape_timeout: 4s", "evaluation_interval: 5s")
        for line in shipped:
            assert line in text, line
            text = text.replace(line, f"{line.partition(':')[0]}: {scrape_interval}")
    write_new(folder / "targets.json", json.dumps([{"targets": list(targets), "labels": {"service": "auralsam2"}}]))
    path = folder / "prometheus.yml"
    write_new(path, text)
    return path


def command(program: str, configuration: Path, data: Path, port: int) -> list[str]:
    """Build Prometheus' command line, which listens on loopback."""
    return [
        program,
        f"--config.file={configuration}",
        f"--storage.tsdb.path={data}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]


def main(arguments: list[str] | None = None) -> int:
    """Run Prometheus on this machine until it is stopped."""
    parser = argparse.ArgumentParser(prog="python -m service.monitoring.local", description=__doc__)
    whom = parser.add_mutually_exclusive_group()
    whom.add_argument(
        "--target",
        type=_target,
        action="append",
        metavar="HOST:PORT",
        help="a supervisor's page, default: this machine's; may be repeated",
    )
    whom.add_argument(
        "--exporter-port", type=_port, default=8003, help="of a server of this machine (auralsam2 serve); default: 8003"
    )
    parser.add_argument("--port", type=_port, default=9090, help="of Prometheus itself, on loopback; default: 9090")
    parser.add_argument(
        "--out", type=Path, default=Path("out") / "monitoring", help="configuration and data; default: %(default)s"
    )
    given = parser.parse_args(arguments)
    program = shutil.which("prometheus")
    if program is None:
        error = ConfigError(
            "prometheus is not on PATH. Install it (Debian: apt-get install prometheus), or use compose."
        )
        print(f"error: {error}", file=sys.stderr)
        return 1
    targets = given.target or [f"127.0.0.1:{given.exporter_port}"]
    configuration = write_configuration(given.out, targets)
    print(f"Prometheus asks {', '.join(targets)}; it is on http://127.0.0.1:{given.port}")
    sys.stdout.flush()
    return os.execv(program, command(program, configuration, given.out / "data", given.port))


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_PORT):
        raise argparse.ArgumentTypeError(f"{text!r}; must be a port, 1 to {MAX_PORT}.")
    return int(text)


def _target(text: str) -> str:
    try:
        return parse_address(text)
    except BadInput as error:
        raise argparse.ArgumentTypeError(
            f"{text!r}; must be host:port of a supervisor's page, as 127.0.0.1:8003."
        ) from error


if __name__ == "__main__":
    sys.exit(main())
