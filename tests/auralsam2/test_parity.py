"""The network against the published figures (parity/*.npz), stage by stage and as a whole.

Encoder and fuser are well conditioned: 5e-5 holds wherever the tests run. The decoder is not, on these weights. The
recipe takes every key with "token" in it for an embedding, so `cross_attn_token_to_image.*` and
`final_attn_token_to_image.*` have a standard deviation of 0.5 instead of 1/16, the attention logits one of 100 to 450,
and the softmax chooses single pixels. One unit in the last place of a weight or a feature then moves a frame's logits
by 1e-4 to 1e-2, by several units where a near tie falls the other way (base_plus frame 4). The golden figures are a
float32 run of another CPU, so no implementation can promise the published 2e-3 on every frame and CPU.

What holds instead, in the form `max(published tolerance, K * response)`: the response of a frame is how far its outputs
move, in float64, when the features that the tracker gets move by the rounding error that they have in float32 (each
element by its own, with random sign) and the tracker's weights by one unit in the last place; largest of 8 draws.
The measure needs no golden figure and hardly depends on the CPU. K:
- 2 for golden against our network in float64: golden is ONE float32 run, and 8 draws do not find the extreme (nor do
  they include the roundings inside the tracker).
- 3 for golden against our network in float32: two such runs, whose extremes do not coincide. Of two runs that add in
  different order (one thread and two) the nearer counts, frame by frame: with AVX-512 and one thread a near tie in
  frame 2 of base_plus falls the other way, 1.7 away, and with two threads it does not.
Evidence free of the amplification: the stages, medians, the frames that meet 2e-3 in float64 (the same everywhere),
mutations that break parity by orders of magnitude, and components against the sam2 package on well-scaled weights
(test_against_sam2.py).
"""

import copy
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import auralsam2.model
from auralsam2 import AuralSAM2, mask_decoder, tracker
from auralsam2.aural_fuser import AuralFeatures
from auralsam2.parity_weights import parity_state
from auralsam2.tracker import ImageFeatures, Tracked, track

STAGE_TOLERANCE = 5e-5
# Published tolerances; the object pointer has none, it is held like the other heads.
TOLERANCE = {"low_res_logits": 2e-3, "iou": 1e-3, "object_score": 1e-3, "object_pointer": 1e-3}
K_EXACT, K_FLOAT32 = 2, 3
NUM_DRAWS = 8
ULP = 2.0**-23
FILES = ("tiny_256_t3", "base_plus_256_t5", "small_224_t4_text_mid")
PRESETS = {"t": "hiera_tiny", "s": "hiera_small", "b+": "hiera_base_plus"}
# Frames whose float64 logits lie within 2e-3 of the golden float32 ones; the others are where golden itself is rounded.
WITHIN_TOLERANCE = {"tiny_256_t3": [0, 1], "base_plus_256_t5": [], "small_224_t4_text_mid": []}


def golden_inputs(num_frames: int, image_size: int, seed: int, has_text: bool) -> list[Tensor | None]:
    """Frames, log-mel and text of a golden case, drawn in this order from RandomState(1000 + seed)."""
    draw = np.random.RandomState(1000 + seed)
    shapes = [(num_frames, 3, image_size, image_size), (num_frames, 2, 96, 64)]
    shapes += [(1, 25, 768)] if has_text else []
    drawn: list[Tensor | None] = [torch.from_numpy(draw.standard_normal(shape).astype(np.float32)) for shape in shapes]
    return drawn if has_text else [*drawn, None]


@dataclass(frozen=True)
class Seen:
    """What one forward pass computed on its way."""

    out: Tracked
    vggish: Tensor
    fpn: list[Tensor]
    patches: tuple[Tensor, Tensor, Tensor]
    image: ImageFeatures
    aural: AuralFeatures

    def features(self) -> list[Tensor]:
        return [*self.image, *self.aural.visual, *self.aural.audio]


