"""The parity and precision report. Being written."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auralsam2 import AuralSAM2
from export.settings import ExportSettings


@dataclass(frozen=True)
class PrecisionReport:
    def as_record(self) -> dict[str, Any]:
        return {}

    def as_markdown(self) -> str:
        return ""


def precision_report(
    settings: ExportSettings,
    graphs: Mapping[str, Path],
    model: AuralSAM2,
    *,
    clips: int = 20,
    report: Callable[[str], None] = lambda line: None,
) -> PrecisionReport:
    return PrecisionReport()
