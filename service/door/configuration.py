"""The door's configuration: text for nginx, made of a few numbers, addresses and the lists of `service.door.requests`.

All that nginx writes lies in a folder of the door's own, which nobody else can enter. Answers of the door itself are
gRPC's: status and words in headers, and no body.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from service.door.nginx import Nginx
from service.door.requests import KNOWN_TO_SERVERS, LOCAL_MEMORY_METHODS, METHODS, PREFIXES
from service.server.config import ServerConfig

CONFIGURATION, PID_FILE, ACCESS_LOG = "nginx.conf", "nginx.pid", "access.log"
# Sockets of the folder: where the server listens, where the supervisor looks through the door, and its own figures.
SERVER_SOCKET, CHECK_SOCKET, STATUS_SOCKET = "grpc", "check", "status"
STATUS_PATH = "/status"

# Of a connection that says nothing, that has not sent its request, and that pauses within one.
IDLE_S, HEADER_S, BODY_S = 300, 10, 10
# Longer than any call: its own deadline ends it.
CALL_S = 3600
# As much of a message as is held on its way, for each call.
BUFFER = "512k"
MOST_CONNECTIONS = 8192

# By nginx's own status: gRPC's, and what is said.
INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNIMPLEMENTED, UNAVAILABLE, UNAUTHENTICATED = 3, 8, 12, 14, 16
_REFUSED, _COMPRESSED = 490, 491


@dataclass(frozen=True)
class Door:
    """What a configuration is made of."""

    config: ServerConfig
    nginx: Nginx
    folder: Path
    max_message_bytes: int
    caller_header: str
    request_header: str
    open_files: int = 4096

    @property
    def server(self) -> ServerConfig:
        """The server behind the door: it listens on a socket of the door's folder alone."""
        return self.config.behind(self.folder / SERVER_SOCKET)

    @property
    def check_url(self) -> str:
        """Where this user reaches the door without a certificate."""
        return f"unix:{self.folder / CHECK_SOCKET}"

    @property
    def access_log(self) -> Path:
        """Where the door writes a line of JSON for each call."""
        return self.folder / ACCESS_LOG if self.config.access_log is None else self.config.access_log

    @property
    def methods(self) -> tuple[str, ...]:
        """What callers may call."""
        return (*METHODS, *(LOCAL_MEMORY_METHODS if self.config.local_memory else ()))

    @property
    def command(self) -> list[str]:
        """Build nginx's command line."""
        return [
            str(self.nginx.program),
            "-p",
            f"{self.folder}/",
            "-c",
            str(self.folder / CONFIGURATION),
            "-e",
            "stderr",
        ]


