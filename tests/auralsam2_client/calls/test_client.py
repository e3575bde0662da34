"""Both clients against the real server and a toy build: answers, checks, and what a bad request on the wire does."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as wire
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import InferenceServerException

from auralsam2_client.calls.async_client import AsyncClient
from auralsam2_client.calls.client import Client
from auralsam2_client.calls.health import check_health
from auralsam2_client.calls.wire import ClipShape
from auralsam2_client.calls.wire_errors import translate
from auralsam2_client.contract import RESULTS
from auralsam2_client.errors import BadInput, ConfigError, ServerFault, ServerTimeout, ServerUnavailable
from auralsam2_client.prompts import Prompts
from service.monitoring.metrics import fetch, in_flight, stage_times
from service.server.launcher import Launcher
from service.server.serving import free_ports
from tests.auralsam2_client.calls.bad_requests import BAD_REQUESTS, change, good_request, raw_call, unfit_frames
from tests.service.toy import build_folder as toy
from tests.service.toy.running import eventually, settled_counters, toy_config

T, S = toy.T, toy.S


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    build = toy.write(tmp_path_factory.mktemp("client") / "build")
    with Launcher(toy_config(build), sink=lambda line: None) as launcher:
        yield launcher


@pytest.fixture(scope="module")
def url(running: Launcher) -> str:
    return running.config.grpc_url


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url, timeout_s=10) as client:
        yield client


@pytest.fixture
def healthy(running: Launcher, client: Client) -> Iterator[None]:
    """After the test, the same processes live and the next good clip is answered to the bit."""
    assert running.fault() is None
    pids = running.stage_pids
    yield
    assert running.fault() is None
    assert running.stage_pids == pids
    assert_answers(client)


def assert_answers(client: Client, seed: int = 3) -> None:
    frames, audio = toy.clip(seed)
    answer = client.infer(frames, audio, outputs=RESULTS)
    for name, value in toy.expected(frames, audio).items():
        assert answer[name].dtype == np.float32
        assert np.array_equal(answer[name], value), name


def test_every_output_is_the_models(client: Client) -> None:
    assert client.is_ready()
    assert (client.num_frames, client.image_size) == (T, S)
    for seed in range(5):
        assert_answers(client, seed)


def test_only_the_outputs_asked_for_come(client: Client) -> None:
    frames, audio = toy.clip()
    assert set(client.infer(frames, audio)) == {"MASK_LOGITS", "IOU", "OBJECT_SCORE"}
    assert set(client.infer(frames, audio, outputs=("IOU",))) == {"IOU"}
    result = raw_call(client.url, good_request(outputs=["IOU"]))
    assert [output.name for output in result.outputs] == ["IOU"]


def test_asyncio_client(url: str) -> None:
    async def main() -> None:
        async with AsyncClient(url, timeout_s=10) as client:
            assert await client.is_ready()
            assert await client.clip_shape() == ClipShape(T, S)
            assert (await client.num_frames(), await client.image_size()) == (T, S)
            clips = [toy.clip(seed) for seed in range(4)]
            answers = await asyncio.gather(*(client.infer(*clip) for clip in clips))
            for clip, answer in zip(clips, answers, strict=True):
                assert np.array_equal(answer["MASK_LOGITS"], toy.expected(*clip)["MASK_LOGITS"])
            segmentation = await client.segment(np.zeros((1, 10, 20, 3), np.uint8), clips[0][1])
            assert segmentation.masks().shape == (1, 10, 20)
            with pytest.raises(BadInput):
                await client.infer(clips[0][0][:1], clips[0][1])
            slow = toy.asking(clips[0][0], "sleep", 1)
            with pytest.raises(ServerTimeout):
                await client.infer(slow, clips[0][1], timeout_s=0.2)
            with pytest.raises(ServerFault):
                await client.infer(toy.asking(clips[0][0], "raise"), clips[0][1])

    asyncio.run(main())


def test_segment_resizes_fills_up_and_cuts_back(client: Client) -> None:
    frames, audio = toy.clip()
    whole = client.segment(frames, audio)
    assert np.array_equal(whole.mask_logits, toy.expected(frames, audio)["MASK_LOGITS"])
    assert whole.masks().shape == (T, S, S)
    assert whole.masks().dtype == np.bool_
    one = client.segment(frames[:1], audio[:1])
    assert one.mask_logits.shape == (1, S // 4, S // 4)
    assert np.array_equal(one.mask_logits[0], whole.mask_logits[0])
    assert (one.iou.shape, one.object_score.shape) == ((1, 3), (1,))
    wide = client.segment(np.full((2, 30, 70, 3), 180, np.uint8), audio)
    assert (wide.height, wide.width) == (30, 70)
    assert wide.masks().shape == (2, 30, 70)
    assert wide.masks().all()


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("frames dtype", ["frames", "float32", "uint8"]),
        ("frames rank", ["frames", "[32, 32, 3]", "[2, 32, 32, 3]"]),
        ("frames count", ["frames", "[4, 32, 32, 3]", "[2, 32, 32, 3]"]),
        ("frames size", ["frames", "[2, 16, 32, 3]", "segment"]),
        ("frames kind", ["frames", "list", "asarray"]),
        ("audio dtype", ["audio", "float64", "float32"]),
        ("audio rank", ["audio", "[2, 15600]", "[2, 15600, 2]"]),
        ("audio length", ["audio", "[2, 100, 2]"]),
        *(("audio nan", ["nan", "(1, 77, 0)"]), ("audio inf", ["-inf", "(1, 15599, 1)"])),
        *(("audio of 16 bits", ["[-1, 1]", "by 32768"]), ("audio beyond", ["audio is -1.5", "clip"])),
    ],
)
def test_a_bad_clip_is_refused_before_it_is_sent(running: Launcher, client: Client, how: str, words: list[str]) -> None:
    client.clip_shape()
    before = settled_counters(running.config.metrics_url)
    with pytest.raises(BadInput) as caught:
        client.infer(*change(*toy.clip(), how))
    for word in words:
        assert word in str(caught.value)
    assert settled_counters(running.config.metrics_url) == before


def test_segment_refuses_what_it_cannot_fill_up(client: Client) -> None:
    frames, audio = toy.clip()
    for bad in unfit_frames(frames):
        with pytest.raises(BadInput):
            client.segment(bad, audio)
    with pytest.raises(BadInput, match=r"audio has shape \[3, 15600, 2\]"):
        client.segment(frames, np.concatenate([audio, audio[:1]]))


def test_a_build_without_prompts_says_so_before_anything_is_sent(running: Launcher, client: Client) -> None:
    frames, audio = toy.clip()
    before = settled_counters(running.config.metrics_url)
    prompts = Prompts(points=[(1, 2, "+")])
    for ask in (
        lambda: client.segment(frames, audio, prompts=prompts),
        lambda: client.session(frames, audio).segment(),
        lambda: client.infer(frames, audio, prompts={"USE_AUDIO": np.array([False])}),
    ):
        with pytest.raises(ConfigError, match="takes no prompts"):
            ask()
    assert settled_counters(running.config.metrics_url) == before


@pytest.mark.parametrize("outputs", [(), ("MASKS",), "IOU"])
def test_unknown_outputs_are_refused(client: Client, outputs: Any) -> None:
    with pytest.raises(BadInput, match="CANDIDATE_LOGITS"):
        client.infer(*toy.clip(), outputs=outputs)


# What another client may send: the server must refuse it and go on as before.


@pytest.mark.usefixtures("healthy")
@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_a_bad_request_on_the_wire_is_refused_and_harms_nobody(url: str, name: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        raw_call(url, BAD_REQUESTS[name]())
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.usefixtures("healthy")
def test_the_usual_client_library_is_refused_as_well(url: str) -> None:
    frames, audio = toy.clip()
    with wire.InferenceServerClient(url) as raw:
        inputs = [wire.InferInput("FRAMES", [T, S, S, 3], "FP32"), wire.InferInput("AUDIO", [T, 15600, 2], "FP32")]
        inputs[0].set_data_from_numpy(frames.astype(np.float32))
        inputs[1].set_data_from_numpy(audio)
        with pytest.raises(InferenceServerException) as caught:
            raw.infer("auralsam2", inputs, client_timeout=5)
    assert isinstance(translate(caught.value, url=url, timeout_s=5), BadInput)


@pytest.mark.usefixtures("healthy")
def test_a_client_that_hangs_up_is_forgotten(running: Launcher, client: Client, url: str) -> None:
    frames, audio = toy.clip()
    slow = toy.asking(frames, "sleep", 1)
    request = good_request()
    request.raw_input_contents[0] = slow.tobytes()
    # By closing the channel, by cancelling, and by a deadline; in the second stage and in its queue.
    channel = grpc.insecure_channel(url)
    calls = [service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer.future(request) for _ in range(2)]
    eventually(lambda: in_flight(fetch(running.config.metrics_url)) >= 1)
    calls[1].cancel()
    channel.close()
    with pytest.raises(ServerTimeout, match=r"0.3 s"):
        client.infer(slow, audio, timeout_s=0.3)
    eventually(lambda: in_flight(fetch(running.config.metrics_url)) == 0, within_s=10)


@pytest.mark.usefixtures("healthy")
def test_an_error_of_a_stage_is_the_servers_fault_and_names_no_path(client: Client) -> None:
    frames, audio = toy.clip()
    with pytest.raises(ServerFault, match="asked to raise") as caught:
        client.infer(toy.asking(frames, "raise"), audio)
    assert "/" not in str(caught.value)
    assert "model.py" not in str(caught.value)
    assert isinstance(caught.value.__cause__, InferenceServerException)


def test_threads_may_share_a_client(client: Client) -> None:
    clips = [toy.clip(seed) for seed in range(20)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda clip: client.infer(*clip), clips))
    for clip, answer in zip(clips, answers, strict=True):
        assert np.array_equal(answer["MASK_LOGITS"], toy.expected(*clip)["MASK_LOGITS"])


def test_health_by_the_standard_protocol(url: str) -> None:
    assert check_health(url) == "SERVING"
    assert check_health(url, "auralsam2") == "SERVING"
    with pytest.raises(ServerUnavailable, match="auralsam2 serve"):
        check_health(f"127.0.0.1:{free_ports(1)[0]}", timeout_s=2)


def test_metrics_say_where_the_time_went(running: Launcher, client: Client) -> None:
    before = settled_counters(running.config.metrics_url)
    frames, audio = toy.clip()
    client.infer(toy.asking(frames, "sleep", 1), audio)
    client.infer(frames, audio)
    times = stage_times(before, settled_counters(running.config.metrics_url))
    assert set(times) == {"auralsam2", "vggish", "hiera", "aural_fuser", "sam2_decoder"}
    assert all(stage.num_requests == 2 for stage in times.values())
    # One of the two clips slept for a second in hiera.
    assert times["hiera"].infer_ms >= 500
    assert times["hiera"].infer_ms > times["vggish"].total_ms
    assert times["auralsam2"].total_ms >= times["hiera"].total_ms


def test_an_unknown_model_is_a_setting_to_correct(url: str) -> None:
    with Client(url, "auralsam3") as client, pytest.raises(ConfigError, match="auralsam3"):
        client.clip_shape()
    with Client(url, "vggish") as client, pytest.raises(ConfigError, match="'auralsam2'"):
        client.clip_shape()


def test_a_retry_finds_the_server_that_comes_back(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Client(url, timeout_s=5, retries=2) as client:
        send, tries = client._send, []

        def failing_once(*arguments: Any) -> Any:
            tries.append(1)
            if len(tries) == 1:
                raise ServerUnavailable("gone")
            return send(*arguments)

        monkeypatch.setattr(client, "_send", failing_once)
        assert_answers(client)
        assert len(tries) == 2

        def faulty(*arguments: Any) -> Any:
            tries.append(1)
            raise ServerFault("broken")

        tries.clear()
        monkeypatch.setattr(client, "_send", faulty)
        with pytest.raises(ServerFault):
            client.infer(*toy.clip())
        assert len(tries) == 1


def test_a_view_with_strides_is_sent_as_its_values(client: Client) -> None:
    frames, audio = toy.clip()
    mirrored = frames[:, :, ::-1]
    answer = client.infer(mirrored, audio)
    assert np.array_equal(answer["MASK_LOGITS"], toy.expected(mirrored, audio)["MASK_LOGITS"])
