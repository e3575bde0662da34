"""What of a load test is ours to choose: options of locust's own command, and fields of its web form."""

from argparse import ArgumentTypeError
from collections.abc import Mapping
from typing import Any

from auralsam2_client.calls.address import parse_address
from auralsam2_client.calls.frame_wire import RAW, WIRES, check_wire
from auralsam2_client.errors import BadInput
from loadtests.generator.modes import MODES, find_mode
from loadtests.generator.scenarios import SCENARIOS, is_steady, share_at
from service.server.config import ServerConfig

DEFAULT_HOST = f"{ServerConfig.host}:{ServerConfig.grpc_port}"
CALL_TIMEOUT_S = 60.0
HOSTS_METRICS, NO_METRICS = "host", "none"


def add_options(parser: Any) -> None:
    """Add our options to locust's parser. Its --host and --stop-timeout get our defaults, and say so in --help."""
    group = parser.add_argument_group("Clips (AuralSAM2)", conflict_handler="resolve")
    group.add_argument(
        "-H",
        "--host",
        metavar="<host:port>",
        type=_address,
        default=DEFAULT_HOST,
        env_var="LOCUST_HOST",
        help=f"The service's gRPC address; default: {DEFAULT_HOST}, where auralsam2 serve listens.",
    )
    group.add_argument(
        "-s",
        "--stop-timeout",
        metavar="<number>",
        type=int,
        default=int(CALL_TIMEOUT_S) + 1,
        env_var="LOCUST_STOP_TIMEOUT",
        help="Seconds to wait, when the time is over, for clips under way, so that none is lost; default: 61.",
    )
    group.add_argument(
        "--outcomes",
        metavar="<path>",
        help="Write every request's end here, a JSON a line, each worker beside its number; default: nowhere.",
    )

    def add(name: str, default: Any, about: str, **others: Any) -> None:
        # A group's options are in the web form where they say so.
        group.add_argument(
            name, default=default, help=f"{about}; default: {default}.", **others
        ).include_in_web_ui = True

    add("--mode", "audio", "What each clip is asked with", choices=list(MODES))
    add("--source", "procedural", "procedural[:COUNT], file:PATH or avsbench:FOLDER")
    add("--wire", RAW, "How frames go over the wire", choices=list(WIRES))
    add(
        "--scenario",
        "steady",
        "steady and soak: users as -u says; ramp and spike: a share of them that changes over the run time (-t)",
        choices=list(SCENARIOS),
    )
    add(
        "--arrival-rate",
        0.0,
        "Clips a second that are due at random times, over all users; 0: each user waits for its answer",
        type=float,
    )
    add("--call-timeout", CALL_TIMEOUT_S, "Seconds that a caller waits", type=float)
    add(
        "--metrics-url",
        HOSTS_METRICS,
        "The server's metrics page, from which the report takes the stages' times; host: port"
        f" {ServerConfig.metrics_port} of the host; none: no stages",
    )


def check(values: Mapping[str, Any]) -> None:
    """Check what was chosen, on the command line or in the form, where all is text. Raises: BadInput."""
    parse_address(values["host"])
    find_mode(values["mode"])
    check_wire(values["wire"])
    share_at(values["scenario"], 0.0)
    _check_number("arrival_rate", values["arrival_rate"], "0 (each user waits for its answer) or more")
    if not _check_number("call_timeout", values["call_timeout"], "more than 0 seconds"):
        raise BadInput(f"call_timeout = {values['call_timeout']}; must be more than 0 seconds.")
    page = values["metrics_url"]
    if page not in (HOSTS_METRICS, NO_METRICS) and not page.startswith(("http://", "https://")):
        raise BadInput(f"metrics_url = {page!r}; must be host, none, or a page, as http://127.0.0.1:8002/metrics.")
    if not is_steady(values["scenario"]) and not values.get("run_time"):
        raise BadInput(
            f"The scenario {values['scenario']!r} changes the load over the run time, and none is given. Give one, as"
            " -t 60s, or take --scenario steady."
        )


def metrics_page(host: str, given: str) -> str | None:
    """Return the address of the server's metrics page; None where none is wanted, or the host is no host:port."""
    if given != HOSTS_METRICS:
        return None if given == NO_METRICS else given
    place = parse_address(host).rpartition(":")[0]
    return f"http://{place}:{ServerConfig.metrics_port}/metrics" if place and "/" not in place else None


def _address(text: str) -> str:
    try:
        return parse_address(text)
    except BadInput as error:
        raise ArgumentTypeError(str(error)) from error


def _check_number(name: str, value: Any, wanted: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise BadInput(f"{name} = {value}; must be {wanted}.")
    return number
