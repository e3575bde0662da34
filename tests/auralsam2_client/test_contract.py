"""The contract: sizes, tensors and reasons; one copy, read by all."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from auralsam2.network import log_mel
from auralsam2_client import contract, enlarging, words
from auralsam2_client.contract import (
    ADAPTERS,
    AURALSAM2,
    METHODS,
    MODELS,
    TOKENS,
    Parameter,
    Reason,
    Sizes,
    error_text,
    models_of,
    point_tensors,
    read_error,
    tensor,
)

SIZES = Sizes(num_frames=5, image_size=224, channels=128)


@pytest.mark.parametrize(
    ("name", "dtype", "shape"),
    [
        ("FRAMES", "UINT8", (5, 224, 224, 3)),
        ("AUDIO", "FP32", (5, 15600, 2)),
        ("POINT_COORDS", "FP32", (16, 2)),
        ("POINT_LABELS", "INT32", (16,)),
        ("MASK_INPUT", "FP32", (56, 56)),
        ("USE_AUDIO", "BOOL", (1,)),
        ("HIGH_RES_S4", "FP32", (5, 16, 56, 56)),
        ("HIGH_RES_S8", "FP32", (5, 32, 28, 28)),
        ("IMAGE_EMBEDDING", "FP32", (5, 128, 14, 14)),
        ("SOUND_3", "FP32", (5, 128)),
        ("MASK_LOGITS", "FP32", (5, 56, 56)),
        ("CANDIDATE_LOGITS", "FP32", (5, 3, 56, 56)),
        ("OBJECT_SCORE", "FP32", (5,)),
        ("PROMPT_MODE", "STRING", (1,)),
        ("MASK_LOGITS_FP16", "FP16", (5, 56, 56)),
        ("MASK_BITS", "UINT8", (5, 56, 7)),
        ("MASK_RLE", "STRING", (5,)),
        ("ANSWER", "INT32", (1,)),
        ("OUTPUT_SIZE", "INT32", (2,)),
    ],
)
def test_a_tensor_is_a_function_of_the_sizes(name: str, dtype: str, shape: tuple[int, ...]) -> None:
    found = tensor(name, SIZES)
    assert (found.name, found.dtype, found.shape) == (name, dtype, shape)
    assert dtype in contract.DTYPES


def test_every_tensor_of_every_model_is_declared() -> None:
    kinds = [*map(models_of, METHODS), models_of(AURALSAM2, classes=True), models_of(AURALSAM2, text=True)]
    models = [model for kind in kinds for model in kind.values()]
    named = {name for model in models for name in (*model.inputs, *model.optional, *model.outputs)}
    # What a graph takes from its model's own code is no model's tensor.
    assert named | {ADAPTERS, TOKENS} == set(contract._TENSORS)


def test_methods_differ_where_the_sound_enters_and_nowhere_else() -> None:
    own, adapted = models_of(AURALSAM2), models_of("gavs")
    assert own is MODELS
    differing = {name for name in MODELS if own[name] != adapted[name]}
    assert differing == {"hiera", "aural_fuser", "sam2_decoder", "auralsam2_features"}
    assert adapted["auralsam2"] == own["auralsam2"], "callers know one wire"


def test_a_window_is_96_hops_of_the_network() -> None:
    assert log_mel.NUM_HOPS * log_mel.STFT_HOP == contract.HOP_SAMPLES == 15360
    samples = (log_mel.NUM_HOPS - 1) * log_mel.STFT_HOP + log_mel.STFT_WINDOW
    assert samples == contract.WINDOW_SAMPLES == 15600
    assert contract.WINDOW_S == 0.975


@pytest.mark.parametrize("count", [0, 1, 16])
def test_points_fill_up_with_padding(count: int) -> None:
    coords, labels = np.full((count, 2), 3, np.float32), np.ones(count, np.int32)
    found = point_tensors(coords, labels)
    for name, value in found.items():
        wanted = tensor(name, SIZES)
        assert value.shape == wanted.shape
        assert value.dtype == contract.DTYPES[wanted.dtype]
    assert found["POINT_LABELS"].tolist() == [1] * count + [-1] * (16 - count)


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("before", ["", "in ensemble 'auralsam2', "])
def test_a_reason_crosses_the_wire_before_any_words(reason: Reason, before: str) -> None:
    assert error_text(reason, "words").startswith(f"[{reason.value}] ")
    assert read_error(before + error_text(reason, "any: [queue_full] words")) == (reason, "any: [queue_full] words")
    assert reason in contract.STATUS


def test_words_without_a_known_code_have_no_reason() -> None:
    for text in ("queue_full", "the queue [queue_full] is full", "[5] x", "", "[queue_full]"):
        assert read_error(text) == (None, text)
    assert read_error("[of_a_later_release] words") == (None, "words")


def test_it_needs_numpy_and_nothing_else() -> None:
    tree = ast.parse(Path(contract.__file__).read_text())
    found = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    found |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in found} <= {"numpy", *sys.stdlib_module_names}


# Rooms whose modules may name what the contract declares, but not write it down again.
ROOMS = ("auralsam2", "auralsam2_client", "export", "kernels", "loadtests", "model_repository", "service")
DECLARED = {
    contract.SAMPLE_RATE,
    contract.WINDOW_SAMPLES,
    contract.HOP_SAMPLES,
    contract.SESSION_SUFFIX,
    contract.SESSION,
    contract.FEATURES_ENSEMBLE,
    contract.HANDED_ON,
    contract.GOLDEN_PREFIX,
    # The other parameters' names are words of everyday.
    *(Parameter.MAX_CLIPS_IN_FLIGHT, Parameter.CLIP_TIMEOUT_S, Parameter.ENDS_CLIP),
    *(Parameter.MAX_SESSIONS, Parameter.MAX_SESSION_BYTES),
    *(Parameter.SESSION_IDLE_TIMEOUT_S, Parameter.SESSION_GIVE_WAY_S),
    *(parameter.variable for parameter in contract.Parameter),
    contract.LAUNCH_VARIABLE,
    contract.FRAMES_METRIC,
    contract.CLIPS_METRIC,
    *(Reason.QUEUE_FULL, Reason.BAD_REQUEST, Reason.SESSION_ENDED, Reason.SESSION_LIMIT),
}
# The same of names that belong together, in this order.
TOGETHER = {
    contract.STAGE_NAMES,
    contract.COMBINATIONS,
    contract.CLIP,
    contract.PROMPTS,
    contract.WISHES,
    contract.SMALL_MASKS,
    contract.RESULTS,
    contract.USUAL_RESULTS,
    contract.IMAGE_FEATURES,
    contract.SOUND_FEATURES,
}


def written_down(node: ast.AST) -> object:
    """The value of a constant, or of constants in brackets; None of any other."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | str):
        return node.value
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return tuple(written_down(element) for element in node.elts)
    return None


