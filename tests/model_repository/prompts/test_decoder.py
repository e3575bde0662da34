"""The loop over prompted clips, from a filled build's own files, against the network in PyTorch."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from auralsam2 import AuralSAM2
from auralsam2.network.image_encoder import normalise
from auralsam2.network.memory import reach as network_reach
from auralsam2.network.tracker import ImageFeatures
from auralsam2.prompted import prompts as network_prompts
from auralsam2_client.contract import MAX_POINTS
from export.gates.sample_clip import sample_frames
from export.loading import load_aural_sam2
from export.settings import ExportSettings
from model_repository.stage_runtime.engine import Engine, EngineError
from model_repository.stage_runtime.prompts.arrays import HostArrays
from model_repository.stage_runtime.prompts.decoder import PromptedDecoder
from model_repository.stage_runtime.prompts.given_mask import given_mask
from model_repository.stage_runtime.prompts.memory import reach
from model_repository.stage_runtime.prompts.reading import Prompt

Array = npt.NDArray[np.float32]
BUDGET = 1e-3
SIZE, NUM_FRAMES, SIDE = 256, 5, 64
POINTS = [(120, 90), (40, 200), (130, 100), (77, 61), (200, 180)]
LABELS = [1, 0, 1, 1, 0]
BOX = [(60, 50), (190, 210)]
NAMES = ("CANDIDATE_LOGITS", "IOU", "OBJECT_SCORE", "MASK_LOGITS")


@pytest.fixture(scope="module")
def folder(compact_build: Path) -> Path:
    return compact_build / "models" / "sam2_decoder" / "1"


@pytest.fixture(scope="module")
def decoder(folder: Path) -> PromptedDecoder:
    return PromptedDecoder.load(folder, "openvino", "float32", None)


@pytest.fixture(scope="module")
def network(compact_settings: ExportSettings) -> AuralSAM2:
    return load_aural_sam2(compact_settings)


@pytest.fixture(scope="module")
def image(network: AuralSAM2) -> ImageFeatures:
    with torch.no_grad():
        return network.image_features(normalise(torch.from_numpy(sample_frames(NUM_FRAMES, SIZE))))


@pytest.fixture(scope="module")
def features(image: ImageFeatures) -> dict[str, Array]:
    return dict(zip(("HIGH_RES_S4", "HIGH_RES_S8", "IMAGE_EMBEDDING"), (part.numpy() for part in image), strict=True))


def prompt(
    frame: int,
    points: list[tuple[int, int]],
    labels: list[int],
    mask: Array | None = None,
    previous: Array | None = None,
) -> Prompt:
    coords = np.reshape(np.array(points, np.float32), (-1, 2))
    return Prompt(frame, coords, np.array(labels, np.int32), mask, previous)


def same(
    decoder: PromptedDecoder,
    network: AuralSAM2,
    image: ImageFeatures,
    features: dict[str, Array],
    prompts: list[Prompt],
) -> dict[str, Array]:
    """The loop's answer, after it was held against the network's."""
    found = decoder(features, prompts)
    theirs = []
    for given in prompts:
        maps = [None if part is None else torch.from_numpy(part) for part in (given.mask, given.previous)]
        points = torch.from_numpy(given.coords), torch.from_numpy(given.labels)
        theirs.append(network_prompts.FramePrompt(given.frame, *points, *maps))
    with torch.no_grad():
        clip = network.track_prompts(image, theirs)
    wanted = (clip.low_res_logits, clip.iou, clip.object_score[:, 0], clip.masks)
    assert set(found) == set(NAMES)
    for name, value in zip(NAMES, wanted, strict=True):
        assert found[name].dtype == np.float32
        assert found[name].flags.owndata
        np.testing.assert_allclose(found[name], value.numpy(), rtol=0, atol=BUDGET, err_msg=name)
    return found


def ellipse() -> Array:
    y, x = np.mgrid[:SIDE, :SIDE]
    return np.asarray(((x - 30) / 15) ** 2 + ((y - 24) / 9) ** 2 < 1, np.float32)


CASES = {
    "1 point": [prompt(0, POINTS[:1], LABELS[:1])],
    "5 points in the middle": [prompt(2, POINTS, LABELS)],
    "box on the last frame": [prompt(4, BOX, [2, 3])],
    "box and points in the middle": [prompt(1, BOX + POINTS[:4], [2, 3, *LABELS[:4]])],
    "every slot": [prompt(0, (POINTS * 4)[:MAX_POINTS], (LABELS * 4)[:MAX_POINTS])],
    "mask": [prompt(0, [], [], ellipse())],
    "mask in the middle": [prompt(3, [], [], ellipse())],
    "mask that points refine": [prompt(1, POINTS[:2], LABELS[:2], ellipse())],
    "mask without anything inside": [prompt(2, [], [], np.zeros((SIDE, SIDE), np.float32))],
    "several frames, out of order": [prompt(3, POINTS[:2], LABELS[:2]), prompt(1, [], [], ellipse())],
    "every frame": [prompt(t, POINTS[: t + 1], LABELS[: t + 1]) for t in range(NUM_FRAMES)],
}


@pytest.mark.parametrize("case", CASES)
def test_the_loop_is_the_networks(
    case: str, decoder: PromptedDecoder, network: AuralSAM2, image: ImageFeatures, features: dict[str, Array]
) -> None:
    same(decoder, network, image, features, CASES[case])


def test_later_rounds_read_earlier_logits(
    decoder: PromptedDecoder, network: AuralSAM2, image: ImageFeatures, features: dict[str, Array]
) -> None:
    previous, answers = None, []
    for count in (1, 2, 4):
        found = same(decoder, network, image, features, [prompt(1, POINTS[:count], LABELS[:count], previous=previous)])
        previous = found["MASK_LOGITS"][1]
        answers.append(previous)
    alone = decoder(features, [prompt(1, POINTS[:4], LABELS[:4])])["MASK_LOGITS"][1]
    assert np.abs(alone - answers[-1]).max() > 10 * BUDGET, "the logits of the round before count"


@pytest.mark.parametrize("case", ["5 points in the middle", "mask that points refine"])
def test_a_frame_alone_is_answered_as_with_the_others(
    case: str, decoder: PromptedDecoder, features: dict[str, Array]
) -> None:
    (asked,) = CASES[case]
    alone, clip = decoder.alone(features, asked), decoder(features, [asked])
    assert set(alone) == set(clip)
    for name, value in alone.items():
        np.testing.assert_array_equal(value, clip[name][asked.frame : asked.frame + 1])


def test_a_call_leaves_nothing_behind(decoder: PromptedDecoder, features: dict[str, Array]) -> None:
    first = decoder(features, CASES["box on the last frame"])
    kept = {name: value.copy() for name, value in first.items()}
    decoder(features, CASES["every frame"])
    for name, value in decoder(features, CASES["box on the last frame"]).items():
        assert np.array_equal(value, kept[name])
        assert np.array_equal(first[name], kept[name]), "an answer is not the engine's memory"


def counted(decoder: PromptedDecoder, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each graph ran from now on."""
    calls = Counter[str]()

    def counting(name: str, engine: Engine) -> Callable[..., dict[str, Array]]:
        def call(inputs: Mapping[str, Array]) -> dict[str, Array]:
            calls[name] += 1
            return engine(inputs)

        call.output_shapes, call.input_shapes = engine.output_shapes, engine.input_shapes  # type: ignore[attr-defined]
        return call

    monkeypatch.setattr(decoder, "engines", {name: counting(name, each) for name, each in decoder.engines.items()})
    return calls


