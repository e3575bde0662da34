"""The cut into four stages: what is folded is equal, what crosses is needed, and the chain is the whole."""

import pytest
import torch
from torch import Tensor, nn

from auralsam2 import AuralSAM2
from auralsam2.model.parity_weights import parity_state
from auralsam2.network import image_encoder, mask_decoder
from auralsam2.network.log_mel import LogMel
from auralsam2.network.pvt import Mlp
from auralsam2.stages.clip_stages import (
    STAGE_NAMES,
    AuralFuserStage,
    Sam2DecoderStage,
    Stage,
    build_stages,
)
from auralsam2.stages.image_stages import HieraStage, fold_lateral
from export.gates.parity import Array, run_network
from export.settings import ExportSettings

CLIENT = {"FRAMES", "AUDIO"}
ANSWER = {"MASK_LOGITS", "CANDIDATE_LOGITS", "IOU", "OBJECT_SCORE"}


def relative_rms(found: Tensor, wanted: Tensor) -> float:
    assert found.shape == wanted.shape
    return ((found - wanted).norm() / wanted.norm()).item()


@pytest.mark.parametrize(
    ("patch", "inner", "between", "outer", "size"),
    [(1, 32, 128, 16, 9), (2, 5, 7, 3, 12), (4, 11, 13, 17, 16), (1, 1, 1, 1, 1)],
)
def test_a_folded_convolution_equals_the_two(patch: int, inner: int, between: int, outer: int, size: int) -> None:
    torch.manual_seed(patch)
    lateral = nn.Conv2d(inner, between, 1)
    reader = nn.Conv2d(between, outer, patch, stride=patch)
    x = torch.randn(2, inner, size, size)
    with torch.no_grad():
        folded = fold_lateral(lateral, reader)
        assert relative_rms(folded(x), reader(lateral(x))) < 1e-6
        # Where the lateral's bias were lost, the map would be shifted.
        lateral.bias += 1  # type: ignore[operator]
        assert relative_rms(folded(x), reader(lateral(x))) > 1e-3


def test_stages_come_in_the_order_of_the_chain(small_stages: tuple[Stage, ...]) -> None:
    assert tuple(stage.name for stage in small_stages) == STAGE_NAMES


def test_every_input_comes_from_the_client_or_an_earlier_stage(small_stages: tuple[Stage, ...]) -> None:
    given = {spec.name: spec for stage in small_stages for spec in stage.inputs if spec.name in CLIENT}
    assert set(given) == CLIENT
    for stage in small_stages:
        for spec in stage.inputs:
            assert given.get(spec.name) == spec, f"{stage.name} reads {spec}"
        given |= {spec.name: spec for spec in stage.outputs}


def test_nothing_crosses_that_nobody_reads(small_stages: tuple[Stage, ...]) -> None:
    given = [spec.name for stage in small_stages for spec in stage.outputs]
    read = {spec.name for stage in small_stages for spec in stage.inputs}
    assert len(set(given)) == len(given)
    assert set(given) - read == ANSWER
    assert {spec.name for spec in small_stages[-1].outputs} == ANSWER


def test_no_full_width_map_at_stride_4_or_8_crosses(small_stages: tuple[Stage, ...], small_model: AuralSAM2) -> None:
    width, side = small_model.preset.width, small_model.image_size // 16
    for stage in small_stages:
        for spec in stage.outputs:
            assert not (spec.shape[1:2] == (width,) and spec.shape[2:] > (side, side)), spec


def test_outputs_have_the_specified_shapes_and_types(
    small_stages: tuple[Stage, ...], small_clip: dict[str, Array]
) -> None:
    wire = {name: torch.from_numpy(value) for name, value in small_clip.items()}
    for stage in small_stages:
        wire |= run_network(stage, wire)
        for spec in stage.outputs:
            assert tuple(wire[spec.name].shape) == spec.shape, spec.name
            assert wire[spec.name].dtype == torch.float32


def test_a_loop_over_frames_cuts_the_leading_axis_only(small_model: AuralSAM2) -> None:
    hiera = build_stages(small_model, 3, 0, "first", 1)[1]
    assert hiera.graph_shape(hiera.inputs[0]) == (1, 224, 224, 3)
    assert hiera.inputs[0].shape == (3, 224, 224, 3)


def test_the_first_three_stages_equal_the_network_in_float32(
    small_model: AuralSAM2, small_stages: tuple[Stage, ...], small_clip: dict[str, Array]
) -> None:
    wire = {name: torch.from_numpy(value) for name, value in small_clip.items()}
    for stage in small_stages[:3]:
        wire |= run_network(stage, wire)
    sam, fuser = small_model.v_model, small_model.aural_fuser
    with torch.no_grad():
        position = image_encoder.position_embedding(sam.image_encoder.trunk, small_model.image_size)
        fpn = image_encoder.pyramid(sam, image_encoder.normalise(wire["FRAMES"]), position)
        tokens = fuser.tokens(LogMel()(wire["AUDIO"]))
        patches = (fuser.patches(0, fpn[0]), fuser.patches(1, fpn[1]), fuser.patches(2, fpn[2]))
        features = fuser(patches, tokens)
        decoder = sam.sam_mask_decoder
        wanted = {
            "AUDIO_TOKENS": tokens,
            "HIGH_RES_S4": decoder.conv_s0(fpn[0]),
            "HIGH_RES_S8": decoder.conv_s1(fpn[1]),
            "PATCHES_1": patches[0],
            "PATCHES_2": patches[1],
            "IMAGE_EMBEDDING": fpn[2],
            **{f"VISUAL_{i + 1}": value for i, value in enumerate(features.visual)},
            **{f"SOUND_{i + 1}": value for i, value in enumerate(features.audio)},
        }
    assert set(wanted) == {spec.name for stage in small_stages[:3] for spec in stage.outputs}
    for name, value in wanted.items():
        assert relative_rms(wire[name], value) < 1e-5, name


