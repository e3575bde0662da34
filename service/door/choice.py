"""Whether there is a door: by the config, and by what this machine has."""

from auralsam2_client.errors import ConfigError
from service.door.nginx import INSTALL, Nginx, find_nginx
from service.server.config import ServerConfig

WITHOUT_A_DOOR = (
    "no front door: whoever reaches the gRPC port may open streams, send compressed messages and as much as they like"
    " (SECURITY.md)"
)


def choose_nginx(config: ServerConfig) -> Nginx | None:
    """Find the nginx of a config that wants a door; None where it wants none.

    Raises: ConfigError where nginx is missing, with both ways out.
    """
    if not config.has_door:
        return None
    found = find_nginx()
    if found is not None:
        return found
    beyond = "" if config.is_loopback else f" and host = {config.host} is beyond this machine"
    raise ConfigError(
        f"The front door needs nginx, which is missing{beyond}. Install it ({INSTALL}), or serve without a door and"
        " accept what is open then (SECURITY.md): --door off."
    )


def remark(config: ServerConfig, nginx: Nginx | None) -> str:
    """Say in one line what is open, or how far the door is shut."""
    if nginx is None:
        return f"{WITHOUT_A_DOOR}; --door on closes them"
    if nginx.headers_module is None:
        return f"the front door lets in request headers that no server of ours knows; to strip them: {INSTALL}"
    return f"front door: nginx {nginx.version}, {'TLS' if config.tls_certificate else 'without TLS'}"
