"""The precision that a build computes in: the narrowest that was asked for and passes the gate."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy.typing as npt

from auralsam2.model.sounding_sam2 import SoundingSAM2
from auralsam2.stages.clip_stages import Stage
from auralsam2_client.contract import CLASS_HEAD, DECODER, TEXT_ENCODER
from export.builds.golden_requests import golden_pairs
from export.builds.graphs import class_stage_of, text_stage_of
from export.engines.engine_graphs import load_on_cpu, write_engine_graphs
from export.errors import ParityError
from export.gates.class_gate import pass_class_gate
from export.gates.prompt_gate import pass_prompt_gate
from export.gates.stage_gate import GateResult, pass_gate
from export.gates.text_gate import SENTENCE, Said, pass_text_gate, say
from export.loading import load_text_encoder
from export.precision.quantization import (
    QUANTISED,
    SCOPES,
    calibration,
    check_mask_iou,
    mask_iou,
    quantise_stages,
)
from export.reports import Report
from export.settings import ExportSettings
from model_repository.stage_runtime.engine import AUTO, INT8, Engine, load_engine, resolve_precision
from model_repository.stage_runtime.prompts.decoder import PromptedDecoder


def pass_in_some_precision(
    settings: ExportSettings,
    model: SoundingSAM2,
    stages: tuple[Stage, ...],
    graphs: dict[str, Path],
    clip: dict[str, npt.NDArray[Any]],
    report: Report,
) -> tuple[GateResult, str]:
    """Pass the gate in the precision that the settings ask for, and tell which one the CPU's stages are served in.

    That is "auto" only where bfloat16 passed: then another CPU may take float32, which errs less. Where bfloat16 was
    not tried, or did not pass, no other CPU may choose it.

    Raises: ParityError when none passes.
    """

    def gate(precision: str) -> GateResult:
        def load(name: str) -> Engine:
            return load_engine(settings.engine, graphs[name], precision=precision, keep_memory=False)

        said = _sentences(settings, load) if settings.text else {}
        result = pass_gate(settings, model, stages, load, precision, clip, report, said.get(""))
        if said:
            given = (settings, model, said[SENTENCE], load, precision, clip, result.read_beside, report)
            for pair, parity in pass_text_gate(*given):
                result.prompted.append(pair)
                result.parity.extend(parity)
        _pass_prompts(settings, model, graphs, precision, result, report)
        return result

    wanted = "float32" if settings.flavour is not None else settings.precision
    if wanted == INT8:
        return _pass_in_int8(settings, model, stages, graphs, clip, report), INT8
    found = resolve_precision(settings.engine, wanted)
    if wanted != AUTO or found == "float32":
        return gate(found), found
    try:
        return gate(found), AUTO
    except ParityError as error:
        report(f"note       float32 instead of {found}, which did not pass: {error}")
        return gate("float32"), "float32"


def _sentences(settings: ExportSettings, load: Callable[[str], Engine]) -> dict[str, Said]:
    """Nothing said, and the gate's sentence, as the network and the text encoder's graph have them."""
    engine, encoder, stage = load(TEXT_ENCODER), load_text_encoder(settings), text_stage_of(settings)
    return {sentence: say(sentence, encoder, stage, engine) for sentence in ("", SENTENCE)}


def _pass_prompts(
    settings: ExportSettings,
    model: SoundingSAM2,
    graphs: dict[str, Path],
    precision: str,
    result: GateResult,
    report: Report,
) -> None:
    """Add to `result` what the graphs of prompts and classes, which builds for a CPU have beside the decoder's, are
    measured at, and what those of prompts answer to the golden requests.
    """
    if settings.target == "cpu":
        decoder = PromptedDecoder.load(graphs[DECODER].parent, settings.engine, precision, None)
        result.parity.extend(pass_prompt_gate(settings, model, decoder, precision, result.features.network, report))
        result.prompted.extend(golden_pairs(settings, model, decoder, result))
    if settings.classes:
        engine = load_engine(settings.engine, graphs[CLASS_HEAD], precision=precision, keep_memory=False)
        stage, floating = class_stage_of(settings), resolve_precision(settings.engine, precision)
        result.parity.extend(pass_class_gate(stage, engine, result.read_beside, floating, report))


def pass_engine_graphs(
    settings: ExportSettings,
    build: Path,
    graphs: dict[str, Path],
    model: SoundingSAM2,
    stages: tuple[Stage, ...],
    clip: dict[str, npt.NDArray[Any]],
    result: GateResult,
    report: Report,
) -> GateResult:
    """Write the graphs of the engines; where they are narrower than those that passed, they have to pass as well."""
    narrow = write_engine_graphs(graphs, build, settings.precision, report)
    if settings.precision == "float32":
        return result
    folder = build / "emulated"

    def load(name: str) -> Engine:
        return load_on_cpu(narrow[name], settings.precision, folder)

    report(f"note       the graphs in {settings.precision} follow, emulated on the CPU")
    try:
        return pass_gate(settings, model, stages, load, settings.precision, clip, report)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _pass_in_int8(
    settings: ExportSettings,
    model: SoundingSAM2,
    stages: tuple[Stage, ...],
    graphs: dict[str, Path],
    clip: dict[str, npt.NDArray[Any]],
    report: Report,
) -> GateResult:
    """Quantise as much as the gate lets pass, and put it in the place of the graphs that it came from.

    Raises: ParityError when not even the narrowest scope passes.
    """
    samples = calibration(stages, graphs, settings.num_frames, settings.size)
    with tempfile.TemporaryDirectory() as folder:
        for scope in SCOPES:
            narrow = quantise_stages(graphs, samples, scope, Path(folder), report)

            def load(name: str, narrow: dict[str, Path] = narrow) -> Engine:
                return load_engine(settings.engine, narrow[name], precision=INT8)

            try:
                result = pass_gate(settings, model, stages, load, INT8, clip, report)
                agreement = mask_iou(stages, graphs, narrow, settings.num_frames, settings.size)
                report(f"checked    int8          masks' IoU with float32's on held-out clips {agreement:.4f}")
                check_mask_iou(agreement, scope)
                _pass_prompts(settings, model, graphs, INT8, result, report)
            except ParityError as error:
                if scope == SCOPES[-1]:
                    raise
                report(f"note       {scope} did not pass: {error}")
            else:
                for name in QUANTISED:
                    shutil.copy2(narrow[name], graphs[name])
                return result
    raise AssertionError("the last scope returns or raises")