def test_what_the_contract_declares_is_written_down_nowhere_else(repository_root: Path) -> None:
    again = []
    for path in (path for room in ROOMS for path in (repository_root / room).rglob("*.py")):
        if path != Path(contract.__file__):
            again += [
                f"{path.relative_to(repository_root)}:{getattr(node, 'lineno', 0)} {written_down(node)!r}"
                for node in ast.walk(ast.parse(path.read_text()))
                if written_down(node) in DECLARED | TOGETHER
            ]
    assert not again, "\n".join(again)


@pytest.mark.parametrize("model", ["vggish", "hiera", "aural_fuser", "sam2_decoder", "auralsam2_session"])
def test_the_stages_of_a_build_read_a_copy_beside_them(model: str, small_build: Path, tmp_path: Path) -> None:
    """In a Python of its own, with the model's folder last on the path, as the server's stub puts it there."""
    folder = shutil.copytree(small_build / "models" / model / "1", tmp_path / "1")
    copied = {path.name: path.read_bytes() for path in (folder / "auralsam2_client").iterdir()}
    shared = {
        path.name: path.read_bytes() for path in (Path(str(each.__file__)) for each in (contract, enlarging, words))
    }
    assert copied == shared | {"__init__.py": b""}
    numpy_only = tmp_path / "site"
    numpy_only.mkdir()
    for package in Path(np.__file__).parent.parent.glob("numpy*"):
        (numpy_only / package.name).symlink_to(package)
    (numpy_only / "triton_python_backend_utils.py").touch()
    program = f"""
import sys
sys.path = [{str(numpy_only)!r}, *(entry for entry in sys.path if "site-packages" not in entry), {str(folder)!r}]
import model
from auralsam2_client import contract
print(contract.__file__)
"""
    found = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert Path(found.stdout.strip()) == folder / "auralsam2_client" / "contract.py"