def watched(model: AuralSAM2, inputs: list[Tensor | None], conditioning_frame: int) -> Seen:
    """One ordinary forward pass, its inner values kept."""
    seen: dict[str, Any] = {"fpn": {}}
    fuser = model.aural_fuser

    def keep_vggish(_module: nn.Module, _args: Any, out: Tensor) -> None:
        seen["vggish"] = out

    def keep_patches(_module: nn.Module, args: Any) -> None:
        seen["patches"] = args[0]

    def keep_track(sam: Any, image: ImageFeatures, aural: AuralFeatures, *rest: Any) -> Tracked:
        seen["image"], seen["aural"] = image, aural
        seen["out"] = track(sam, image, aural, *rest)
        return seen["out"]

    hooks = [fuser.vgg.register_forward_hook(keep_vggish), fuser.register_forward_pre_hook(keep_patches)]
    for level, embed in enumerate(fuser.patch_embeds):
        hooks.append(
            embed.register_forward_pre_hook(lambda _m, args, level=level: seen["fpn"].update({level: args[0]}))
        )
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(auralsam2.model, "track", keep_track)
        model(*inputs, conditioning_frame)
    for hook in hooks:
        hook.remove()
    seen["fpn"] = [seen["fpn"][level] for level in range(3)]
    return Seen(**seen)


@dataclass
class Case:
    """One golden file, our float32 run, our float64 run, and what rounding does to it. `model` is in float64."""

    name: str
    golden: dict[str, NDArray[Any]]
    model: AuralSAM2
    inputs: list[Tensor | None]
    keys: dict[str, tuple[int, ...]]
    single: Seen
    reordered: Tracked
    """A float32 run on two threads: the same sums in another order."""
    exact: Seen
    fused: Seen
    """A float32 run of the fused operators."""
    fused_reordered: Tracked
    silent: list[Tensor]
    """The tracker's features when the clip falls silent."""
    misaligned: list[Tensor]
    """The tracker's features when the fusion leaves out `align_channel`."""
    response: dict[str, NDArray[np.float64]]

    @property
    def conditioning_frame(self) -> int:
        return int(self.golden["cond_frame"])

    def expected(self, field: str) -> NDArray[Any]:
        return self.golden["obj_ptr" if field == "object_pointer" else field]

    def error(self, field: str, run: Tracked) -> NDArray[np.float64]:
        return by_frame(getattr(run, field).double().numpy() - self.expected(field))

    def retrack(self, features: list[Tensor]) -> Tracked:
        """The tracker alone on other features, in float64."""
        image, aural = ImageFeatures(*features[:3]), AuralFeatures(tuple(features[3:6]), tuple(features[6:]))
        dense = mask_decoder.dense_positions(self.model.v_model)
        return track(self.model.v_model, image, aural, self.conditioning_frame, self.model.positions(), dense)


def fuse_again(model: AuralSAM2, seen: Seen, inputs: list[Tensor | None], log_mel: Tensor) -> list[Tensor]:
    """The tracker's features for the same frames with another sound, in float64; the fuser runs in the model's type."""
    aural = model.aural_fuser(seen.patches, model.aural_fuser.tokens(log_mel, inputs[2]))
    return [feature.double() for feature in (*seen.image, *aural.visual, *aural.audio)]


def without_align_channel(model: AuralSAM2, seen: Seen, inputs: list[Tensor | None]) -> list[Tensor]:
    aligns = [fusion.align_channel for fusion in model.aural_fuser.fusion_modules]
    kept = [(align.weight.clone(), align.bias.clone()) for align in aligns]
    for align in aligns:
        align.weight.copy_(torch.eye(align.weight.shape[0])[:, :, None])
        align.bias.zero_()
    features = fuse_again(model, seen, inputs, inputs[1])
    for align, (weight, bias) in zip(aligns, kept, strict=True):
        align.weight.copy_(weight)
        align.bias.copy_(bias)
    return features


def by_frame(difference: NDArray[Any]) -> NDArray[np.float64]:
    """The largest absolute element of each frame."""
    largest: NDArray[np.float64] = np.abs(difference).reshape(difference.shape[0], -1).max(axis=1)
    return largest


def rounding_response(case: Case) -> dict[str, NDArray[np.float64]]:
    """For each output, the largest change of each frame over NUM_DRAWS rounding-sized changes of what is tracked."""
    sam = case.model.v_model
    weights = {name: p for name, p in sam.named_parameters() if not name.startswith("image_encoder.")}
    kept = {name: p.clone() for name, p in weights.items()}
    errors = [
        single.double() - exact for single, exact in zip(case.single.features(), case.exact.features(), strict=True)
    ]
    response = {field: np.zeros(len(case.golden["iou"])) for field in TOLERANCE}
    for seed in range(NUM_DRAWS):
        draw = torch.Generator().manual_seed(seed)

        def signs(like: Tensor, draw: torch.Generator = draw) -> Tensor:
            return torch.randint(0, 2, like.shape, generator=draw, dtype=torch.int8) * 2 - 1

        for name, weight in weights.items():
            weight.copy_(kept[name] * (1 + ULP * signs(weight)))
        moved = case.retrack([f + e * signs(e) for f, e in zip(case.exact.features(), errors, strict=True)])
        for field, largest in response.items():
            change = by_frame((getattr(moved, field) - getattr(case.exact.out, field)).numpy())
            np.maximum(largest, change, out=largest)
    for name, weight in weights.items():
        weight.copy_(kept[name])
    return response


