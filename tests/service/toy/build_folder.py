"""A build folder with the real names, tensors and chain, and arithmetic that a test can predict (numpy only).

The four stages hand their tensors on, the last adds them up. The first pixels of a clip can ask for trouble:
`asking(frames, "sleep", 3)` makes the hiera stage sleep three seconds, `"raise"` makes it raise. A file `flip` in the
cache folder makes every answer slightly different, a file `wrong` makes it wrong, a file `hang` makes the decoder stage
sleep without end.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auralsam2_client.contract import BUILD_FORMAT, WINDOW_SAMPLES

T, S = 2, 32
TROUBLE = {"sleep": 201, "raise": 202}

Array = NDArray[np.generic]


def clip(seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    random = np.random.default_rng(seed)
    frames = random.integers(0, 200, (T, S, S, 3), dtype=np.uint8)
    audio = random.uniform(-1, 1, (T, WINDOW_SAMPLES, 2)).astype(np.float32)
    return frames, audio


def asking(frames: NDArray[np.uint8], trouble: str, amount: int = 0) -> NDArray[np.uint8]:
    frames = frames.copy()
    frames[0, 0, 0] = (TROUBLE[trouble], 117, amount)
    return frames


def expected(frames: Array, audio: Array) -> dict[str, NDArray[np.float32]]:
    loudness = audio[:, 0, 0][:, None, None]
    logits = frames[:, ::4, ::4, 0].astype(np.float32) / np.float32(8) - np.float32(12) + loudness
    return {
        "MASK_LOGITS": logits,
        "CANDIDATE_LOGITS": np.stack([logits, logits - 1, logits - 2], axis=1),
        "IOU": np.tile(np.array([0.75, 0.5, 0.25], np.float32), (T, 1)),
        "OBJECT_SCORE": audio[:, 0, 0] * np.float32(4),
    }


def write(build: Path) -> Path:
    """A complete build: models, cache, golden clip, and the manifest with the hashes of the files above it."""
    for name, source in STAGES.items():
        version = build / "models" / name / "1"
        version.mkdir(parents=True)
        (version / "model.py").write_text(source)
        (version.parent / "config.pbtxt").write_text(stage_config(name))
    (build / "models" / "auralsam2" / "1").mkdir(parents=True)
    (build / "models" / "auralsam2" / "config.pbtxt").write_text(ensemble_config())
    (build / "cache").mkdir()
    frames, audio = clip(seed=7)
    write_golden(build, frames, audio)
    write_manifest(build)
    return build


def write_golden(build: Path, frames: Array, audio: Array, **changed: Array) -> None:
    outputs = expected(frames, audio) | changed
    tolerances = {f"TOLERANCE_{name}": np.float32(1e-5) for name in outputs}
    np.savez(build / "golden.npz", FRAMES=frames, AUDIO=audio, **outputs, **tolerances)


def write_manifest(build: Path, **changed: object) -> None:
    files = sorted(path for path in (build / "models").rglob("*") if path.is_file())
    manifest: dict[str, object] = {
        "format": BUILD_FORMAT,
        "name": "toy-32-t2",
        "preset": "toy",
        "image_size": S,
        "num_frames": T,
        "precision": "float32",
        "engine": "numpy",
        "weights": "none, this is a toy",
        "files": {str(path.relative_to(build)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
    }
    (build / "manifest.json").write_text(json.dumps({**manifest, **changed}))


TENSORS = {
    "vggish": (
        {"AUDIO": ("FP32", [T, WINDOW_SAMPLES, 2])},
        {"AUDIO_TOKENS": ("FP32", [T, 256])},
    ),
    "hiera": (
        {"FRAMES": ("UINT8", [T, S, S, 3]), "AUDIO_TOKENS": ("FP32", [T, 256])},
        {"FPN_2": ("FP32", [T, S // 4, S // 4]), "AUDIO_TOKENS": ("FP32", [T, 256])},
    ),
    "aural_fuser": (
        {"FPN_2": ("FP32", [T, S // 4, S // 4]), "AUDIO_TOKENS": ("FP32", [T, 256])},
        {"FUSED": ("FP32", [T, S // 4, S // 4]), "AUDIO_TOKENS": ("FP32", [T, 256])},
    ),
    "sam2_decoder": (
        {"FUSED": ("FP32", [T, S // 4, S // 4]), "AUDIO_TOKENS": ("FP32", [T, 256])},
        {
            "MASK_LOGITS": ("FP32", [T, S // 4, S // 4]),
            "CANDIDATE_LOGITS": ("FP32", [T, 3, S // 4, S // 4]),
            "IOU": ("FP32", [T, 3]),
            "OBJECT_SCORE": ("FP32", [T]),
        },
    ),
}


def tensors_text(kind: str, tensors: dict[str, tuple[str, list[int]]]) -> str:
    return "".join(
        f'{kind} {{ name: "{name}" data_type: TYPE_{dtype} dims: {dims} }}\n' for name, (dtype, dims) in tensors.items()
    )


def stage_config(name: str) -> str:
    inputs, outputs = TENSORS[name]
    return (
        f'name: "{name}"\nbackend: "python"\nmax_batch_size: 0\n'
        + tensors_text("input", inputs)
        + tensors_text("output", outputs)
        + "instance_group { kind: KIND_CPU count: 1 }\n"
    )


def ensemble_config() -> str:
    # A tensor of a stage that the next stage repeats gets the name of its maker, so that no name is written twice.
    def step(name: str, inputs: dict[str, str], outputs: dict[str, str]) -> str:
        maps = [f'input_map {{ key: "{key}" value: "{value}" }}' for key, value in inputs.items()]
        maps += [f'output_map {{ key: "{key}" value: "{value}" }}' for key, value in outputs.items()]
        return f'step {{ model_name: "{name}" model_version: -1 {" ".join(maps)} }}\n'

    outputs = TENSORS["sam2_decoder"][1]
    return (
        'name: "auralsam2"\nplatform: "ensemble"\nmax_batch_size: 0\n'
        + tensors_text("input", {"FRAMES": ("UINT8", [T, S, S, 3]), "AUDIO": ("FP32", [T, WINDOW_SAMPLES, 2])})
        + tensors_text("output", outputs)
        + "ensemble_scheduling {\n"
        + step("vggish", {"AUDIO": "AUDIO"}, {"AUDIO_TOKENS": "VGGISH_TOKENS"})
        + step(
            "hiera", {"FRAMES": "FRAMES", "AUDIO_TOKENS": "VGGISH_TOKENS"}, {"FPN_2": "FPN_2", "AUDIO_TOKENS": "TOKENS"}
        )
        + step(
            "aural_fuser",
            {"FPN_2": "FPN_2", "AUDIO_TOKENS": "TOKENS"},
            {"FUSED": "FUSED", "AUDIO_TOKENS": "FUSER_TOKENS"},
        )
        + step("sam2_decoder", {"FUSED": "FUSED", "AUDIO_TOKENS": "FUSER_TOKENS"}, {name: name for name in outputs})
        + "}\n"
    )


HEAD = """
import os
import time