def test_what_is_kept_of_a_clip_is_not_computed_again_and_changes_nothing(
    decoder: PromptedDecoder, features: dict[str, Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second round adds a point on frame 3: the memory of the prompt on frame 1 stands, and what was prepared."""
    kept, calls = decoder.keep(), counted(decoder, monkeypatch)
    rounds = [[prompt(1, BOX, [2, 3])], [prompt(1, BOX, [2, 3]), prompt(3, POINTS[:1], [1])]]
    wanted = [decoder(features, prompts) for prompts in rounds]
    for prompts, answer in zip(rounds, wanted, strict=True):
        calls.clear()
        for name, value in decoder(features, prompts, kept).items():
            assert np.array_equal(value, answer[name]), name
    read = sum(count for name, count in calls.items() if name.startswith("memory_read"))
    # Frames 2, 4 and, backwards, 0 read. Frame 0 is the last, which nobody reads; frames 2, 3 and 4 have changed.
    assert (read, calls["memory_prepare"], calls["memory_write"]) == (3, 0, 3)


def test_what_is_kept_stays_within_its_bound(decoder: PromptedDecoder, features: dict[str, Array]) -> None:
    kept = decoder.keep()
    for frame in range(NUM_FRAMES):
        decoder(features, [prompt(frame, POINTS[:1], [1])], kept)
    held = [*kept.tokens.values(), *(memory for _, memory in kept._memories.values())]
    held += [value for answer, _ in kept._memories.values() for value in (answer.candidates, answer.mask)]
    assert len(kept.tokens) == NUM_FRAMES
    assert 0.7 * kept.max_bytes < sum(value.nbytes for value in held) <= kept.max_bytes


def test_an_answer_that_changed_is_remembered_again(decoder: PromptedDecoder, features: dict[str, Array]) -> None:
    kept = decoder.keep()
    decoder(features, [prompt(0, POINTS[:1], [1])], kept)
    for asked in ([prompt(0, POINTS[:3], LABELS[:3])], [prompt(0, [], [], ellipse())]):
        for name, value in decoder(features, asked, kept).items():
            assert np.array_equal(value, decoder(features, asked)[name]), name


def test_one_mask_stands_in_all_candidates(decoder: PromptedDecoder, features: dict[str, Array]) -> None:
    found = decoder(features, CASES["box on the last frame"])
    same_ones = [bool((frame == frame[:1]).all()) for frame in found["CANDIDATE_LOGITS"]]
    assert same_ones == [False] * 4 + [True]
    assert found["IOU"][4].tolist() == [found["IOU"][4, 0]] * 3


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("conditioning", [(0,), (9,), (12, 3)])
def test_which_frames_are_read(conditioning: tuple[int, ...], reverse: bool) -> None:
    decoded = set(range(2, 20))
    for frame in range(20):
        assert reach(decoded, frame, conditioning, reverse) == network_reach(decoded, frame, conditioning, reverse)


def test_a_given_mask_is_resized_as_in_pytorch(network: AuralSAM2) -> None:
    noise = (np.random.default_rng(0).normal(size=(SIDE, SIDE)) > 0.6).astype(np.float32)
    weight = network.v_model.mask_downsample.weight.detach()[0, 0].numpy()
    bias = network.v_model.mask_downsample.bias
    assert bias is not None
    for mask in (noise, ellipse()):
        found = given_mask(mask, weight, bias.detach().numpy())
        with torch.no_grad():
            wanted = network_prompts.given_mask(network.v_model, torch.from_numpy(mask))
        np.testing.assert_allclose(found.logits, wanted.logits[0, 0], rtol=0, atol=1e-5)
        np.testing.assert_allclose(found.dense, wanted.dense[0, 0], rtol=0, atol=1e-5)


def test_a_memory_is_rounded_as_pytorch_rounds_to_bfloat16() -> None:
    values = np.concatenate(
        [np.random.default_rng(0).normal(size=1000), [1 + 2**-8, 1 + 3 * 2**-8, -(1 + 2**-8), 0.0, 3e38]]
    ).astype(np.float32)
    wanted = torch.from_numpy(values).bfloat16().float().numpy()
    assert np.array_equal(HostArrays().as_bfloat16(values), wanted)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([], "nothing to decode"),
        ([prompt(0, POINTS[:1], [1])] * 2, "one prompt a frame"),
        ([prompt(2, [], [])], "says something"),
    ],
)
def test_what_no_request_can_ask_for_is_a_fault_of_ours(
    decoder: PromptedDecoder, features: dict[str, Array], prompts: list[Prompt], message: str
) -> None:
    """What callers can get wrong is refused where it is read, in test_reading.py."""
    with pytest.raises(AssertionError, match=message):
        decoder(features, prompts)


@pytest.mark.parametrize("file", ["prompt_decode.onnx", "prompted.weights", "prompted.npz"])
def test_an_altered_file_is_refused(folder: Path, tmp_path: Path, file: str) -> None:
    index = json.loads((folder / "prompted.json").read_text())
    for name in (*index["files"], "prompted.json"):
        shutil.copy2(folder / name, tmp_path)
    with (tmp_path / file).open("ab") as altered:
        altered.write(b"\0")
    with pytest.raises(EngineError, match=rf"{file}: .* was altered"):
        PromptedDecoder.load(tmp_path, "openvino", "float32", None)


def test_a_build_without_prompts_says_so(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="takes no prompts"):
        PromptedDecoder.load(tmp_path, "openvino", "float32", None)
