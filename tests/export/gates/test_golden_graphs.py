"""The exported graphs, on both CPU engines, against the golden figures of the published network."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from auralsam2.network import image_encoder
from auralsam2.stages.clip_stages import Stage, TensorSpec, VggishStage, build_stages
from export.gates.parity import Array
from export.graphs.chain import run_clip
from export.graphs.onnx_graph import export_stage
from model_repository.stage_runtime.engine import ENGINES, load_engine
from tests.auralsam2.golden import FILES, Golden

# Engines add in another order than PyTorch: ten times the spread of the released code itself would be 2e-4, and the
# memory's mask may lose a pixel on the way. Of the pixels of all candidates, 1 in 10,000 may lie across 0.
LOGIT_TOLERANCE, PIXEL_AGREEMENT = 5e-3, 0.9999


class WholeClip(Stage):
    """A stage that takes its clip in one call, whose leading axes differ: frames, and tokens of sound and text."""

    def graph_shape(self, spec: TensorSpec) -> tuple[int, ...]:
        return spec.shape


def reshaped(spec: TensorSpec, golden: Golden, num_tokens: int) -> TensorSpec:
    """The specification for inputs that the golden cases give: normalised frames, log-mel, tokens of sound and text."""
    if spec.name == "FRAMES":
        return replace(spec, dtype="FP32", shape=(golden.num_frames, 3, golden.image_size, golden.image_size))
    if spec.name == "AUDIO":
        return replace(spec, shape=(golden.num_frames, 2, 96, 64))
    if spec.name.startswith("SOUND_") or spec.name == "AUDIO_TOKENS":
        return replace(spec, shape=(num_tokens, *spec.shape[1:]))
    return spec


def golden_stages(golden: Golden) -> list[Stage]:
    """Build the stages as they are exported for a CPU, without normalising and log-mel, which have their own tests."""
    stages = build_stages(
        golden.model(), golden.num_frames, golden.conditioning_frame, "iou", hiera_frames_per_call=1, for_cpu=True
    )
    assert isinstance(stages[0].module, VggishStage)
    stages[0].module.log_mel = nn.Identity()  # type: ignore[assignment]
    with_text = golden.num_frames + (25 if golden.has_text else 0)

    def specs(stage: Stage, of: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
        return tuple(reshaped(spec, golden, golden.num_frames if stage.name == "vggish" else with_text) for spec in of)

    return [
        (Stage if stage.name == "hiera" else WholeClip)(
            stage.name, stage.module, specs(stage, stage.inputs), specs(stage, stage.outputs), stage.frames_per_call
        )
        for stage in stages
    ]


@pytest.mark.parametrize("name", FILES)
def test_every_frame_is_within_the_tolerance_on_both_engines(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    monkeypatch.setattr(image_encoder, "normalise", lambda frames: frames)
    golden = Golden.read(name)
    frames, log_mel, text = golden.inputs()
    assert frames is not None
    assert log_mel is not None
    stages = golden_stages(golden)
    paths = [export_stage(stage, tmp_path / f"{stage.name}.onnx") for stage in stages]
    for kind in ENGINES:
        values: dict[str, Array] = {"FRAMES": frames.numpy(), "AUDIO": log_mel.numpy()}
        for stage, path in zip(stages, paths, strict=True):
            engine = load_engine(kind, path, keep_memory=False)
            values |= run_clip(engine, values)
            if stage.name == "vggish" and text is not None:
                words = golden.model().aural_fuser.text_proj
                assert words is not None
                with torch.no_grad():
                    values["AUDIO_TOKENS"] = np.concatenate([values["AUDIO_TOKENS"], words(text[0]).numpy()])
        logits, wanted = values["CANDIDATE_LOGITS"], golden.figures["low_res_logits"]
        error = np.abs(logits - wanted).reshape(golden.num_frames, -1).max(1)
        agreement = float(((logits > 0) == (wanted > 0)).mean())
        record_property(f"{name}.{kind}", [error.tolist(), agreement])
        print(name, kind, error, agreement)
        assert (error <= LOGIT_TOLERANCE).all(), f"{kind}: logits by frame {error}"
        assert agreement >= PIXEL_AGREEMENT, f"{kind}: {agreement:.5%} of the pixels agree"
        assert np.abs(values["IOU"] - golden.figures["iou"]).max() <= LOGIT_TOLERANCE / 10
        assert np.abs(values["OBJECT_SCORE"] - golden.figures["object_score"][:, 0]).max() <= LOGIT_TOLERANCE / 10