@pytest.fixture(scope="module", params=FILES)
def case(request: pytest.FixtureRequest, parity_folder: Path) -> Iterator[Case]:
    with torch.no_grad():
        with np.load(parity_folder / f"{request.param}.npz") as file:
            golden = {key: file[key] for key in file.files}
        size, has_text = int(golden["image_size"]), bool(golden["has_text"])
        inputs = golden_inputs(int(golden["num_frames"]), size, int(golden["seed"]), has_text)
        model = AuralSAM2.from_preset(PRESETS[str(golden["backbone"])], size, has_text)
        keys = {key: tuple(value.shape) for key, value in model.state_dict().items()}
        model.load_released(parity_state(model, int(golden["seed"])))
        single = watched(model, inputs, int(golden["cond_frame"]))
        fused_model = copy.deepcopy(model).fuse()
        fused = watched(fused_model, inputs, int(golden["cond_frame"]))
        torch.set_num_threads(2)
        reordered = watched(model, inputs, int(golden["cond_frame"])).out
        fused_reordered = watched(fused_model, inputs, int(golden["cond_frame"])).out
        torch.set_num_threads(1)
        # Silence is a log-mel of zeros, found by trial: log(0.01) gives other figures on all three files.
        silent = fuse_again(model, single, inputs, torch.zeros_like(inputs[1]))
        misaligned = without_align_channel(model, single, inputs)
        model.double()
        # SAM2 computes the random-Fourier positions in float32 whatever the network's type.
        model.v_model.sam_prompt_encoder.pe_layer.float()
        doubled = [None if value is None else value.double() for value in inputs]
        exact = watched(model, doubled, int(golden["cond_frame"]))
        made = Case(
            request.param,
            golden,
            model,
            inputs,
            keys,
            single,
            reordered,
            exact,
            fused,
            fused_reordered,
            silent,
            misaligned,
            {},
        )
        yield dataclasses.replace(made, response=rounding_response(made))


def test_keys_and_shapes_are_those_of_the_released_checkpoint(
    case: Case, released_shapes: dict[str, dict[str, tuple[int, ...]]]
) -> None:
    expected = dict(released_shapes[case.model.preset.name])
    if case.golden["has_text"]:
        for layer, shape in (("0", (1024, 768)), ("2", (256, 1024))):
            expected[f"aural_fuser.text_proj.{layer}.weight"] = shape
            expected[f"aural_fuser.text_proj.{layer}.bias"] = shape[:1]
    assert case.keys == expected


@pytest.mark.parametrize("precision", ["single", "exact", "fused"])
def test_every_stage_before_the_tracker(case: Case, precision: str) -> None:
    seen: Seen = getattr(case, precision)
    stages = {
        "vggish": seen.vggish,
        "fpn0_slice": seen.fpn[0][:, ::64, ::32, ::32],
        "fpn1_slice": seen.fpn[1][:, ::32, ::16, ::16],
        "fpn2_slice": seen.fpn[2][:, ::16, ::8, ::8],
    }
    for stage in (1, 2, 3):
        stages[f"dense{stage}_slice"] = seen.aural.visual[stage - 1].flatten(2).transpose(1, 2)[:, ::17, ::16]
        stages[f"sparse{stage}"] = seen.aural.audio[stage - 1]
    errors = {name: float(np.abs(value.double().numpy() - case.golden[name]).max()) for name, value in stages.items()}
    assert max(errors.values()) <= STAGE_TOLERANCE, errors


@pytest.mark.parametrize("field", TOLERANCE)
def test_exact_arithmetic_is_within_one_float32_run_of_golden(case: Case, field: str) -> None:
    error = case.error(field, case.exact.out)
    budget = np.maximum(TOLERANCE[field], K_EXACT * case.response[field])
    assert (error <= budget).all(), f"{case.name} {field} by frame: {error}, budget {budget}"