import numpy as np
import triton_python_backend_utils as pb_utils

CACHE = os.environ["AURALSAM2_CACHE_DIR"]


def read(request, name):
    return pb_utils.get_input_tensor_by_name(request, name).as_numpy()


def answered(**tensors):
    tensors = [pb_utils.Tensor(name, np.ascontiguousarray(value)) for name, value in tensors.items()]
    return pb_utils.InferenceResponse(output_tensors=tensors)


class TritonPythonModel:
    def execute(self, requests):
        return [answer(request) for request in requests]


"""

STAGES = {
    "vggish": HEAD
    + """
def answer(request):
    return answered(AUDIO_TOKENS=read(request, "AUDIO")[:, :256, 0])
""",
    "hiera": HEAD
    + f"""
def answer(request):
    frames = read(request, "FRAMES")
    if frames[0, 0, 0, 1] == 117:
        if frames[0, 0, 0, 0] == {TROUBLE["sleep"]}:
            time.sleep(float(frames[0, 0, 0, 2]))
        if frames[0, 0, 0, 0] == {TROUBLE["raise"]}:
            raise ValueError("asked to raise")
    return answered(FPN_2=frames[:, ::4, ::4, 0].astype(np.float32), AUDIO_TOKENS=read(request, "AUDIO_TOKENS"))
""",
    "aural_fuser": HEAD
    + """
def answer(request):
    tokens = read(request, "AUDIO_TOKENS")
    fused = read(request, "FPN_2") / np.float32(8) - np.float32(12) + tokens[:, 0][:, None, None]
    return answered(FUSED=fused, AUDIO_TOKENS=tokens)
""",
    "sam2_decoder": HEAD
    + """
def answer(request):
    while os.path.exists(os.path.join(CACHE, "hang")):
        time.sleep(0.05)
    logits = read(request, "FUSED")
    if os.path.exists(os.path.join(CACHE, "flip")):
        logits = logits + np.float32(2**-20)
    if os.path.exists(os.path.join(CACHE, "wrong")):
        logits = logits + 1
    tokens = read(request, "AUDIO_TOKENS")
    return answered(
        MASK_LOGITS=logits,
        CANDIDATE_LOGITS=np.stack([logits, logits - 1, logits - 2], axis=1),
        IOU=np.tile(np.array([0.75, 0.5, 0.25], np.float32), (len(logits), 1)),
        OBJECT_SCORE=tokens[:, 0] * np.float32(4),
    )
""",
}
