"""The processes of a server's Python stages, each with the name of its stage, which is gone with the process itself."""

import contextlib
import re
from dataclasses import dataclass

import psutil

_STAGE_FOLDER = re.compile(r"/([^/]+)/\d+/model\.py$")


@dataclass(frozen=True)
class StageProcess:
    """A process and the stage that it serves; "" of one that serves none."""

    name: str
    process: psutil.Process

    @property
    def title(self) -> str:
        """What a message calls it."""
        return f"stage {self.name}" if self.name else "the server"


def stage_name(process: psutil.Process) -> str | None:
    """Tell which stage a process serves, by the model file that it was started with. Raises: psutil.Error."""
    return next((match[1] for word in process.cmdline() if (match := _STAGE_FOLDER.search(word))), None)


def find_stages(server_pid: int) -> list[StageProcess]:
    """List the server's children that live now, as stages; none where the server is gone."""
    found: list[StageProcess] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(server_pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if child.is_running():
                    found.append(StageProcess(stage_name(child) or "of no name", child))
    return found
