"""Clips on their way to a card: JPEGs decoded there as on the CPU, and frames by the card's own memory."""

from collections import Counter

import numpy as np
import torch

from auralsam2_client.calls.client import Client
from auralsam2_client.contract import RESULTS
from auralsam2_client.errors import ConfigError
from auralsam2_client.media.stills.frame_files import encode_frames
from loadtests.cases.case import Case
from loadtests.gpu.checks.check import Check, LeftOutError, Place
from loadtests.gpu.rows.service import export_build
from loadtests.wire.measuring import drawn_clip
from model_repository.stage_runtime.frames.encoded import EncodedFrames
from model_repository.stage_runtime.pytorch.card_frames import (
    MAX_DIFFERENCE,
    CardFrames,
    JpegDecoder,
    agrees,
    torchvision_decoder,
)
from service.server.serving import serve_build

CASE = Case("compact", 256, 5)
EXPORT_S, READY_S = 900.0, 600.0
SIZES, NUM_FRAMES = (256, 1024), 5


def wire_checks() -> list[Check]:
    """List the checks of the wire, all of them for a card alone."""
    return [
        Check("wire: JPEGs decoded on the card as on the CPU", "service", _jpegs),
        Check("wire: frames by the memory of the card", "service", _card_memory),
    ]


def _jpegs(place: Place) -> None:
    _leave_out_on_cpus(place)
    device = torch.device("cuda", torch.cuda.current_device())
    try:
        decoder = torchvision_decoder(device)
    except ImportError as error:
        raise LeftOutError(f"torchvision is not installed ({error})") from error
    assert agrees(decoder, device), "a sample comes out otherwise than on the CPU"
    for size in SIZES:
        compare(decoder, device, size)


def compare(decoder: JpegDecoder, device: torch.device, size: int) -> None:
    """Decode a clip by `decoder` and on the CPU: levels at most MAX_DIFFERENCE apart, and no frame left to the CPU."""
    files = encode_frames(drawn_clip(size, NUM_FRAMES)[0], "jpeg")
    left: Counter[str] = Counter()
    host = EncodedFrames(NUM_FRAMES, size, 3 * size**2)
    found = CardFrames(host, decoder, device, lambda reason: left.update([reason])).decode(files)
    assert not left, f"frames of {size} px were left to the CPU: {dict(left)}"
    assert isinstance(found, torch.Tensor)
    difference = np.abs(found.cpu().numpy().astype(int) - host.decode(files)).max()
    assert difference <= MAX_DIFFERENCE, f"{size} px: {difference} levels apart; at most {MAX_DIFFERENCE}"


def _card_memory(place: Place) -> None:
    _leave_out_on_cpus(place)
    build = export_build(CASE, "float16", place.folder / "builds", EXPORT_S, place.device)
    with serve_build(build, ready_timeout_s=READY_S, local_memory=True) as launcher:
        golden, url = launcher.golden, launcher.config.grpc_url
        assert golden is not None
        with Client(url, timeout_s=120) as client:
            wanted = client.infer(golden.frames, golden.audio, outputs=RESULTS)
        with Client(url, timeout_s=120, local_memory="cuda") as client:
            try:
                found = [client.infer(golden.frames, golden.audio, outputs=RESULTS) for _ in range(3)]
            except ConfigError as error:
                raise LeftOutError(str(error)) from error
            assert client._local is not None
            assert len(client._local._wire.get_cuda_shared_memory_status().regions) == 1, "used again"
        with Client(url) as client:
            for name, value in wanted.items():
                assert all(np.array_equal(each[name], value) for each in found), f"{name} differs by the card's memory"
            client.infer(golden.frames, golden.audio)
        assert launcher.fault() is None


def _leave_out_on_cpus(place: Place) -> None:
    if place.device != "cuda":
        raise LeftOutError("a CPU has no decoder and no memory of a card")
