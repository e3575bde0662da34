"""How the server is run: one frozen dataclass, checked when it is made."""

import ipaddress
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from auralsam2_client.contract import ENSEMBLE, VARIABLE_PREFIX, Parameter
from auralsam2_client.errors import ConfigError
from service.server.variables import parse_variable

PREFIX = VARIABLE_PREFIX
DEFAULT_REGION_BYTES = 4 << 20
# The server forgets a sequence after an hour; until then the sessions' own clock decides.
SESSION_LIMITS = (
    (Parameter.MAX_SESSIONS, 1, 1024),
    (Parameter.MAX_SESSION_BYTES, 1 << 20, 1 << 40),
    (Parameter.SESSION_IDLE_TIMEOUT_S, 0.1, 3600),
)
GOLDEN_AT_START = ("once", "always")
LOG_FORMATS = ("text", "json")
DOORS = ("auto", "on", "off")
TLS_FILES = ("tls_certificate", "tls_key", "tls_client_ca")
# sun_path of Linux, its end included.
MAX_SOCKET_NAME = 107


def find_server_env() -> Path:
    """Find the server's environment: AURALSAM2_SERVER_ENV, else `.venv-server` here, above, or beside this one."""
    named = os.environ.get(f"{PREFIX}SERVER_ENV")
    if named:
        return Path(named).absolute()
    working = Path.cwd()
    beside = [*(folder / ".venv-server" for folder in (working, *working.parents)), Path(sys.prefix).parent]
    beside[-1] = beside[-1] / ".venv-server"
    return next((path for path in beside if (path / "bin" / "python3").exists()), beside[0])


