"""Which parts of each stage stay float32 when it is cast, by measurement (EXPERIMENTS.md)."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import onnx

from export.errors import ExportError
from export.half_precision import PRECISIONS, CastRecord, cast_graph
from export.stages import STAGE_NAMES


@dataclass(frozen=True)
class CastPolicy:
    """What stays float32, for `cast_graph`."""

    keep: tuple[str, ...] = ()
    """Names of weights, nodes or tensors, with shell wildcards."""
    wide_outputs: tuple[str, ...] = ()
    """Outputs whose last products stay float32."""


_OUTPUTS = ("MASK_LOGITS", "CANDIDATE_LOGITS", "IOU", "OBJECT_SCORE")
_DECODER = {
    "float16": CastPolicy(
        ("sam.sam_mask_decoder.*", "sam.sam_prompt_encoder.*", "sam.memory_encoder.*", "sam.obj_ptr_proj.*"), _OUTPUTS
    ),
    "bfloat16": CastPolicy(("sam.memory_encoder.out_proj.*", "sam.obj_ptr_proj.*"), _OUTPUTS),
}


def policy(stage: str, precision: str) -> CastPolicy:
    """What of `stage` stays float32 in `precision`. Raises ExportError for an unknown stage or precision."""
    if stage not in STAGE_NAMES or precision not in PRECISIONS:
        raise ExportError(
            f"stage {stage!r} in {precision!r}; there are {', '.join(STAGE_NAMES)} in {' and '.join(PRECISIONS)}."
        )
    return _DECODER[precision] if stage == "sam2_decoder" else CastPolicy()


def cast_stage(stage: str, source: Path, out: Path, precision: str) -> CastRecord:
    """Write the float32 graph of a stage, at `source`, to `out` in `precision`, as its policy says.

    A pattern of the policy that names nothing in this preset or size is left out.
    Raises: ExportError as `cast_graph` and `policy` do.
    """
    chosen = policy(stage, precision)
    graph = onnx.load(source, load_external_data=False).graph
    names = {name for node in graph.node for name in (node.name, *node.output)}
    names |= {value.name for value in (*graph.input, *graph.initializer)}
    keep = [pattern for pattern in chosen.keep if any(fnmatchcase(name, pattern) for name in names)]
    return cast_graph(source, out, precision, keep=keep, wide_outputs=chosen.wide_outputs)
