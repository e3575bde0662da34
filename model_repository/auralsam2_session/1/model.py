"""Interactive sessions: FRAMES and AUDIO once, then prompts only, answered from the features that were kept."""

from stage_runtime.sessions.adapter import SessionModel


class TritonPythonModel(SessionModel):
    """Keeps state, CPU; see stage_runtime."""
