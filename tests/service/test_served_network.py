"""The real chain on the real server: what comes back over gRPC is what the network says."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from auralsam2.network import image_encoder
from auralsam2.network.log_mel import LogMel
from auralsam2_client.calls.async_client import AsyncClient
from auralsam2_client.calls.client import Client
from auralsam2_client.calls.health import check_health
from auralsam2_client.contract import RESULTS, STAGE_NAMES, Reason, read_error
from auralsam2_client.errors import BadInput
from export.gates.sample_clip import sample_audio, sample_frames
from export.graphs.chain import run_chain
from export.loading import load_model
from model_repository.stage_runtime.engine import load_engine
from service.builds.manifest import read_manifest
from service.server.config import ServerConfig
from service.server.serving import serve_build
from tests.builds import TINY, graph_of
from tests.service.toy.running import settled_counters

AGREEMENT = 0.999


def network_answer(network: Any, frames: np.ndarray, audio: np.ndarray) -> Any:
    with torch.no_grad():
        return network(image_encoder.normalise(torch.from_numpy(frames)), LogMel()(torch.from_numpy(audio)))


def agreement(found: np.ndarray, wanted: np.ndarray) -> float:
    assert found.shape == wanted.shape
    return float(((found > 0) == (wanted > 0)).mean())


@pytest.fixture
def client(served_compact: Any) -> Iterator[Client]:
    with Client(served_compact.config.grpc_url) as client:
        yield client


def clip(num_frames: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    return sample_frames(num_frames, size, seed), sample_audio(num_frames, seed)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_compact_masks_over_grpc_are_the_networks(served_compact: Any, client: Client, seed: int) -> None:
    frames, audio = clip(5, 256, seed)
    wanted = network_answer(served_compact.network, frames, audio)
    found = client.infer(frames, audio, outputs=RESULTS)
    assert agreement(found["MASK_LOGITS"], wanted.select("iou_occlusion").numpy()) >= AGREEMENT
    assert agreement(found["CANDIDATE_LOGITS"], wanted.low_res_logits.numpy()) >= AGREEMENT
    np.testing.assert_allclose(found["IOU"], wanted.iou.numpy(), atol=1e-2)
    np.testing.assert_allclose(found["OBJECT_SCORE"], wanted.object_score[:, 0].numpy(), atol=1e-2)


def test_hiera_tiny_at_512_px_over_grpc_is_the_network(tiny_build: Path) -> None:
    frames, audio = clip(2, 512, 1)
    with serve_build(tiny_build, environ={}) as launcher, Client(launcher.config.grpc_url) as client:
        found = client.infer(frames, audio, outputs=RESULTS)
    wanted = network_answer(load_model(TINY), frames, audio)
    masks = wanted.select(TINY.read_out).numpy()
    assert 0.01 < (masks > 0).mean() < 0.99, "an empty or a full mask would agree by itself"
    assert agreement(found["MASK_LOGITS"], masks) >= AGREEMENT
    assert agreement(found["CANDIDATE_LOGITS"], wanted.low_res_logits.numpy()) >= AGREEMENT


@pytest.mark.parametrize(("factor", "refused"), [(32767, True), (2, True), (1, False)])
def test_the_server_takes_sound_of_full_scale_alone(served_compact: Any, factor: float, refused: bool) -> None:
    """By the library of others, which checks nothing."""
    frames, audio = clip(5, 256, 1)
    audio *= np.float32(factor) / np.abs(audio).max()
    with triton.InferenceServerClient(served_compact.config.grpc_url) as raw:
        inputs = [triton.InferInput("FRAMES", list(frames.shape), "UINT8")]
        inputs.append(triton.InferInput("AUDIO", list(audio.shape), "FP32"))
        for given, value in zip(inputs, (frames, audio), strict=True):
            given.set_data_from_numpy(value)
        if not refused:
            assert raw.infer("auralsam2", inputs, client_timeout=60).as_numpy("IOU") is not None
            return
        with pytest.raises(InferenceServerException) as caught:
            raw.infer("auralsam2", inputs, client_timeout=60)
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
    reason, words = read_error(str(caught.value.message()))
    assert reason is Reason.BAD_REQUEST
    assert words.startswith("AUDIO: ")
    assert "must lie in [-1, 1]" in words


def test_the_server_gives_the_graphs_bytes(client: Client, compact_build: Path) -> None:
    frames, audio = clip(5, 256, 5)
    manifest = read_manifest(compact_build)
    engines = {
        name: load_engine(manifest.engine, graph_of(compact_build, name), precision=manifest.precision)
        for name in STAGE_NAMES
    }
    in_process = run_chain(engines, {"FRAMES": frames, "AUDIO": audio})
    found = client.infer(frames, audio, outputs=RESULTS)
    for name in RESULTS:
        assert found[name].tobytes() == in_process[name].tobytes(), name


def test_the_same_clip_twice_gives_the_same_bytes(client: Client) -> None:
    frames, audio = clip(5, 256, 4)
    first, second = (client.infer(frames, audio, outputs=RESULTS) for _ in range(2))
    for name in RESULTS:
        assert first[name].tobytes() == second[name].tobytes()


def test_silence_is_normal_input_and_changes_the_logits(client: Client) -> None:
    frames, audio = clip(5, 256, 5)
    heard = client.infer(frames, audio, outputs=("CANDIDATE_LOGITS",))["CANDIDATE_LOGITS"]
    silent = client.infer(frames, np.zeros_like(audio), outputs=("CANDIDATE_LOGITS",))["CANDIDATE_LOGITS"]
    assert np.isfinite(silent).all()
    assert np.abs(heard - silent).mean() > 0.1


async def _ask(url: str, frames: np.ndarray, audio: np.ndarray) -> dict[str, np.ndarray]:
    async with AsyncClient(url) as client:
        return await client.infer(frames, audio)


@pytest.mark.asyncio
async def test_the_asyncio_client_gets_the_same_answer(served_compact: Any) -> None:
    frames, audio = clip(5, 256, 6)
    found = await _ask(served_compact.config.grpc_url, frames, audio)
    with Client(served_compact.config.grpc_url) as client:
        assert found["MASK_LOGITS"].tobytes() == client.infer(frames, audio)["MASK_LOGITS"].tobytes()


MODELS = ("auralsam2", "vggish", "hiera", "aural_fuser", "sam2_decoder")


def test_health_and_metrics_are_the_servers_own(served_compact: Any, client: Client) -> None:
    frames, audio = clip(5, 256, 7)
    before = settled_counters(served_compact.config.metrics_url)
    client.infer(frames, audio)
    after = settled_counters(served_compact.config.metrics_url)
    assert check_health(served_compact.config.grpc_url) == "SERVING"
    for model in MODELS:
        assert after[model].success == before[model].success + 1


def raw(config: ServerConfig, **tensors: np.ndarray) -> Any:
    """A request that our client would never send."""
    types = {"uint8": "UINT8", "float32": "FP32", "float64": "FP64", "int64": "INT64"}
    inputs = []
    for name, value in tensors.items():
        tensor = triton.InferInput(name, list(value.shape), types[value.dtype.name])
        inputs.append(tensor.set_data_from_numpy(value))
    with triton.InferenceServerClient(config.grpc_url) as wire:
        return wire.infer("auralsam2", inputs, client_timeout=60)


GOOD_FRAMES, GOOD_AUDIO = clip(5, 256, 8)


def spoiled(value: float) -> np.ndarray:
    audio = GOOD_AUDIO.copy()
    audio[3, 777, 1] = value
    return audio


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"FRAMES": GOOD_FRAMES, "AUDIO": spoiled(np.nan)}, ("AUDIO", "nan", "[3, 777, 1]", "finite")),
        ({"FRAMES": GOOD_FRAMES, "AUDIO": spoiled(-np.inf)}, ("AUDIO", "inf", "[3, 777, 1]", "finite")),
        ({"FRAMES": GOOD_FRAMES, "AUDIO": GOOD_AUDIO.astype(np.float64)}, ("AUDIO", "FP64", "FP32")),
        ({"FRAMES": GOOD_FRAMES.astype(np.float32), "AUDIO": GOOD_AUDIO}, ("FRAMES", "FP32", "UINT8")),
        ({"FRAMES": GOOD_FRAMES[:4], "AUDIO": GOOD_AUDIO}, ("FRAMES", "[5,256,256,3]", "[4,256,256,3]")),
        ({"FRAMES": GOOD_FRAMES[0], "AUDIO": GOOD_AUDIO}, ("FRAMES", "[5,256,256,3]", "[256,256,3]")),
        ({"FRAMES": GOOD_FRAMES, "AUDIO": GOOD_AUDIO[:, :0]}, ("AUDIO", "[5,15600,2]", "[5,0,2]")),
        ({"FRAMES": GOOD_FRAMES}, ("auralsam2", "[bad_request] AUDIO did not come")),
    ],
    ids=["nan", "inf", "float64", "float frames", "four frames", "one frame", "no samples", "no audio"],
)
def test_bad_input_on_the_wire_is_refused_and_the_next_clip_answered(
    served_compact: Any, client: Client, tensors: dict[str, np.ndarray], words: tuple[str, ...]
) -> None:
    with pytest.raises(triton.InferenceServerException) as refusal:
        raw(served_compact.config, **tensors)
    assert refusal.value.status() == "StatusCode.INVALID_ARGUMENT"
    for word in words:
        assert word in refusal.value.message()
    assert "/" not in refusal.value.message().replace("http://", ""), "no path of the server leaves it"
    assert served_compact.launcher.fault() is None
    assert client.infer(GOOD_FRAMES, GOOD_AUDIO)["IOU"].shape == (5, 3)


def test_a_huge_shape_without_data_is_refused_and_the_next_clip_answered(served_compact: Any, client: Client) -> None:
    request = triton.service_pb2.ModelInferRequest(model_name="vggish")
    request.inputs.add(name="AUDIO", datatype="FP32", shape=[1, 2**62])
    request.raw_input_contents.append(b"")
    refused = pytest.raises(Exception, match=r"INVALID_ARGUMENT|unexpected shape")
    with triton.InferenceServerClient(served_compact.config.grpc_url) as wire, refused as refusal:
        wire._client_stub.ModelInfer(request, timeout=10)
    assert "AUDIO" in str(refusal.value)
    assert served_compact.launcher.fault() is None
    assert client.infer(GOOD_FRAMES, GOOD_AUDIO)["IOU"].shape == (5, 3)


def test_the_client_refuses_what_the_server_would(client: Client) -> None:
    with pytest.raises(BadInput, match="777"):
        client.infer(GOOD_FRAMES, spoiled(np.nan))
