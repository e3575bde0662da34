"""The two CPU engines on the small build's graphs, and what guards their files."""

import ast
import errno
import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auralsam2.stages.clip_stages import build_stages
from auralsam2_client.contract import STAGE_NAMES
from export.graphs.chain import run_clip
from export.loading import load_model
from model_repository import stage_runtime
from model_repository.stage_runtime.engine import (
    EngineError,
    cache_dir_from_environment,
    check_hash,
    file_sha256,
    first_non_finite,
    load_engine,
)
from model_repository.stage_runtime.engine import engines as engine
from tests.builds import SMALL


def graph(build: Path, stage: str) -> Path:
    return build / "models" / stage / "1" / "model.onnx"


def test_the_engines_agree_up_to_the_decoder(small_build: Path) -> None:
    """Left to itself OpenVINO computes in bfloat16 where the CPU has it: that is 100 times this budget."""
    stages = build_stages(load_model(SMALL), SMALL.num_frames, 0, SMALL.read_out, 1)
    with np.load(small_build / "golden.npz") as golden:
        wire = {name: golden[name] for name in ("FRAMES", "AUDIO")}
    for stage in stages[:3]:
        openvino, onnxruntime = (
            run_clip(load_engine(kind, graph(small_build, stage.name)), wire) for kind in ("openvino", "onnxruntime")
        )
        for name, wanted in onnxruntime.items():
            assert openvino[name].shape == wanted.shape
            error = np.linalg.norm(openvino[name] - wanted) / np.linalg.norm(wanted)
            assert error <= 1e-4, f"{stage.name} {name}: {error:.1e}"
        wire |= onnxruntime


# OpenVINO's decoder takes longest to compile; test_models.py runs it.
@pytest.mark.parametrize(
    ("kind", "name"),
    [*(("openvino", name) for name in STAGE_NAMES[:3]), *(("onnxruntime", name) for name in STAGE_NAMES)],
)
def test_an_engine_names_its_tensors(kind: str, name: str, small_build: Path) -> None:
    engine = load_engine(kind, graph(small_build, name))
    inputs = {
        "vggish": {"AUDIO": (2, 15600, 2)},
        "hiera": {"FRAMES": (1, 224, 224, 3)},
        "aural_fuser": {"AUDIO_TOKENS": (2, 128), "PATCHES_1": (2, 128, 14, 14)},
        "sam2_decoder": {"HIGH_RES_S4": (2, 16, 56, 56), "SOUND_3": (2, 128)},
    }
    outputs = {
        "vggish": {"AUDIO_TOKENS": (2, 128)},
        "hiera": {"HIGH_RES_S8": (1, 32, 28, 28), "IMAGE_EMBEDDING": (1, 128, 14, 14)},
        "aural_fuser": {"VISUAL_3": (2, 128, 14, 14)},
        "sam2_decoder": {"MASK_LOGITS": (2, 56, 56), "OBJECT_SCORE": (2,)},
    }
    assert inputs[name].items() <= engine.input_shapes.items()
    assert outputs[name].items() <= engine.output_shapes.items()


def test_an_unknown_engine_lists_the_known(small_build: Path) -> None:
    with pytest.raises(EngineError, match=r"engine 'tflite' is unknown; choose one of openvino, onnxruntime\."):
        load_engine("tflite", graph(small_build, "vggish"))


@pytest.mark.parametrize(
    ("kind", "precision", "said"),
    [
        ("openvino", "float16", "openvino: precision 'float16'; choose one of float32, bfloat16"),
        (
            "onnxruntime",
            "bfloat16",
            "onnxruntime: precision 'bfloat16'; it computes in float32. Use the openvino engine",
        ),
        ("onnxruntime", "float64", "onnxruntime: precision 'float64'"),
    ],
)
def test_an_unknown_precision_names_the_way_out(kind: str, precision: str, said: str, small_build: Path) -> None:
    with pytest.raises(EngineError, match=said):
        load_engine(kind, graph(small_build, "vggish"), precision=precision)


@pytest.mark.parametrize("kind", ["openvino", "onnxruntime"])
def test_a_missing_file_names_the_command_that_writes_it(kind: str, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"^model\.onnx: no such model file\. .*auralsam2 export$"):
        load_engine(kind, tmp_path / "model.onnx")


def test_compiled_models_are_kept_in_the_cache_and_answer_the_same(small_build: Path, tmp_path: Path) -> None:
    with np.load(small_build / "golden.npz") as golden:
        inputs = {"AUDIO": golden["AUDIO"]}
    path, cache = graph(small_build, "vggish"), tmp_path / "cache"
    fresh = load_engine("openvino", path, cache_dir=cache)(inputs)["AUDIO_TOKENS"].copy()
    kept = {file.name for file in cache.rglob("*") if file.is_file()}
    assert kept
    again = load_engine("openvino", path, cache_dir=cache)(inputs)["AUDIO_TOKENS"]
    assert {file.name for file in cache.rglob("*") if file.is_file()} == kept
    np.testing.assert_array_equal(again, fresh)


