"""The nginx of this machine: where it is, and what it was built with."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from auralsam2_client.errors import ConfigError
from service.findings import Finding

# A user's PATH often lacks the folders of system programs.
SYSTEM_FOLDERS = "/usr/sbin:/usr/local/sbin:/sbin"
HEADERS_MODULE = "ngx_http_headers_more_filter_module.so"
PACKAGES = "nginx-light libnginx-mod-http-headers-more-filter"
"""Debian's; Ubuntu's first one is called nginx."""
INSTALL = f"apt-get install {PACKAGES}"
FRONT_DOOR = "serve beyond this machine"
_NEEDED = ("http_v2_module", "http_ssl_module", "http_stub_status_module")


@dataclass(frozen=True)
class Nginx:
    """An nginx that can be a door."""

    program: Path
    version: str  # "1.22.1"
    headers_module: Path | None
    """Takes away all request headers but those named; without it those that the server knows are taken away by name."""


def find_nginx(path: str | None = None) -> Nginx | None:
    """Find nginx on PATH (or on `path`) and among system programs; None where there is none.

    Raises: ConfigError when it does not run, or lacks what a door needs.
    """
    found = shutil.which("nginx", path=path) or (shutil.which("nginx", path=SYSTEM_FOLDERS) if path is None else None)
    if found is None:
        return None
    try:
        answer = subprocess.run([found, "-V"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(f"{found} does not run: {error}. Install it again: {INSTALL}.") from error
    return read_nginx(Path(found), answer.stderr + answer.stdout)


def read_nginx(program: Path, told: str) -> Nginx:
    """Read what `nginx -V` tells. Raises: ConfigError naming the module that it was built without."""
    missing = [name for name in _NEEDED if f"--with-{name}" not in told]
    if missing:
        raise ConfigError(f"{program} was built without {', '.join(missing)}. Install the distribution's: {INSTALL}.")
    version = re.search(r"nginx/([\d.]+)", told)
    modules = re.search(r"--modules-path=(\S+)", told)
    module = Path(modules[1]) / HEADERS_MODULE if modules else None
    return Nginx(program, version[1] if version else "unknown", module if module and module.is_file() else None)


def check_nginx() -> Finding:
    """Check that there is an nginx that can be the front door, and that it strips request headers."""
    try:
        found = find_nginx()
    except ConfigError as error:
        return Finding("nginx", False, str(error), INSTALL, FRONT_DOOR)
    if found is None:
        return Finding("nginx", False, "missing", f"{INSTALL}; or serve with --door off, see SECURITY.md.", FRONT_DOOR)
    stripped = found.headers_module is not None
    told = f"{found.version} in {found.program}{'' if stripped else ', without the module that strips request headers'}"
    return Finding("nginx", stripped, told, INSTALL, FRONT_DOOR)
