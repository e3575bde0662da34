"""Weights and description of a network beside a model: read whole or refused, and the same network in every type."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from auralsam2_client.contract import IMAGE_FEATURES, RESULTS, FramePrompt
from export.gates.sample_clip import sample_audio, sample_frames
from export.loading import load_model
from model_repository.stage_runtime.engine import EngineError
from model_repository.stage_runtime.pytorch.network import DESCRIPTION, WEIGHTS, Network, read_description
from model_repository.stage_runtime.pytorch.prompted import load_prompted_decoder
from model_repository.stage_runtime.pytorch.whole_clip import ClipGraphs
from tests.builds import SMALL
from tests.model_repository.pytorch.conftest import in_precision
from tests.service.test_served_network import network_answer

CLIP: dict[str, NDArray[Any]] = {
    "FRAMES": sample_frames(SMALL.num_frames, SMALL.size),
    "AUDIO": sample_audio(SMALL.num_frames),
}
PROMPT = FramePrompt(1, np.array([[60, 60], [150, 160]], np.float32), np.array([2, 3], np.int32))


@pytest.fixture
def altered(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "altered"))


def jaccard(found: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> float:
    return float((found & wanted).sum() / max(1, (found | wanted).sum()))


def answers(network: Network, precision: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Masks by sound, and of a box."""
    placing = in_precision(network, precision)
    found = ClipGraphs(network, placing).by_sound(CLIP)
    assert {found[name].dtype for name in RESULTS} == {torch.float32}, "whoever reads results gets float32"
    features = {name: found[name] for name in IMAGE_FEATURES}
    prompted = load_prompted_decoder(network, placing)(features, [PROMPT])
    return found["MASK_LOGITS"].numpy().copy(), prompted["MASK_LOGITS"]


def test_in_float32_it_is_the_network(network: Network) -> None:
    by_sound, _ = answers(network, "float32")
    wanted = network_answer(load_model(SMALL), CLIP["FRAMES"], CLIP["AUDIO"]).select(SMALL.read_out).numpy()
    np.testing.assert_allclose(by_sound, wanted, atol=2e-3)


def test_in_half_precision_the_masks_stay(network: Network) -> None:
    """Made for a card; on a CPU it is slow, and the same."""
    by_sound, marked = answers(network, "float32")
    assert (by_sound > 0).any()
    assert (marked > 0).any()
    narrow_by_sound, narrow_marked = answers(network, "float16")
    assert jaccard(narrow_by_sound > 0, by_sound > 0) >= 0.99
    assert jaccard(narrow_marked > 0, marked > 0) >= 0.99
    assert narrow_by_sound.tobytes() != by_sound.tobytes(), "another type was computed in"


def test_features_without_sound_are_those_with_it(network: Network) -> None:
    graphs = ClipGraphs(network, in_precision(network, "float32"))
    whole = {name: value.clone() for name, value in graphs.by_sound(CLIP).items()}
    alone = graphs.by_sight(CLIP)
    assert set(alone) == set(IMAGE_FEATURES)
    for name in IMAGE_FEATURES:
        assert torch.equal(alone[name], whole[name])
    assert list(graphs.stage_seconds()) == ["vggish", "hiera", "aural_fuser", "sam2_decoder"]


def test_altered_weights_are_refused(altered: Path) -> None:
    with (altered / WEIGHTS).open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\0\0\0\1")
    with pytest.raises(EngineError, match=WEIGHTS):
        Network(altered)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"precision": "int4"}, "precision 'int4'; must be one of float32, float16, bfloat16"),
        ({"device": "tpu"}, "device 'tpu'; must be one of cuda, cpu"),
        ({"more": 1}, "it must have conditioning_frame"),
    ],
)
def test_a_description_that_is_not_one_is_refused(change: dict[str, object], said: str, altered: Path) -> None:
    record = json.loads((altered / DESCRIPTION).read_text()) | change
    (altered / DESCRIPTION).write_text(json.dumps(record))
    with pytest.raises(EngineError, match=said):
        read_description(altered)


def test_a_description_that_is_missing_or_damaged_is_refused(altered: Path) -> None:
    (altered / DESCRIPTION).write_text("{")
    with pytest.raises(EngineError, match="auralsam2 export"):
        read_description(altered)
    (altered / DESCRIPTION).unlink()
    with pytest.raises(EngineError, match=DESCRIPTION):
        read_description(altered)