def test_a_graph_is_compiled_by_one_process_at_a_time(
    small_build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that write one file of OpenVINO's cache fail, and the decoder and the sessions open the same graphs."""
    import fcntl

    import openvino

    path, compile_model = graph(small_build, "vggish"), openvino.Core.compile_model
    locks: list[Path] = []

    def compiled(core: openvino.Core, *given: Any) -> Any:
        locks.extend((tmp_path / "cache").glob(".*.lock"))
        with locks[0].open("rb") as again, pytest.raises(BlockingIOError):
            fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A lock on the graph, which others may read, is no obstacle.
        with path.open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return compile_model(core, *given)

    monkeypatch.setattr(openvino.Core, "compile_model", compiled)
    load_engine("openvino", path, cache_dir=tmp_path / "cache")
    (lock,) = locks
    assert lock.stat().st_mode & 0o077 == 0, "others cannot open it, and so not hold it"
    with lock.open("rb") as free:
        fcntl.flock(free, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_cache_on_a_file_system_without_locks_is_used_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(engine.fcntl, "flock", no_locks)
    with engine._alone_in_cache(tmp_path / "cache", tmp_path / "graph.onnx"):
        assert list((tmp_path / "cache").glob(".*.lock"))


def test_the_cache_folder_comes_from_the_launcher(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AURALSAM2_CACHE_DIR", raising=False)
    assert cache_dir_from_environment() is None
    monkeypatch.setenv("AURALSAM2_CACHE_DIR", "")
    assert cache_dir_from_environment() is None
    monkeypatch.setenv("AURALSAM2_CACHE_DIR", str(tmp_path))
    assert cache_dir_from_environment() == tmp_path


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_the_hash_is_of_the_whole_file(size: int, tmp_path: Path) -> None:
    content = np.random.default_rng(size).bytes(size)
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert file_sha256(path) == hashlib.sha256(content).hexdigest()
    check_hash(path, hashlib.sha256(content).hexdigest())


def test_an_altered_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"exported")
    wanted = file_sha256(path)
    path.write_bytes(b"exportex")
    with pytest.raises(EngineError) as caught:
        check_hash(path, wanted)
    for part in ("model.onnx", file_sha256(path)[:12], wanted[:12], "altered", "auralsam2 export"):
        assert part in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"model\.onnx: no such model file.*auralsam2 export"):
        check_hash(tmp_path / "model.onnx", "0" * 64)


def test_first_non_finite_is_the_first_in_memory_order() -> None:
    values = np.zeros((2, 3, 4), np.float32)
    assert first_non_finite(values) is None
    values[1, 2, 3] = np.inf
    assert first_non_finite(values) == (1, 2, 3)
    values[1, 0, 1] = np.nan
    assert first_non_finite(values) == (1, 0, 1)
    values[0, 2, 0] = -np.inf
    assert first_non_finite(values) == (0, 2, 0)
    assert first_non_finite(np.zeros((0, 3), np.float32)) is None
    assert first_non_finite(np.full((), np.nan)) == ()


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            assert node.module is not None
            names.add(node.module.split(".")[0])
    return names


def test_the_runtime_needs_nothing_of_ours_but_what_the_client_shares_nor_torch() -> None:
    others = {"numpy", "PIL", "openvino", "onnxruntime", "triton_python_backend_utils"}
    allowed: set[Any] = {*others, "auralsam2_client", *sys.stdlib_module_names}
    runtime = Path(str(stage_runtime.__file__)).parent
    # What computes in PyTorch is copied into builds for target cuda alone.
    for path in (path for path in runtime.rglob("*.py") if "pytorch" not in path.relative_to(runtime).parts):
        assert imported(path) <= allowed, path.name
        for line in path.read_text().splitlines():
            shared = any(f"auralsam2_client.{name}" in line for name in ("contract", "enlarging", "words"))
            assert "auralsam2_client" not in line or shared, f"{path.name}: {line}"


def test_a_precision_that_the_cpu_lacks_is_refused_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "openvino_capabilities", lambda: ["FP32", "INT8"])
    with pytest.raises(EngineError, match=r"bfloat16.*FP32, INT8 only.*Choose float32"):
        engine.check_precision("openvino", "bfloat16")
    engine.check_precision("openvino", "float32")
    monkeypatch.setattr(engine, "openvino_capabilities", lambda: ["FP32", "BF16"])
    engine.check_precision("openvino", "bfloat16")


@pytest.mark.parametrize(
    ("kind", "capabilities", "wanted"),
    [
        ("openvino", ["FP32", "BF16"], "bfloat16"),
        ("openvino", ["FP32", "INT8"], "float32"),
        ("onnxruntime", ["FP32", "BF16"], "float32"),
    ],
)
def test_auto_is_bfloat16_where_engine_and_cpu_have_it(
    kind: str, capabilities: list[str], wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "openvino_capabilities", lambda: capabilities)
    assert engine.resolve_precision(kind, "auto") == wanted
    assert engine.resolve_precision(kind, "float32") == "float32"


def test_where_openvino_names_bfloat16_it_computes_in_it(small_build: Path) -> None:
    """The capability that `check_precision` trusts is kept by the compiled graph. Not the other way round: with AVX-512
    alone OpenVINO reports a bfloat16 graph that it does not claim as a capability.
    """
    import openvino

    path = small_build / "models" / "vggish" / "1" / "model.onnx"
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
    computes_in_bfloat16 = compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.bf16
    assert computes_in_bfloat16 or "BF16" not in engine.openvino_capabilities()