def render(door: Door) -> str:
    """Write the configuration of a door."""
    config, folder = door.config, door.folder
    workers = max(1, min(4, config.num_threads))
    connections = max(64, min(MOST_CONNECTIONS, (door.open_files - 64) // 2))
    load = f'load_module "{door.nginx.headers_module}";\n' if door.nginx.headers_module else ""
    # Started by root, it would give its rights up and could no longer enter its folder.
    user = "user root root;\n" if os.geteuid() == 0 else ""
    temporary = "".join(f'  {name}_temp_path "{folder}/temporary";\n' for name in _TEMPORARY)
    return f"""{load}{user}daemon off;
worker_processes {workers};
worker_shutdown_timeout {max(1, int(config.drain_timeout_s))}s;
worker_rlimit_nofile {door.open_files};
pid "{folder}/{PID_FILE}";
error_log stderr alert;
events {{ worker_connections {connections}; }}
http {{
{temporary}  log_format calls escape=json '{_LOG_LINE}';
  access_log "{door.access_log}" calls;
  server_tokens off;
  default_type application/grpc;
  {_caller_map(config)}
  map $request_uri $call {{ "~^(?<short>[A-Za-z0-9._/-]{{1,120}})$" $short; default other; }}
  map $sent_trailer_grpc_status $answered {{ "" $sent_http_grpc_status; default $sent_trailer_grpc_status; }}
  map $http_grpc_encoding $compressed {{ "" 0; identity 0; default 1; }}
  map $http_grpc_timeout $deadline {{ "~^[0-9]{{1,8}}[HMSmun]$" $http_grpc_timeout; default ""; }}
  map $http_content_type $speaks_grpc {{ "~^application/grpc($|[+;])" 1; default 0; }}
  limit_conn_zone $caller zone=calls:2m;
  limit_req_zone $caller zone=rate:2m rate={config.requests_per_second}r/s;
  upstream server_behind {{
    server "unix:{folder}/{SERVER_SOCKET}-link" max_fails=0;
    keepalive 64; keepalive_time 5m; keepalive_timeout 60s;
  }}
  server {{
    listen {_listening(config)};
    listen "unix:{folder}/{CHECK_SOCKET}" http2;
{_tls(config)}    client_header_timeout {HEADER_S}s;
    client_body_timeout {BODY_S}s;
    send_timeout 30s;
    keepalive_timeout {IDLE_S}s;
    keepalive_requests 100000;
    reset_timedout_connection on;
    http2_max_concurrent_streams {config.calls_per_caller};
    http2_body_preread_size {BUFFER};
    client_body_buffer_size {BUFFER};
    client_max_body_size {door.max_message_bytes};
    large_client_header_buffers 4 8k;
    grpc_buffer_size 64k;
    grpc_connect_timeout 5s;
    grpc_send_timeout 60s;
    grpc_read_timeout {CALL_S}s;
    grpc_socket_keepalive off;
    grpc_next_upstream off;
    limit_conn calls {config.calls_per_caller};
    limit_conn_status 429;
    limit_req zone=rate burst={2 * config.requests_per_second} nodelay;
    limit_req_status 429;
    limit_conn_log_level info;
    limit_req_log_level info;
    if ($server_protocol != "HTTP/2.0") {{ return 444; }}
    if ($speaks_grpc = 0) {{ return 415; }}
    if ($compressed) {{ return {_COMPRESSED}; }}
{_answers(door)}    location / {{ return {_REFUSED}; }}
{"".join(_method(door, name) for name in door.methods)}  }}
  server {{
    listen "unix:{folder}/{STATUS_SOCKET}";
    access_log off;
    location = {STATUS_PATH} {{ stub_status; }}
  }}
}}
"""


_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
_LOG_LINE = (
    '{"time":"$time_iso8601","request":"$request_id","caller":"$caller","method":"$call","status":"$status",'
    '"grpc_status":"$answered","bytes_received":"$request_length","bytes_sent":"$bytes_sent",'
    '"seconds":"$request_time"}'
)


def _caller_map(config: ServerConfig) -> str:
    if config.tls_client_ca is None:
        return "map $remote_addr $caller { default $remote_addr; }"
    return 'map $ssl_client_fingerprint $caller { "" $remote_addr; default "cert:$ssl_client_fingerprint"; }'


def _listening(config: ServerConfig) -> str:
    host = "127.0.0.1" if config.host == "localhost" else config.host
    return f"{host}:{config.grpc_port}{' ssl' if config.tls_certificate else ''} http2 backlog=1024"


def _tls(config: ServerConfig) -> str:
    if config.tls_certificate is None:
        return ""
    lines = [
        f'ssl_certificate "{config.tls_certificate}"',
        f'ssl_certificate_key "{config.tls_key}"',
        "ssl_protocols TLSv1.2 TLSv1.3",
        "ssl_session_cache shared:sessions:4m",
    ]
    if config.tls_client_ca is not None:
        lines += [f'ssl_client_certificate "{config.tls_client_ca}"', "ssl_verify_client on"]
    return "".join(f"    {line};\n" for line in lines)


def _answers(door: Door) -> str:
    names = ", ".join(name.rpartition("/")[2] for name in door.methods)
    megabytes = -(-door.max_message_bytes // (1 << 20))
    told = {
        "unimplemented": ((_REFUSED,), UNIMPLEMENTED, f"Only unary {names} are served here."),
        "compressed": (
            (_COMPRESSED,),
            UNIMPLEMENTED,
            "Compressed messages are not taken: send without grpc-encoding, or with identity.",
        ),
        "large": (
            (413,),
            INVALID_ARGUMENT,
            f"The message is larger than {megabytes} MiB, the largest that this build takes. Send one clip a call.",
        ),
        "slow": ((400, 408, 414, 494), INVALID_ARGUMENT, "The request is broken, or came too slowly."),
        "stranger": (
            (495, 496),
            UNAUTHENTICATED,
            "A certificate is wanted that this service's authority has signed.",
        ),
        "busy": (
            (429,),
            RESOURCE_EXHAUSTED,
            f"One caller may have {door.config.calls_per_caller} calls under way and make"
            f" {door.config.requests_per_second} a second. Repeat it after a pause.",
        ),
        "absent": (
            (500, 502, 503, 504),
            UNAVAILABLE,
            "The server behind the door does not answer: it starts, or has ended. Repeat it after a pause.",
        ),
    }
    text = ""
    for name, (codes, status, words) in told.items():
        accepted = " add_header grpc-accept-encoding identity always;" if name == "compressed" else ""
        text += (
            f"    error_page {' '.join(map(str, codes))} =200 @{name};\n"
            f"    location @{name} {{ add_header grpc-status {status} always;"
            f' add_header grpc-message "{words}" always;{accepted} return 200 ""; }}\n'
        )
    return text


def _method(door: Door, name: str) -> str:
    known = [f'grpc_set_header {header} "";' for header in KNOWN_TO_SERVERS]
    cleared = ["more_clear_input_headers " + " ".join(f"'{letter}*'" for letter in PREFIXES) + ";"]
    lines = [
        # Read before what came is taken away.
        "set $left $deadline;",
        *(cleared if door.nginx.headers_module else []),
        *known,
        "grpc_set_header grpc-timeout $left;",
        "grpc_set_header content-type application/grpc;",
        f"grpc_set_header {door.caller_header} $caller;",
        f"grpc_set_header {door.request_header} $request_id;",
        "grpc_pass grpc://server_behind;",
    ]
    return f"    location = {name} {{\n" + "".join(f"      {line}\n" for line in lines) + "    }\n"


def is_plain(path: Path) -> bool:
    """Tell whether a path can stand in a configuration, in quotes."""
    return re.fullmatch(r"[\w./@+,=: -]+", str(path)) is not None
