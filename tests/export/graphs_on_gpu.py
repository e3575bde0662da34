"""The graphs that a GPU gets, exported without one: `compact` at the demo's size, and a Hiera preset at 512 px."""

from dataclasses import dataclass
from pathlib import Path

from auralsam2.stages.clip_stages import Stage, build_stages
from export.loading import load_model
from export.settings import ExportSettings


@dataclass(frozen=True)
class OnGpu:
    """One network's four stages for whole clips, each with its float32 graph on disk."""

    settings: ExportSettings
    graphs: tuple[tuple[Stage, Path], ...]


def stages_of(settings: ExportSettings, *, on_gpu: bool) -> tuple[Stage, ...]:
    per_call = settings.num_frames if on_gpu else 1
    return build_stages(
        load_model(settings),
        settings.num_frames,
        0,
        settings.read_out,
        per_call,
        hands_on_tokens=on_gpu,
        for_cpu=not on_gpu,
    )
