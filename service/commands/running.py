"""The commands about the server of this machine: `serve` runs it, `doctor` says what it lacks."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from auralsam2_client.errors import AuralServeError, ConfigError
from service.commands.options import DEFAULT_BUILD
from service.commands.terminal import EXIT_CODES, console, exit_code, fail


def serve(
    build: Annotated[Path | None, typer.Option(help=f"Build folder; default: {DEFAULT_BUILD}.")] = None,
    host: Annotated[str | None, typer.Option(help="Address for gRPC; default: 127.0.0.1.")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="gRPC, inference and health; default: 8001.")] = None,
    metrics_port: Annotated[int | None, typer.Option(help="Prometheus metrics; default: 8002.")] = None,
    exporter_port: Annotated[
        int | None, typer.Option(help="The supervisor's own metrics (memory, restarts, build); default: nowhere.")
    ] = None,
    server_env: Annotated[
        Path | None,
        typer.Option(help="Environment that holds the server; default: .venv-server, here or above; see `doctor`."),
    ] = None,
    tritonserver: Annotated[
        Path | None,
        typer.Option(
            help="Home of NVIDIA's server, as /opt/tritonserver, which a GPU build needs; default: the embedded."
        ),
    ] = None,
    local_memory: Annotated[
        bool | None,
        typer.Option("--local-memory", help="Let clients of this machine use shared memory; see SECURITY.md."),
    ] = None,
    cache_dir: Annotated[
        Path | None, typer.Option(help="Where engines keep what they compiled; default: in the build.")
    ] = None,
    door: Annotated[
        str | None,
        typer.Option(help="nginx before gRPC: auto (beyond loopback) | on | off; default: auto; see SECURITY.md."),
    ] = None,
    tls_certificate: Annotated[
        Path | None, typer.Option(help="Of the door, PEM: it then speaks TLS; default: none, plain.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Key of that certificate, PEM; default: none.")] = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option(help="Callers must show a certificate that this one signed, PEM; default: anyone may call."),
    ] = None,
    access_log: Annotated[
        Path | None, typer.Option(help="Where the door notes calls, JSON lines; default: nowhere lasting.")
    ] = None,
    give_up: Annotated[
        bool | None, typer.Option("--give-up", help="End after too many restarts, for who starts it again.")
    ] = None,
    log_format: Annotated[
        str | None, typer.Option(help="Of the log on standard error: text | json; default: text.")
    ] = None,
    log_file: Annotated[
        Path | None,
        typer.Option(
            help="Every event as JSON, the server's own lines too; rotates, 5 files of 3.9 MB; default: none."
        ),
    ] = None,
) -> None:
    """Start the server and keep it alive, until Ctrl-C or SIGTERM.

    Each setting of the server can also be given as a variable AURALSAM2_<NAME>; an option wins over it.
    """
    from service.logs.events import ERROR, Event
    from service.logs.log import TEXT, Log
    from service.server.config import PREFIX, ServerConfig
    from service.supervision.signals import serve as serve_until_told
    from service.supervision.supervisor import Supervisor

    options = {
        "build": build,
        "host": host,
        "grpc_port": grpc_port,
        "metrics_port": metrics_port,
        "exporter_port": exporter_port,
        "server_env": server_env,
        "tritonserver": tritonserver,
        "local_memory": local_memory,
        "cache_dir": cache_dir,
        "door": door,
        "tls_certificate": tls_certificate,
        "tls_key": tls_key,
        "tls_client_ca": tls_client_ca,
        "access_log": access_log,
        "give_up": give_up,
        "log_format": log_format,
        "log_file": log_file,
    }
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if build is None and f"{PREFIX}BUILD" not in os.environ:
        given["build"] = DEFAULT_BUILD
    try:
        config = ServerConfig.from_environment(**given)
        with Log(config.log_format, config.log_file) as log:
            try:
                code = serve_until_told(Supervisor(config, tell=log.tell))
            except AuralServeError as error:
                # A person reads it from `fail`.
                log.tell(Event("failed", str(error), level=ERROR, quiet=config.log_format == TEXT))
                if config.log_format != TEXT:
                    raise typer.Exit(exit_code(error)) from error
                raise
    except AuralServeError as error:
        fail(error)
    raise typer.Exit(code)


def doctor(
    build: Annotated[Path | None, typer.Option(help=f"Build folder to look at; default: {DEFAULT_BUILD}.")] = None,
) -> None:
    """Say what is missing on this machine, and the fix; ends with 3 where a build that is named cannot be served."""
    from service.commands.doctor import BUILD, examine
    from service.commands.tables import doctor_table

    findings = examine(build or DEFAULT_BUILD)
    console.print(doctor_table(findings))
    if any(not finding.ok and not finding.needed_for for finding in findings):
        raise typer.Exit(1)
    # Before the first export there is none, and that is no fault of the machine.
    if build is not None and any(finding.name == BUILD and not finding.ok for finding in findings):
        raise typer.Exit(EXIT_CODES[ConfigError])
