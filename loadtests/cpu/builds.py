"""The builds that the benches of a CPU measure, and how the benches report progress."""

import sys
from pathlib import Path

from auralsam2_client.errors import AuralServeError
from loadtests.cases.case import Case


def say(line: str) -> None:
    """Print a line of progress on stderr at once."""
    print(line, file=sys.stderr, flush=True)


def build_of(case: Case, precision: str) -> Path:
    """Find the export of a case, or make it now. Raises: AuralServeError when the export fails."""
    from auralsam2.errors import NetworkError
    from export.builds.repository import build_repository
    from export.errors import ExportError
    from export.settings import ExportSettings
    from model_repository.stage_runtime.engine import EngineError

    try:
        settings = ExportSettings(case.preset, case.image_size, case.num_frames, precision=precision)
        build = Path("build") / settings.name
        return build if (build / "manifest.json").is_file() else build_repository(settings, build, say)
    except (NetworkError, ExportError, EngineError) as error:
        raise AuralServeError(str(error)) from error
