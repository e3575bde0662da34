"""What stays float32 in a cast stage: each known way to lose the mask, looked for in the graphs of a small export."""

from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest
from onnx_ir import DataType

from export.errors import ExportError
from export.precision import stage_casts
from export.precision.stage_casts import cast_stage, policy
from export.settings import ExportSettings
from tests.export.precision.cast_graphs import (
    NARROW,
    Graph,
    after,
    before,
    both,
    computes_in,
    every_stage,
    products,
    read,
    reading,
    rotated_products,
    weights_of,
)

# compact: two layers, in each self attention and reading the memory; the first of two frames has no memory.
NUM_ROTATED = 2 * 2


@both
def test_rotated_queries_and_keys_meet_in_the_type_of_the_attention(
    kind: str, stage_cast: Callable[[str, str], Graph], small_settings: ExportSettings
) -> None:
    """Left in float32 by the rotation, they would take the attention out of the engine's fused kernels."""
    attentions = rotated_products(stage_cast("sam2_decoder", kind), small_settings)
    assert len(attentions) == NUM_ROTATED
    for node in attentions:
        assert computes_in(node) == {NARROW[kind]}
        (softmax,) = (each for each in after(node.outputs) if each.op_type == "Softmax")
        (read_values,) = products(after(softmax.outputs))
        assert computes_in(read_values) == {NARROW[kind]}


def test_positions_turn_pairs(plain_protos: dict[str, onnx.ModelProto], small_settings: ExportSettings) -> None:
    """As a matrix product rotation would cost more than the attention: between projection and attention there is none.

    Keys of object pointers are not turned; they join behind the rotation.
    """
    graph = ir.from_proto(plain_protos["sam2_decoder"]).graph
    attentions = rotated_products(graph, small_settings)
    assert len(attentions) == NUM_ROTATED
    projections = reading(graph, "*memory_attention*.q_proj.*", "*memory_attention*.k_proj.*")
    for node in attentions:
        made_by = products(before(node.inputs))
        # Queries and keys; of the keys of a remembered frame the row of the temporal encoding is projected apart.
        assert len(made_by) in (2, 3)
        assert all(product in projections for product in made_by)
        assert "Mul" in {each.op_type for each in before(node.inputs)}


@both
@every_stage
def test_norms_softmax_and_statistics_are_float32(
    stage: str, kind: str, stage_cast: Callable[[str, str], Graph]
) -> None:
    wide = {"LayerNormalization", "Softmax", "Pow", "ReduceMean", "ReduceSum", "Sqrt"}
    found = [node for node in stage_cast(stage, kind) if node.op_type in wide]
    assert found
    for node in found:
        assert computes_in(node) == {DataType.FLOAT}, node.name


@both
def test_norms_over_channels_divide_in_float32(kind: str, stage_cast: Callable[[str, str], Graph]) -> None:
    """SAM2's LayerNorm2d is written out: its division comes right after a root."""
    graph = stage_cast("sam2_decoder", kind)
    roots = [node for node in graph if node.op_type == "Sqrt"]
    assert roots
    for root in roots:
        (division,) = (use.node for use in root.outputs[0].uses())
        assert division.op_type in ("Div", "Reciprocal")
        assert computes_in(division) == {DataType.FLOAT}


@both
@pytest.mark.parametrize("output", ["MASK_LOGITS", "CANDIDATE_LOGITS", "IOU", "OBJECT_SCORE"])
def test_the_last_product_of_each_output_is_float32(
    output: str, kind: str, stage_cast: Callable[[str, str], Graph]
) -> None:
    (value,) = (value for value in stage_cast("sam2_decoder", kind).outputs if value.name == output)
    last = products(before([value]))
    assert last
    assert {dtype for node in last for dtype in computes_in(node)} == {DataType.FLOAT}


