"""What stays float32 in a cast stage: each known way to lose the mask, looked for in the graphs of a small export."""

from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx_ir import DataType, Node, Value

from auralsam2.data.pictures import resize
from auralsam2.data.world.held_out import read_split
from auralsam2.data.world.scenes import SPLITS
from auralsam2_client.contract import STAGE_NAMES
from export.errors import ExportError
from export.gates.parity import run_network
from export.graphs.chain import run_clip, split_calls
from export.graphs.onnx_graph import export_stage
from export.graphs.stages import Stage, build_stages
from export.precision import stage_casts
from export.precision.half_precision import cast_graph
from export.precision.largest_values import largest_values
from export.precision.stage_casts import NEAR_OVERFLOW, cast_stage, policy
from export.precision.type_rules import LARGEST, PRODUCTS
from export.settings import ExportSettings, load_model
from model_repository.stage_runtime.engine import Array, load_engine
from tests.export.overflow import near_overflow

NARROW = {"float16": DataType.FLOAT16, "bfloat16": DataType.BFLOAT16}
FLOATS = {DataType.FLOAT, *NARROW.values()}
MAKES_TABLES = 1e-2  # cos^2 + sin^2 - 1 of tables with 8 bits
both = pytest.mark.parametrize("kind", list(NARROW))
every_stage = pytest.mark.parametrize("stage", STAGE_NAMES)
Graph = ir.Graph


def read(path: Path) -> Graph:
    """A graph with the type of every tensor."""
    return ir.from_proto(onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True)).graph


@pytest.fixture(scope="module")
def cast(plain_graphs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Graph]:
    """The graph of a stage in a precision, cast once."""
    folder, made = tmp_path_factory.mktemp("cast"), dict[tuple[str, str], Graph]()

    def get(stage: str, kind: str) -> Graph:
        if (stage, kind) not in made:
            path = folder / f"{stage}-{kind}.onnx"
            cast_stage(stage, plain_graphs[stage], path, kind)
            made[stage, kind] = read(path)
        return made[stage, kind]

    return get


def computes_in(node: Node) -> set[DataType]:
    return {value.dtype for value in node.inputs if value is not None and value.dtype in FLOATS}


def producer(value: Value | None) -> Node | None:
    return None if value is None else value.producer()


def before(values: Iterable[Value | None]) -> Iterator[Node]:
    """What `values` are made by, back to the nearest products and with them."""
    found, waiting = set[Node](), [producer(value) for value in values]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found.add(node)
            yield node
            if node.op_type not in PRODUCTS:
                waiting += [producer(value) for value in node.inputs]


def after(values: Iterable[Value]) -> Iterator[Node]:
    """What is made of `values`, on to the nearest products and with them."""
    found, waiting = set[Node](), [use.node for value in values for use in value.uses()]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            yield node
            if node.op_type not in PRODUCTS:
                waiting += [use.node for value in node.outputs for use in value.uses()]


def products(nodes: Iterable[Node]) -> list[Node]:
    return [node for node in nodes if node.op_type in PRODUCTS]


def weights_of(node: Node) -> set[str]:
    """Names of the weights that a product reads, and of the bias that is added to it; "" for one without a name."""
    names = {str(value.name) for value in node.inputs if value is not None and value.is_initializer()}
    for output in node.outputs:
        adds = [use.node for use in output.uses() if use.node.op_type == "Add"]
        names |= {str(v.name) for add in adds for v in add.inputs if v is not None and v.is_initializer()}
    return names


def reading(graph: Graph, *patterns: str) -> list[Node]:
    """The products with a weight of one of these names."""
    return [
        node
        for node in products(graph)
        if any(fnmatchcase(name, pattern) for name in weights_of(node) for pattern in patterns)
    ]


def rotary_tables(graph: Graph, num_rows: int) -> list[Value]:
    """The constants [N, C / 2] that are cosines and sines of the same angles."""
    tables = {
        value: array
        for value in graph.initializers.values()
        if value.dtype in FLOATS
        and value.const_value is not None
        # Tables may be given an axis of their own for the heads.
        and (array := np.squeeze(value.const_value.numpy()).astype(np.float32)).ndim == 2
        and array.shape[0] == num_rows
        and np.ptp(array) > 1
    }
    return [
        one
        for one, ours in tables.items()
        if any(
            ours.shape == theirs.shape and np.abs(ours**2 + theirs**2 - 1).max() < MAKES_TABLES
            for other, theirs in tables.items()
            if other is not one
        )
    ]


