"""The end of a server: once its launcher has noted that it stops, nobody is let in, while those inside are answered.

The server itself has no such door. It takes calls until it ends, and answers those of its last seconds NOT_FOUND.
"""

import os

from auralsam2_client.contract import LAUNCH_VARIABLE, Reason, closing_path

from ..engine.refusals import NotAdmitted

WORDS = "the server is stopping and takes no more work. Repeat after a pause, or ask another server."


def refuse_while_closing() -> None:
    """Raise NotAdmitted once the launcher of this process has noted that its server stops."""
    # One look at a name in memory, two microseconds, for each request.
    if closing_path(os.environ.get(LAUNCH_VARIABLE, "")).exists():
        raise NotAdmitted(Reason.UNREADY, WORDS)