@dataclass(frozen=True)
class ServerConfig:
    """Settings of one server. Every field can also be set as AURALSAM2_<FIELD> (see `from_environment`)."""

    build: Path
    # Where gRPC listens. The embedded server release has published security holes: beyond loopback only on request.
    host: str = "127.0.0.1"
    grpc_port: int = 8001
    metrics_port: int = 8002
    # Where the exporter listens; None: this machine alone. In a container: the network in which Prometheus asks it.
    metrics_host: str | None = None
    http_port: int | None = None
    # Where the supervisor serves all metrics, its own and the server's; None: nowhere.
    exporter_port: int | None = None
    # A front door (service/door) before gRPC: "auto" where host is beyond loopback, "on", "off".
    door: str = "auto"
    # Of the door: TLS, certificates that callers must show, where it notes calls (None: until it ends), and what one
    # caller may do.
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    access_log: Path | None = None
    calls_per_caller: int = 64
    requests_per_second: int = 200
    # A Unix socket on which gRPC listens in place of host and port; the server adds ":PORT" to its name.
    socket: Path | None = None
    server_env: Path = field(default_factory=find_server_env)
    # Whether callers on this machine may hand over clips in shared memory; SECURITY.md says what that opens.
    local_memory: bool = False
    # Home of an installed server, as /opt/tritonserver in NVIDIA's image; None: the embedded server of server_env.
    tritonserver: Path | None = None
    # Where engines keep what they compiled, as the stages are told under the same name; None: in the build.
    cache_dir: Path | None = None
    model: str = ENSEMBLE
    # The stages of a clip run one after the other, so each may use every core.
    num_threads: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    # Shared memory of each stage at its start, and the least it grows by. It never shrinks.
    shm_default_byte_size: int = DEFAULT_REGION_BYTES
    shm_growth_byte_size: int = DEFAULT_REGION_BYTES
    # Of interactive sessions; None: as the build says (16 sessions, 3 GiB, 600 s).
    max_sessions: int | None = None
    max_session_bytes: int | None = None
    session_idle_timeout_s: float | None = None
    # Which starts wait for the golden clip: "always" all, "once" those before which something has changed.
    golden_at_start: str = "once"
    ready_timeout_s: float = 300.0
    drain_timeout_s: float = 30.0
    poll_interval_s: float = 0.5
    canary_interval_s: float = 5.0
    # A call that stands still for longer than this, and for ten golden calls, is held to hang.
    canary_timeout_s: float = 20.0
    # After more faults in the window pauses grow up to a minute; give_up: the service ends, for who starts it again.
    restart_limit: int = 5
    restart_window_s: float = 600.0
    restart_backoff_s: float = 0.5
    restart_backoff_max_s: float = 8.0
    give_up: bool = False
    # Of what goes to standard error: "text" for a person, "json" for a collector.
    log_format: str = "text"
    # Every event as a line of JSON, in a file that rotates by size; None: nowhere.
    log_file: Path | None = None

    def __post_init__(self) -> None:
        # Paths may come as text; the server has a working folder of its own, so it needs them absolute.
        object.__setattr__(self, "build", Path(self.build).absolute())
        object.__setattr__(self, "server_env", Path(self.server_env).absolute())
        for name in ("tritonserver", "cache_dir", "log_file", "socket", "access_log", *TLS_FILES):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, Path(getattr(self, name)).absolute())
        self._check_address("host", self.host)
        if self.metrics_host is not None:
            self._check_address("metrics_host", self.metrics_host)
        ports = {"grpc_port": self.grpc_port, "metrics_port": self.metrics_port}
        for name in ("http_port", "exporter_port"):
            if getattr(self, name) is not None:
                ports[name] = getattr(self, name)
        for name, port in ports.items():
            self._check_range(name, port, 1, 65535)
        for name, port in ports.items():
            twin = next((other for other, value in ports.items() if value == port and other != name), None)
            if twin is not None:
                raise ConfigError(f"{name} and {twin} are both {port}; each needs a port of its own. Change one.")
        if self.local_memory and not self.is_loopback:
            raise ConfigError(
                f"local_memory is on and host = {self.host!r}; who reaches that port could then read the memory of this"
                " service. Listen on 127.0.0.1, or leave local_memory out."
            )
        if not self.model:
            raise ConfigError("model = ''; must be the public name of the ensemble. Leave it out for 'auralsam2'.")
        self._check_range("num_threads", self.num_threads, 1, 1024)
        # 64 MiB for every stage is more than any clip starts with; a typing error would fill /dev/shm.
        for name in ("shm_default_byte_size", "shm_growth_byte_size"):
            self._check_range(name, getattr(self, name), 1 << 20, 1 << 30)
        for name, low, high in SESSION_LIMITS:
            if getattr(self, name) is not None:
                self._check_range(name, getattr(self, name), low, high)
        for name, known in (("golden_at_start", GOLDEN_AT_START), ("log_format", LOG_FORMATS), ("door", DOORS)):
            if getattr(self, name) not in known:
                words = f"{', '.join(known[:-2])}{', ' if known[:-2] else ''}{' or '.join(known[-2:])}"
                raise ConfigError(f"{name} = {getattr(self, name)!r}; must be {words}. Correct it, or leave it out.")
        self._check_door()
        self._check_range("drain_timeout_s", self.drain_timeout_s, 0, 3600)
        for name in ("ready_timeout_s", "canary_interval_s", "canary_timeout_s", "restart_window_s"):
            self._check_range(name, getattr(self, name), 0.1, 86400)
        for name in ("poll_interval_s", "restart_backoff_s", "restart_backoff_max_s"):
            self._check_range(name, getattr(self, name), 0.01, 600)
        self._check_range("restart_limit", self.restart_limit, 0, 1000)

    def _check_door(self) -> None:
        self._check_range("calls_per_caller", self.calls_per_caller, 1, 10000)
        self._check_range("requests_per_second", self.requests_per_second, 1, 1_000_000)
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ConfigError("tls_certificate and tls_key belong together, and one is missing. Give both, or neither.")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ConfigError("tls_client_ca needs tls_certificate and tls_key: callers show certificates over TLS.")
        if self.tls_certificate is not None and not self.has_door:
            raise ConfigError("TLS is spoken by the door, and there is none here. Add --door on, or leave TLS out.")
        if self.socket is not None and len(f"{self.socket}:{self.grpc_port}") > MAX_SOCKET_NAME:
            raise ConfigError(
                f"socket = {self.socket}; a socket's name has {MAX_SOCKET_NAME} characters at most, the port included."
                " Name a shorter folder (TMPDIR)."
            )

    def _check_address(self, name: str, host: str) -> None:
        try:
            ipaddress.IPv4Address(_numeric(host))
        except ValueError as error:
            raise ConfigError(
                f"{name} = {host!r}; must be an IPv4 address of this machine: 127.0.0.1 for this machine alone, "
                "0.0.0.0 for all who can reach it."
            ) from error

    def _check_range(self, name: str, value: float, low: float, high: float) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ConfigError(f"{name} = {value!r}; must be {low} to {high}. Correct it, or leave it out.")

    @property
    def is_loopback(self) -> bool:
        """True when gRPC listens on this machine alone."""
        return ipaddress.IPv4Address(_numeric(self.host)).is_loopback

    @property
    def local_host(self) -> str:
        """Where HTTP listens: always this machine alone."""
        return self.host if self.is_loopback else "127.0.0.1"

    @property
    def has_door(self) -> bool:
        """Whether callers reach the server through the front door."""
        return self.socket is None and (self.door == "on" or (self.door == "auto" and not self.is_loopback))

    @property
    def metrics_address(self) -> str:
        """Address on which the exporter listens; the server's own metrics stay on this machine."""
        return self.local_host if self.metrics_host is None else self.metrics_host

    @property
    def own_host(self) -> str:
        """The address under which this machine reaches its own gRPC port."""
        return _reachable_host(self.host)

    @property
    def grpc_url(self) -> str:
        """Where this machine reaches gRPC: host:port, or unix:PATH of its socket."""
        return f"{self.own_host}:{self.grpc_port}" if self.socket is None else f"unix:{self.socket_file}"

    @property
    def socket_file(self) -> Path | None:
        """The file of the socket on which gRPC listens; None where it has a port."""
        return None if self.socket is None else Path(f"{self.socket}:{self.grpc_port}")

    def behind(self, socket: Path) -> "ServerConfig":
        """Make the config of the same server behind a door, which reaches it at `socket` alone."""
        return replace(
            self,
            host="127.0.0.1",
            metrics_host=None,
            exporter_port=None,
            door="off",
            socket=socket,
            tls_certificate=None,
            tls_key=None,
            tls_client_ca=None,
            access_log=None,
        )

    @property
    def metrics_url(self) -> str:
        """URL of the server's page of metrics."""
        return f"http://{self.local_host}:{self.metrics_port}/metrics"

    @property
    def exporter_url(self) -> str | None:
        """URL of the supervisor's page of metrics; None where it has none."""
        if self.exporter_port is None:
            return None
        return f"http://{_reachable_host(self.metrics_address)}:{self.exporter_port}/metrics"

    @property
    def models(self) -> Path:
        """Folder of the build that the server loads."""
        return self.build / "models"

    @property
    def cache(self) -> Path:
        """Folder in which engines keep what they compiled."""
        return self.build / "cache" if self.cache_dir is None else self.cache_dir

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None, **given: Any) -> "ServerConfig":
        """Make a config from AURALSAM2_<FIELD> variables; what is given here wins over them.

        Raises: ConfigError when a variable cannot be parsed, or no build is named.
        """
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        for item in fields(cls):
            text = environ.get(PREFIX + item.name.upper())
            if item.name not in given and text is not None:
                values[item.name] = parse_variable(PREFIX + item.name.upper(), text, str(item.type))
        values.update(given)
        if "build" not in values:
            raise ConfigError(
                f"No build folder is named. Give one with --build or {PREFIX}BUILD; `auralsam2 export` makes it."
            )
        return cls(**values)


def _numeric(host: str) -> str:
    return "127.0.0.1" if host == "localhost" else host


def _reachable_host(host: str) -> str:
    """The address under which this machine reaches its own port that listens at `host`."""
    return "127.0.0.1" if ipaddress.IPv4Address(_numeric(host)).is_unspecified else host
