"""A build is served in a precision that passed its gate."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from auralsam2_client.contract import STAGE_NAMES
from export.builds import served_precision
from export.builds.repository import build_repository
from export.builds.triton_config import parse
from export.errors import ParityError
from export.gates.stage_gate import GateResult
from export.settings import ExportSettings
from model_repository.stage_runtime.engine import engines as engine


@pytest.mark.parametrize(
    ("has_bfloat16", "passes", "served"), [(True, True, "auto"), (True, False, "float32"), (False, True, "float32")]
)
def test_auto_serves_bfloat16_only_where_it_passed(
    has_bfloat16: bool,
    passes: bool,
    served: str,
    small_settings: ExportSettings,
    ready_made: Callable[..., GateResult],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried, lines = list[str](), list[str]()

    def gate(
        settings: object, model: object, stages: object, load: object, precision: str, *rest: object
    ) -> GateResult:
        tried.append(precision)
        if precision == "bfloat16" and not passes:
            raise ParityError("hiera graph vs PyTorch: PATCHES_1 relative RMS 6.0e-01")
        return ready_made(settings, model, stages, load, precision, *rest)

    monkeypatch.setattr(served_precision, "pass_gate", gate)
    monkeypatch.setattr(engine, "openvino_capabilities", lambda: ["FP32", *["BF16"] * has_bfloat16])
    settings = dataclasses.replace(small_settings, precision="auto")
    build = build_repository(settings, tmp_path / "build", lines.append)
    assert tried == (["bfloat16"] if has_bfloat16 else []) + (["float32"] if served == "float32" else [])
    assert json.loads((build / "manifest.json").read_text())["precision"] == served
    for name in STAGE_NAMES:
        config = parse((build / "models" / name / "config.pbtxt").read_text())
        assert config.parameters["precision"].string_value == served
    told = [line for line in lines if "float32 instead of bfloat16" in line and "6.0e-01" in line]
    assert len(told) == (has_bfloat16 and not passes)