@pytest.mark.parametrize("field", TOLERANCE)
@pytest.mark.parametrize("operators", ["plain", "fused"])
def test_float32_is_within_two_float32_runs_of_golden(
    case: Case, field: str, operators: str, record_property: Callable[[str, object], None]
) -> None:
    runs = (case.single.out, case.reordered) if operators == "plain" else (case.fused.out, case.fused_reordered)
    error = np.minimum(*(case.error(field, run) for run in runs))
    within = np.flatnonzero(error <= TOLERANCE[field]).tolist()
    record_property(f"{case.name}.{field}.error_by_frame", error.tolist())
    record_property(f"{case.name}.{field}.frames_within_published_tolerance", within)
    print(f"{case.name} {field}: {error}, response {case.response[field]}; within {TOLERANCE[field]}: frames {within}")
    budget = np.maximum(TOLERANCE[field], K_FLOAT32 * case.response[field])
    assert (error <= budget).all(), f"{case.name} {field} by frame: {error}, budget {budget}"


@pytest.mark.parametrize("case", ["tiny_256_t3"], indirect=True)
def test_fused_operators_are_exact(case: Case) -> None:
    """In float64 the fused network is the plain one, far below what float32 rounds."""
    inputs = [None if value is None else value.double() for value in case.inputs]
    fused = watched(copy.deepcopy(case.model).fuse(), inputs, case.conditioning_frame)
    error = (fused.out.low_res_logits - case.exact.out.low_res_logits).abs()
    response = case.response["low_res_logits"][:, None, None, None]
    assert (error.numpy() <= 1e-6 * np.maximum(1.0, response)).all(), by_frame(error.numpy())


def test_which_frames_meet_the_published_tolerance_outright(case: Case) -> None:
    error = case.error("low_res_logits", case.exact.out)
    assert np.flatnonzero(error <= TOLERANCE["low_res_logits"]).tolist() == WITHIN_TOLERANCE[case.name], error


@pytest.mark.parametrize("precision", ["single", "exact"])
def test_the_typical_logit_of_the_first_frame_is_right(case: Case, precision: str) -> None:
    seen: Seen = getattr(case, precision)
    difference = seen.out.low_res_logits[0].double().numpy() - case.golden["low_res_logits"][0]
    assert np.median(np.abs(difference)) <= 1e-3


def test_silence_changes_the_masks_as_much_as_published(case: Case) -> None:
    silent = case.retrack(case.silent).low_res_logits
    change = (silent - case.exact.out.low_res_logits).abs().mean().item()
    assert change == pytest.approx(float(case.golden["audio_effect"]), rel=0.03)
    assert silent.mean().item() == pytest.approx(float(case.golden["silent_low_res_logits_mean"]), abs=0.02)


# One file suffices: the others would find the same mutants at several times the cost.
mutated = pytest.mark.parametrize("case", ["tiny_256_t3"], indirect=True)


def _broken_by(case: Case, run: Tracked) -> None:
    frame = case.conditioning_frame  # reads no memory, so that it is the best conditioned
    error = case.error("low_res_logits", run)[frame]
    budget = max(TOLERANCE["low_res_logits"], K_FLOAT32 * case.response["low_res_logits"][frame])
    assert error > 10 * budget, f"{error} is within reach of {budget}: parity would not notice"


@mutated
def test_parity_notices_a_query_position_without_sound(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = case.model.v_model.sam_mask_decoder
    silent = torch.cat([decoder.obj_score_token.weight, decoder.iou_token.weight, decoder.mask_tokens.weight])[None]
    block = mask_decoder._two_way_block
    monkeypatch.setattr(
        mask_decoder, "_two_way_block", lambda b, queries, keys, _pe, key_pe: block(b, queries, keys, silent, key_pe)
    )
    _broken_by(case, case.retrack(case.exact.features()))


@mutated
def test_parity_notices_another_order_of_the_stages(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    decode = tracker.decode
    monkeypatch.setattr(
        tracker,
        "decode",
        lambda sam, image, high_res, visual, audio, pe: decode(sam, image, high_res, visual[::-1], audio[::-1], pe),
    )
    _broken_by(case, case.retrack(case.exact.features()))


@mutated
def test_parity_notices_a_missing_align_channel(case: Case) -> None:
    _broken_by(case, case.retrack(case.misaligned))