def rotated_products(graph: Graph, settings: ExportSettings) -> list[Node]:
    """The products of queries and keys that were turned."""
    tables = rotary_tables(graph, (settings.size // 16) ** 2)
    assert len(tables) == 2
    return products(after(tables))


# compact: two layers, in each self attention and reading the memory; the first of two frames has no memory.
NUM_ROTATED = 2 * 2


@both
def test_rotated_queries_and_keys_meet_in_the_type_of_the_attention(
    kind: str, cast: Callable[[str, str], Graph], small_settings: ExportSettings
) -> None:
    """Left in float32 by the rotation, they would take the attention out of the engine's fused kernels."""
    attentions = rotated_products(cast("sam2_decoder", kind), small_settings)
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
def test_norms_softmax_and_statistics_are_float32(stage: str, kind: str, cast: Callable[[str, str], Graph]) -> None:
    wide = {"LayerNormalization", "Softmax", "Pow", "ReduceMean", "ReduceSum", "Sqrt"}
    found = [node for node in cast(stage, kind) if node.op_type in wide]
    assert found
    for node in found:
        assert computes_in(node) == {DataType.FLOAT}, node.name


@both
def test_norms_over_channels_divide_in_float32(kind: str, cast: Callable[[str, str], Graph]) -> None:
    """SAM2's LayerNorm2d is written out: its division comes right after a root."""
    graph = cast("sam2_decoder", kind)
    roots = [node for node in graph if node.op_type == "Sqrt"]
    assert roots
    for root in roots:
        (division,) = (use.node for use in root.outputs[0].uses())
        assert division.op_type in ("Div", "Reciprocal")
        assert computes_in(division) == {DataType.FLOAT}


@both
@pytest.mark.parametrize("output", ["MASK_LOGITS", "CANDIDATE_LOGITS", "IOU", "OBJECT_SCORE"])
def test_the_last_product_of_each_output_is_float32(output: str, kind: str, cast: Callable[[str, str], Graph]) -> None:
    (value,) = (value for value in cast("sam2_decoder", kind).outputs if value.name == output)
    last = products(before([value]))
    assert last
    assert {dtype for node in last for dtype in computes_in(node)} == {DataType.FLOAT}


@both
def test_positions_are_added_to_the_memory_in_float32(kind: str, cast: Callable[[str, str], Graph]) -> None:
    keys = reading(cast("sam2_decoder", kind), "*cross_attn_image.k_proj.*")
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
def test_what_a_frame_leaves_behind_is_float32(kind: str, cast: Callable[[str, str], Graph]) -> None:
    """Memory and pointer of one frame are read by all later ones."""
    for node in reading(cast("sam2_decoder", kind), "*memory_encoder.out_proj.*", "*obj_ptr_proj.*"):
        assert computes_in(node) == {DataType.FLOAT}


def test_of_the_decoder_memory_attention_alone_is_float16(
    cast: Callable[[str, str], Graph], small_settings: ExportSettings
) -> None:
    graph = cast("sam2_decoder", "float16")
    narrow = {node for node in products(graph) if DataType.FLOAT16 in computes_in(node)}
    memory_attention = set(reading(graph, "sam.memory_attention.*"))
    attentions = set(rotated_products(graph, small_settings))
    attentions |= {use for node in attentions for use in products(after(node.outputs))}
    assert narrow == memory_attention | attentions
    # Projections of 2 attentions, one of the temporal encoding, and 2 layers of the feed-forward, in each of 2 layers.
    assert len(memory_attention) == 2 * (4 + 4 + 1 + 2)


def test_in_bfloat16_the_decoder_is_narrow_throughout(cast: Callable[[str, str], Graph]) -> None:
    graph = cast("sam2_decoder", "bfloat16")
    parts = ("sam.memory_attention.*", "sam.sam_mask_decoder.transformer.*", "sam.memory_encoder.fuser.*")
    for part in parts:
        found = reading(graph, part)
        assert found, part
        assert all(computes_in(node) == {DataType.BFLOAT16} for node in found), part


@both
def test_encoder_and_fuser_are_narrow_throughout(kind: str, cast: Callable[[str, str], Graph]) -> None:
    for stage in ("hiera", "aural_fuser"):
        found = products(cast(stage, kind))
        assert found
        assert all(computes_in(node) == {NARROW[kind]} for node in found), stage


@both
def test_of_sound_the_spectrum_alone_is_float32(kind: str, cast: Callable[[str, str], Graph]) -> None:
    found = products(cast("vggish", kind))
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


# Largest values, on clips with own sound of every split, and a silent one.


def real_clips(settings: ExportSettings) -> list[dict[str, Array]]:
    samples = [sample for split in SPLITS for sample in read_split(split, 1, num_frames=settings.num_frames)]
    clips = [{"FRAMES": resize(sample.frames, settings.size), "AUDIO": sample.windows} for sample in samples]
    return [*clips, {**clips[0], "AUDIO": np.zeros_like(clips[0]["AUDIO"])}]


@pytest.fixture(scope="module")
def largest(
    small_settings: ExportSettings, plain_stages: tuple[Stage, ...], plain_graphs: dict[str, Path]
) -> dict[str, dict[str, float]]:
    """Of every tensor of every stage, at 224 px, where the fusion's rows straddle channels."""
    wires, found = real_clips(small_settings), {}
    for stage in plain_stages:
        engine = load_engine("onnxruntime", plain_graphs[stage.name])
        calls = [call for wire in wires for call in split_calls(engine, wire)]
        found[stage.name] = largest_values(plain_graphs[stage.name], *calls)
        for wire in wires:
            wire |= run_clip(engine, wire)
    return found


def narrow_ones(names: Iterable[str], graph: Graph) -> list[str]:
    """Those of the tensors that are not float32 in a cast graph."""
    types = {str(value.name): value.dtype for node in graph for value in node.outputs}
    return [name for name in names if types.get(name) != DataType.FLOAT]


@every_stage
def test_the_recorded_tensors_are_those_near_overflow(
    stage: str, largest: dict[str, dict[str, float]], cast: Callable[[str, str], Graph]
) -> None:
    near = near_overflow(largest[stage], "float16")
    assert near == NEAR_OVERFLOW[stage]
    assert not narrow_ones(near, cast(stage, "float16"))


def test_the_largest_value_is_the_fusion_s(largest: dict[str, dict[str, float]]) -> None:
    """A float16 engine has a factor of four left, and a bit; before the division moved it was 1e6."""
    peak = {stage: max(values.values()) for stage, values in largest.items()}
    assert max(peak, key=lambda stage: peak[stage]) == "aural_fuser"
    assert 1e3 < peak["aural_fuser"] < LARGEST["float16"] / 4


def test_the_fusion_by_blocks_is_not_near_overflow_either(tmp_path: Path) -> None:
    """At 256 px, the preset's own size."""
    settings = ExportSettings(num_frames=2, engine="onnxruntime")
    stages = build_stages(load_model(settings), 2, 0, settings.read_out, 2)
    vggish, hiera, fuser, _ = stages
    wire = {name: torch.from_numpy(value) for name, value in real_clips(settings)[1].items()}
    wire |= run_network(vggish, wire)
    wire |= run_network(hiera, wire)
    inputs = {spec.name: wire[spec.name].numpy() for spec in fuser.inputs}
    largest = largest_values(export_stage(fuser, tmp_path / "fuser.onnx"), inputs)
    assert near_overflow(largest, "float16") == NEAR_OVERFLOW["aural_fuser"]


def test_what_comes_near_overflow_is_found_and_can_be_kept(
    plain_graphs: dict[str, Path], plain_stages: tuple[Stage, ...], tmp_path: Path
) -> None:
    """With louder sound the fusion, a product of three, comes near: the checks above see it, and `keep` cures it."""
    proto = onnx.load(plain_graphs["aural_fuser"])
    for weight in proto.graph.initializer:
        if weight.name.endswith("fusion_modules.0.sound_in"):
            array = onnx.numpy_helper.to_array(weight) * np.float32(64)
            weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))
    onnx.save(proto, tmp_path / "loud.onnx")
    draw = np.random.default_rng(0)
    fuser = plain_stages[STAGE_NAMES.index("aural_fuser")]
    inputs = {spec.name: draw.standard_normal(spec.shape, dtype=np.float32) for spec in fuser.inputs}
    near = near_overflow(largest_values(tmp_path / "loud.onnx", inputs), "float16")
    assert near
    cast_stage("aural_fuser", tmp_path / "loud.onnx", tmp_path / "cast.onnx", "float16")
    assert narrow_ones(near, read(tmp_path / "cast.onnx"))
    cast_graph(tmp_path / "loud.onnx", tmp_path / "kept.onnx", "float16", keep=near)
    assert not narrow_ones(near, read(tmp_path / "kept.onnx"))