@both
def test_positions_are_added_to_the_memory_in_float32(kind: str, stage_cast: Callable[[str, str], Graph]) -> None:
    keys = reading(stage_cast("sam2_decoder", kind), "*cross_attn_image.k_proj.*")
    additions = {
        node
        for key in keys
        for node in before(key.inputs)
        if node.op_type == "Add" and any(value is not None and value.is_initializer() for value in node.inputs)
    }
    assert keys
    assert additions
    for node in additions:
        assert computes_in(node) == {DataType.FLOAT}


@both
def test_what_a_frame_leaves_behind_is_float32(kind: str, stage_cast: Callable[[str, str], Graph]) -> None:
    """Memory and pointer of one frame are read by all later ones."""
    for node in reading(stage_cast("sam2_decoder", kind), "*memory_encoder.out_proj.*", "*obj_ptr_proj.*"):
        assert computes_in(node) == {DataType.FLOAT}


def test_of_the_decoder_memory_attention_alone_is_float16(
    stage_cast: Callable[[str, str], Graph], small_settings: ExportSettings
) -> None:
    graph = stage_cast("sam2_decoder", "float16")
    narrow = {node for node in products(graph) if DataType.FLOAT16 in computes_in(node)}
    memory_attention = set(reading(graph, "sam.memory_attention.*"))
    attentions = set(rotated_products(graph, small_settings))
    attentions |= {use for node in attentions for use in products(after(node.outputs))}
    assert narrow == memory_attention | attentions
    # Projections of 2 attentions, one of the temporal encoding, and 2 layers of the feed-forward, in each of 2 layers.
    assert len(memory_attention) == 2 * (4 + 4 + 1 + 2)


def test_in_bfloat16_the_decoder_is_narrow_throughout(stage_cast: Callable[[str, str], Graph]) -> None:
    graph = stage_cast("sam2_decoder", "bfloat16")
    parts = ("sam.memory_attention.*", "sam.sam_mask_decoder.transformer.*", "sam.memory_encoder.fuser.*")
    for part in parts:
        found = reading(graph, part)
        assert found, part
        assert all(computes_in(node) == {DataType.BFLOAT16} for node in found), part


@both
def test_encoder_and_fuser_are_narrow_throughout(kind: str, stage_cast: Callable[[str, str], Graph]) -> None:
    for stage in ("hiera", "aural_fuser"):
        found = products(stage_cast(stage, kind))
        assert found
        assert all(computes_in(node) == {NARROW[kind]} for node in found), stage


@both
def test_of_sound_the_spectrum_alone_is_float32(kind: str, stage_cast: Callable[[str, str], Graph]) -> None:
    found = products(stage_cast("vggish", kind))
    wide = [node for node in found if computes_in(node) == {DataType.FLOAT}]
    assert [any(name.startswith("log_mel.") for name in weights_of(node)) for node in wide] == [True, True]
    assert len(found) > len(wide)


@every_stage
@both
def test_every_pattern_names_something(kind: str, stage: str, plain_protos: dict[str, onnx.ModelProto]) -> None:
    graph = plain_protos[stage].graph
    names = {weight.name for weight in graph.initializer} | {name for node in graph.node for name in node.output}
    for pattern in policy(stage, kind).keep:
        assert any(fnmatchcase(name, pattern) for name in names), pattern


def test_a_pattern_that_names_nothing_here_is_left_out(
    plain_graphs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(stage_casts.NEAR_OVERFLOW, "vggish", ("of_another_preset*", "vgg.features.0.bias"))
    cast_stage("vggish", plain_graphs["vggish"], tmp_path / "cast.onnx", "float16")
    (first,) = reading(read(tmp_path / "cast.onnx"), "vgg.features.0.weight*")
    assert computes_in(first) == {DataType.FLOAT}


@pytest.mark.parametrize(("stage", "kind"), [("encoder", "float16"), ("hiera", "float32")])
def test_an_unknown_stage_or_precision(stage: str, kind: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=rf"stage '{stage}' in '{kind}': vggish, hiera, .* float16 or bfloat16\."):
        cast_stage(stage, tmp_path / "missing.onnx", tmp_path / "cast.onnx", kind)
