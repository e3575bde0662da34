"""Which parts of each stage stay float32 when it is cast to float16 or bfloat16.

Decided by measuring one part at a time on clips of the procedural world, and by what others found on SAM2's own weights
(EXPERIMENTS.md, 2026-11-24). `cast_graph` keeps layer norms, softmax, statistics and what a logarithm reads in float32
whatever is said here.

float16   encoder, fuser and memory attention bear it. The rest of the decoder stage is float32: it holds a fifteenth of
          that stage's products, adds a third to the error of the whole chain on `compact`, and with SAM2's own weights
          others lost the mask in it.
bfloat16  everywhere, but for what one frame leaves behind for later ones (spatial memory and object pointer, and so
          the positions added to them), because a recurrence adds up what is rounded there, and for the last products
          before each output.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import onnx

from auralsam2_client.contract import RESULTS, STAGE_NAMES
from export.errors import ExportError
from export.precision.half_precision import CastRecord, cast_graph
from export.precision.type_rules import PRECISIONS

NEAR_OVERFLOW: dict[str, tuple[str, ...]] = dict.fromkeys(STAGE_NAMES, ())
"""Tensors of each stage within a factor of 4 of float16's largest number on real clips: none. The largest is 6.8e3, in
the fusion at 224 px (`compact`, its trained weights); before the fusion divided early it was 1.03e6."""


@dataclass(frozen=True)
class CastPolicy:
    """What stays float32; the arguments of `cast_graph` by the same names."""

    keep: tuple[str, ...] = ()
    """Names of weights, nodes or tensors, with shell wildcards. Weights have the network's own names; those of nodes
    and tensors are numbered, and change with preset and size."""
    wide_outputs: tuple[str, ...] = ()
    """Outputs whose last products stay float32."""


# All four are thresholds or choices: masks at 0, the best of three by IOU, presence at OBJECT_SCORE 0.
_DECODER_KEEP = {
    "float16": ("sam.sam_mask_decoder.*", "sam.sam_prompt_encoder.*", "sam.memory_encoder.*", "sam.obj_ptr_proj.*"),
    "bfloat16": ("sam.memory_encoder.out_proj.*", "sam.obj_ptr_proj.*"),
}


def policy(stage: str, precision: str) -> CastPolicy:
    """Decide what of `stage` stays float32 in `precision`.

    Args:
        stage: vggish | hiera | aural_fuser | sam2_decoder.
        precision: "float16" | "bfloat16".
    Raises: ExportError for another stage or precision.
    """
    if stage not in STAGE_NAMES or precision not in PRECISIONS:
        raise ExportError(
            f"stage {stage!r} in {precision!r}: {', '.join(STAGE_NAMES)} are cast, to {' or '.join(PRECISIONS)}."
        )
    keep = NEAR_OVERFLOW[stage] if precision == "float16" else ()
    if stage != "sam2_decoder":
        return CastPolicy(keep)
    return CastPolicy((*_DECODER_KEEP[precision], *keep), RESULTS)


def cast_stage(stage: str, source: Path, out: Path, precision: str) -> CastRecord:
    """Write a stage's float32 graph to `out`, in `precision` but for what its policy keeps in float32.

    A pattern that names nothing in this preset and size is left out: presets differ in what they hold, and a clip of
    one frame has no memory.

    Args:
        source: the ONNX file, its fused operators written out.
    Raises: ExportError as `policy` and `cast_graph` do.
    """
    chosen = policy(stage, precision)
    names = _names(source)
    keep = [pattern for pattern in chosen.keep if any(fnmatchcase(name, pattern) for name in names)]
    return cast_graph(source, out, precision, keep=keep, wide_outputs=chosen.wide_outputs)


def _names(source: Path) -> set[str]:
    """Of all nodes, tensors and weights of a graph: what a pattern can name."""
    graph = onnx.load(source).graph
    names = {name for node in graph.node for name in (node.name, *node.output)}
    return names | {value.name for value in (*graph.input, *graph.initializer)}