@pytest.fixture(scope="module")
def double_model() -> AuralSAM2:
    settings = ExportSettings(image_size=224, num_frames=2)
    model = AuralSAM2.from_preset(settings.preset, settings.size, text=True)
    model.load_released(parity_state(model, 30))
    return model


@pytest.fixture
def in_double(monkeypatch: pytest.MonkeyPatch, double_model: AuralSAM2):  # type: ignore[no-untyped-def]
    """The network in float64. In float32 the tracking loop turns the rounding of a sum into 1e-3 of the logits, and no
    budget could tell a wrong fold from a reordered one."""
    dense = mask_decoder.dense_positions(double_model.float().v_model).double()
    monkeypatch.setattr(mask_decoder, "dense_positions", lambda sam: dense)
    threads = torch.get_num_threads()
    torch.set_default_dtype(torch.float64)
    # Float64 convolutions are thousands of tiny parallel regions, slow to the minute where another process has a core.
    torch.set_num_threads(1)
    yield double_model.double()
    torch.set_num_threads(threads)
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(("conditioning_frame", "read_out"), [(0, "iou_occlusion"), (1, "first")])
def test_the_chain_equals_the_network_that_was_never_cut(
    in_double: AuralSAM2, small_clip: dict[str, Array], conditioning_frame: int, read_out: str
) -> None:
    wire = {"FRAMES": torch.from_numpy(small_clip["FRAMES"]), "AUDIO": torch.from_numpy(small_clip["AUDIO"]).double()}
    for stage in build_stages(in_double, 2, conditioning_frame, read_out, 1):  # type: ignore[arg-type]
        stage.module.double()
        wire |= run_network(stage, wire)
    with torch.no_grad():
        whole = in_double(
            image_encoder.normalise(wire["FRAMES"]),
            LogMel().double()(wire["AUDIO"]),
            conditioning_frame=conditioning_frame,
        )
    assert relative_rms(wire["MASK_LOGITS"], whole.select(read_out)) < 1e-9
    assert relative_rms(wire["CANDIDATE_LOGITS"], whole.low_res_logits) < 1e-9
    assert relative_rms(wire["IOU"], whole.iou) < 1e-9
    assert relative_rms(wire["OBJECT_SCORE"], whole.object_score[:, 0]) < 1e-9


def test_text_tokens_go_through_fuser_and_decoder_stages(in_double: AuralSAM2, small_clip: dict[str, Array]) -> None:
    """Ref-AVS: words follow the sound's tokens. The graphs take T tokens, the modules under them take T + L."""
    torch.manual_seed(0)
    text = torch.randn(1, 4, 128)
    frames = torch.from_numpy(small_clip["FRAMES"])
    log_mel = LogMel().double()(torch.from_numpy(small_clip["AUDIO"]).double())
    with torch.no_grad():
        tokens = in_double.aural_fuser.tokens(log_mel, text)
        s4, s8, patches_1, patches_2, embedding = HieraStage(in_double).double()(frames)
        features = AuralFuserStage(in_double)(patches_1, patches_2, embedding, tokens)
        masks, *_ = Sam2DecoderStage(in_double, 1, "iou")(s4, s8, embedding, *features)
        whole = in_double(image_encoder.normalise(frames), log_mel, text, conditioning_frame=1)
        without = in_double(image_encoder.normalise(frames), log_mel, conditioning_frame=1)
    assert tokens.shape[0] == 2 + 4
    assert relative_rms(masks, whole.select("iou")) < 1e-9
    assert relative_rms(masks, without.select("iou")) > 1e-3, "the words change nothing"


def test_the_conditioning_frame_matters(in_double: AuralSAM2, small_clip: dict[str, Array]) -> None:
    """Else the test of the odd one above would say nothing."""
    frames = image_encoder.normalise(torch.from_numpy(small_clip["FRAMES"]))
    log_mel = LogMel().double()(torch.from_numpy(small_clip["AUDIO"]).double())
    with torch.no_grad():
        first, second = (in_double(frames, log_mel, conditioning_frame=t).low_res_logits for t in (0, 1))
    assert relative_rms(first, second) > 1e-3


def test_mlps_of_large_maps_take_frames_one_by_one_with_the_same_result() -> None:
    torch.manual_seed(3)
    mlp, x = Mlp(16).eval(), torch.randn(3, 64, 16)
    with torch.no_grad():
        at_once = mlp(x, 8)
        mlp.by_frame = True
        torch.testing.assert_close(mlp(x, 8), at_once)
    model = AuralSAM2.from_preset("hiera_tiny", 512)
    for frames_per_call, for_cpu in ((1, True), (5, False)):
        (fuser,) = (
            stage.module
            for stage in build_stages(model, 5, 0, "iou_occlusion", frames_per_call, not for_cpu, for_cpu)
            if stage.name == "aural_fuser"
        )
        by_frame = {part.by_frame for part in fuser.modules() if isinstance(part, Mlp)}
        assert by_frame == {for_cpu}
