"""The file of a class head: what it says of itself, and what is said of files that are none or do not fit."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from auralsam2 import checkpoints
from auralsam2.classes.class_head import ClassHead
from auralsam2.classes.head_file import PREFIX, header_of, load_classifier, read_head, tensors_of
from auralsam2.errors import CheckpointError
from auralsam2.model.shipped import sha256_of, shipped_weights
from auralsam2.presets import preset
from tests.auralsam2.conftest import Shapes

COMPACT = preset("compact")
NETWORK = "0123456789abcdef" * 4


@pytest.fixture(scope="module")
def head() -> ClassHead:
    return ClassHead(COMPACT, 3)


@pytest.fixture
def path(head: ClassHead, tmp_path: Path) -> Path:
    return write(tmp_path / "head.safetensors", tensors_of(head), header_of(("cat", "dog", "fish, red"), NETWORK))


def write(path: Path, state: dict[str, Tensor], header: dict[str, str]) -> Path:
    save_file(state, path, metadata=header)
    return path


def test_a_head_comes_back_with_its_names(head: ClassHead, path: Path) -> None:
    found, names = read_head(str(path), COMPACT, NETWORK)
    assert names == ("cat", "dog", "fish, red")
    for key, value in head.state_dict().items():
        assert torch.equal(found.state_dict()[key], value), key


def test_the_released_v2_file_says_what_it_lacks(released_shapes: dict[str, Shapes], tmp_path: Path) -> None:
    """It holds the network alone: none of its names is of a class token, so its objects have no names."""
    names = released_shapes["hiera_large"]
    assert not [name for name in names if "class" in name or "semantic" in name]
    path = tmp_path / "auralsam2_avs_v2.pth"
    torch.save({name: torch.zeros(1) for name in names}, path)
    with pytest.raises(CheckpointError) as caught:
        read_head(str(path), preset("hiera_large"), NETWORK)
    said = str(caught.value)
    assert said.startswith(
        f"auralsam2_avs_v2.pth holds no class head: none of its {len(names)} tensors is a class_head."
    )
    assert "it is a network, which outlines what sounds and gives it no name" in said
    assert "python -m auralsam2.training.after.class_tuning" in said


def test_other_files_say_what_they_hold(tmp_path: Path) -> None:
    path = write(tmp_path / "other.safetensors", {"vgg.features.0.bias": torch.zeros(2)}, {})
    with pytest.raises(CheckpointError, match=r"other\.safetensors holds no class head: .*\(it holds vgg\)"):
        read_head(str(path), COMPACT, NETWORK)


@pytest.mark.parametrize("said", [None, "cat, dog", "[]", '{"cat": 1}', '["cat", ""]', "[1, 2, 3]"])
def test_a_head_without_names_is_refused(head: ClassHead, tmp_path: Path, said: str | None) -> None:
    header = {"network_sha256": NETWORK} | ({} if said is None else {"classes": said})
    path = write(tmp_path / "head.safetensors", tensors_of(head), header)
    with pytest.raises(CheckpointError, match="its header does not name its classes"):
        read_head(str(path), COMPACT, NETWORK)


def test_a_class_is_named_once(head: ClassHead, tmp_path: Path) -> None:
    path = write(tmp_path / "head.safetensors", tensors_of(head), header_of(("cat", "dog", "cat"), NETWORK))
    with pytest.raises(CheckpointError, match="names a class twice"):
        read_head(str(path), COMPACT, NETWORK)


@pytest.mark.parametrize("names", [("cat", "dog"), ("cat", "dog", "fish", "cow")])
def test_names_are_as_many_as_tokens(head: ClassHead, tmp_path: Path, names: tuple[str, ...]) -> None:
    path = write(tmp_path / "head.safetensors", tensors_of(head), header_of(names, NETWORK))
    with pytest.raises(CheckpointError, match=rf"tokens is \[3, 128\], must be \[{len(names)}, 128\]"):
        read_head(str(path), COMPACT, NETWORK)


def test_half_a_head_names_what_is_missing(head: ClassHead, tmp_path: Path) -> None:
    state = tensors_of(head)
    del state[f"{PREFIX}score.bias"]
    path = write(tmp_path / "head.safetensors", state, header_of(("cat", "dog", "cow"), NETWORK))
    with pytest.raises(CheckpointError, match=r"1 missing: score\.bias"):
        read_head(str(path), COMPACT, NETWORK)


def test_a_head_is_not_set_on_other_weights(path: Path) -> None:
    with pytest.raises(CheckpointError, match="masks of weights with sha256 01234567, not of these, ffffffff"):
        read_head(str(path), COMPACT, "f" * 64)
    with pytest.raises(CheckpointError, match="masks of weights with sha256 01234567"):
        load_classifier(classes=str(path))


def test_a_preset_without_head_says_so(tmp_path: Path) -> None:
    weights = shipped_weights("compact")
    assert weights is not None
    with pytest.raises(CheckpointError, match="no weights are shipped for preset 'hiera_tiny'"):
        load_classifier("hiera_tiny")
    # The network itself, given as head.
    with pytest.raises(CheckpointError, match=r"compact\.safetensors holds no class head"):
        load_classifier(classes=str(weights))


def test_the_shipped_head_fits_the_shipped_weights() -> None:
    classifier = load_classifier()
    assert classifier.names == ("disc", "ring", "square", "cross", "triangle", "star")
    assert classifier.head.num_classes == 6
    weights = shipped_weights("compact")
    assert weights is not None
    head = weights.with_name("compact-classes.safetensors")
    assert head.stat().st_size <= 2_000_000
    said = checkpoints.header(str(head))
    assert said["network_sha256"] == sha256_of(weights)
    assert json.loads(said["classes"]) == list(classifier.names)
    assert said[checkpoints.TRAINED_ON] == checkpoints.trained_on(str(weights))
