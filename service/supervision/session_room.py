"""Whether a session of the supervisor's own would take a place that a caller needs."""

from auralsam2_client.contract import SESSION_SUFFIX, Parameter
from service.builds.gpu_memory import read_configs
from service.monitoring.metrics import total
from service.server.config import ServerConfig


class SessionRoom:
    """Tells from the server's metrics page whether one more session is kept without another giving way to it."""

    def __init__(self, config: ServerConfig) -> None:
        """Raises: ConfigError where a configuration of the build cannot be read."""
        found = read_configs(config.models).get(config.model + SESSION_SUFFIX)
        built = {} if found is None else {name: value.string_value for name, value in found.parameters.items()}
        self._max_sessions = config.max_sessions or int(built.get(Parameter.MAX_SESSIONS, 0))
        self._max_bytes = config.max_session_bytes or int(built.get(Parameter.MAX_SESSION_BYTES, 0))

    def is_there(self, page: str) -> bool:
        """Read `page`, the text of the metrics; sessions of one build are all of one size."""
        kept, held = total(page, "auralsam2_sessions"), total(page, "auralsam2_session_bytes")
        return kept < self._max_sessions and (not kept or held + held / kept <= self._max_bytes)
