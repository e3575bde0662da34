"""The image's health check: ends with 0 when the server in this container says that it and the model are ready.

It asks the container's own gRPC port, with the settings that the entry point serves with, and, where the supervisor has
a page of metrics, that too: the server alone says ready while it is told to stop, while a stage is dead, and after a
restart before its first answer was proven. With TLS the page alone is asked, so that one is needed.
"""

import os
import sys
from pathlib import Path

from auralsam2_client.calls.client import Client
from auralsam2_client.errors import AuralServeError
from service.monitoring.metrics import read_page, total
from service.server.config import PREFIX, ServerConfig

# Below the 10 s that the image allows, starting Python included.
PATIENCE_S = 4.0


def main() -> int:
    """Ask the server on this container's loopback for its health; exit 0 when it serves, 1 otherwise."""
    try:
        config = ServerConfig.from_environment(build=Path(), host=os.environ.get(f"{PREFIX}HOST", "0.0.0.0"))
        if config.tls_certificate is not None:
            # Only a caller with a certificate may ask there; the supervisor looks through its door itself.
            ready = config.exporter_url is not None
        else:
            with Client(config.grpc_url, config.model) as client:
                ready = client.is_ready(timeout_s=PATIENCE_S / 2)
        if ready and config.exporter_url is not None:
            ready = total(read_page(config.exporter_url, timeout_s=PATIENCE_S / 2), "auralsam2_ready") == 1
    except AuralServeError as error:
        print(error)
        return 1
    print(f"{config.grpc_url} is {'ready' if ready else 'not ready'}")
    return 0 if ready else 1


if __name__ == "__main__":
    sys.exit(main())
