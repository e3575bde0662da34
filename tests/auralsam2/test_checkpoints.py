"""Every form a released checkpoint is found in loads to the same weights; whatever does not fit is refused whole."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import hydra.utils
import pytest
import sam2
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from omegaconf import OmegaConf
from safetensors.torch import save_file
from torch import Tensor, nn

from auralsam2 import AuralSAM2, checkpoints
from auralsam2.errors import CheckpointError

State = dict[str, Tensor]
FUSER = "aural_fuser."


@pytest.fixture(scope="module")
def filled(well_scaled: Callable[[nn.Module, int], nn.Module]) -> State:
    """The weights that every file below holds in one form or another."""
    return well_scaled(AuralSAM2.from_preset("compact"), 0).state_dict()


@pytest.fixture(scope="module")
def model() -> AuralSAM2:
    return AuralSAM2.from_preset("compact")


@pytest.fixture(autouse=True)
def _emptied(model: AuralSAM2) -> None:
    for value in model.state_dict().values():
        value.zero_()


def fuser_alone(state: State) -> State:
    return {key.removeprefix(FUSER): value for key, value in state.items() if key.startswith(FUSER)}


def older(state: State) -> State:
    """As older files have it: `audio_prompter`, counted from 1, every fuser layer twice more."""
    names = {
        "patch_embeds": "train_f_patch_embed",
        "f_blocks": "train_f_block",
        "a_blocks": "train_a_block",
        "fusion_modules": "train_f_a_block",
        "smooth_convs": "train_smooth",
    }
    renamed: State = {}
    for key, value in state.items():
        if not key.startswith(FUSER):
            renamed[key] = value
            continue
        first, *rest = key.removeprefix(FUSER).split(".")
        if first in names:
            first, rest = f"{names[first]}{int(rest[0]) + 1}", rest[1:]
        name = ".".join([first, *rest])
        renamed[f"audio_prompter.{name}"] = value
        for copies in ("training_layers", "finetuning_layers"):
            renamed[f"audio_prompter.{copies}.0.{name}"] = torch.full_like(value, 9)
    return renamed


def prefixed(state: State) -> State:
    return {f"module.{key}": value for key, value in state.items()}


def assert_loaded(model: AuralSAM2, filled: State, prefix: str = "") -> None:
    for key, value in model.state_dict().items():
        wanted = filled[key] if key.startswith(prefix) else torch.zeros_like(value)
        assert torch.equal(value, wanted), key


@pytest.mark.parametrize("form", [dict, older, prefixed, lambda state: prefixed(older(state))])
def test_the_whole_network(model: AuralSAM2, filled: State, form: Callable[[State], State]) -> None:
    model.load_released(form(filled))
    assert_loaded(model, filled)
    assert checkpoints.is_whole(form(filled))


@pytest.mark.parametrize(
    "form",
    [
        fuser_alone,
        lambda state: older({k: v for k, v in state.items() if k.startswith(FUSER)}),
        lambda state: {k: v for k, v in state.items() if k.startswith(FUSER)},
        lambda state: prefixed(fuser_alone(state)),
    ],
)
def test_the_fuser_alone(model: AuralSAM2, filled: State, form: Callable[[State], State]) -> None:
    model.load_released(form(filled))
    assert_loaded(model, filled, FUSER)
    assert not checkpoints.is_whole(form(filled))


def test_without_the_batch_counters_of_newer_pytorch(model: AuralSAM2, filled: State) -> None:
    model.load_released({k: v for k, v in filled.items() if not k.endswith("num_batches_tracked")})
    assert torch.equal(model.v_model.no_mem_embed, filled["v_model.no_mem_embed"])


def test_sam2_s_own_file() -> None:
    """The names of SAM2's file are those of its own network, built from its own configuration."""
    config = OmegaConf.load(Path(sam2.__file__).parent / "configs/sam2/sam2_hiera_t.yaml")
    config.model.image_size = 224
    own = hydra.utils.instantiate(config.model, _recursive_=True).state_dict()
    model = AuralSAM2.from_preset("hiera_tiny", 224)
    checkpoints.load_sam2(model, own)
    for key, value in model.v_model.state_dict().items():
        assert torch.equal(value, own[key]), key
    with pytest.raises(CheckpointError, match=r"SAM2 checkpoint \(preset compact\) does not fit"):
        checkpoints.load_sam2(AuralSAM2.from_preset("compact"), own)


def test_vggish_s_own_file(model: AuralSAM2, filled: State) -> None:
    prefix = "aural_fuser.vgg."
    own = {key.removeprefix(prefix): value for key, value in filled.items() if key.startswith(prefix)}
    checkpoints.load_vggish(model, {**own, "pproc.pca_eigen_vectors": torch.eye(128)})
    assert_loaded(model, filled, prefix)


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model": s}, lambda s: {"state_dict": s, "epoch": 3}])
@pytest.mark.parametrize("suffix", [".pth", ".pt"])
def test_files_of_torch(filled: State, tmp_path: Path, suffix: str, wrap: Callable[[State], Any]) -> None:
    path = tmp_path / f"released{suffix}"
    torch.save(wrap(filled), path)
    assert_same(checkpoints.read(str(path)), filled)


def test_files_of_safetensors(filled: State, tmp_path: Path) -> None:
    path = tmp_path / "released.safetensors"
    save_file(filled, path)
    assert_same(checkpoints.read(str(path)), filled)


def assert_same(read: State, written: State) -> None:
    assert read.keys() == written.keys()
    for key, value in written.items():
        assert torch.equal(read[key], value), key


@pytest.mark.parametrize("revision", [None, "v1.0"])
def test_a_hub_reference(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, revision: str | None) -> None:
    asked: list[Any] = []
    path = tmp_path / "auralsam2_avs_v1s.pth"

    def download(*args: str, **kwargs: str | None) -> str:
        asked.append((args, kwargs))
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    reference = "hf://yyliu01/AuralSAM2/ckpts/auralsam2_avs_v1s.pth" + (f"@{revision}" if revision else "")
    assert checkpoints.fetch(reference) == path
    assert asked == [(("yyliu01/AuralSAM2", "ckpts/auralsam2_avs_v1s.pth"), {"revision": revision})]


@pytest.mark.parametrize("reference", ["hf://", "hf://owner", "hf://owner/repository", "hf://owner//file.pth"])
def test_a_hub_reference_of_another_form(reference: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_a, **_k: pytest.fail("the hub was asked"))
    with pytest.raises(CheckpointError, match=r"write hf://owner/repository/path/file\.pth\[@revision\]"):
        checkpoints.fetch(reference)


def test_a_hub_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_args: str, **_kwargs: str | None) -> str:
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    with pytest.raises(CheckpointError, match=r"cannot be downloaded .* download it elsewhere"):
        checkpoints.fetch("hf://owner/repository/file.pth")


def test_an_impossible_name_on_the_hub() -> None:
    # The hub's client refuses it before it opens a connection.
    with pytest.raises(CheckpointError, match=r"cannot be downloaded .*HFValidationError"):
        checkpoints.fetch("hf://ow ner/repo sitory/file.pth")


class Hostile:
    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.touched,))


def test_a_pickle_with_code_in_it_is_refused_and_not_run(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    torch.save({"weight": torch.zeros(1), "code": Hostile(touched)}, tmp_path / "hostile.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Hostile(touched)))
    for name in ("hostile.pth", "plain.pth"):
        with pytest.raises(CheckpointError, match=r"not a readable weights-only checkpoint .*\.safetensors"):
            checkpoints.read(str(tmp_path / name))
    assert not touched.exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "text.pth",
            b"version https://git-lfs.github.com/spec/v1\n",
            "text.pth: not a readable weights-only checkpoint",
        ),
        ("empty.pth", b"", "empty.pth: not a readable weights-only checkpoint"),
        ("text.safetensors", b"hello", "text.safetensors: not a readable safetensors file"),
        ("weights.ckpt", b"hello", r"weights.ckpt: cannot read .ckpt; it must be .pth, .pt, .safetensors"),
        ("weights", b"hello", "weights: cannot read no suffix"),
    ],
)
def test_files_that_are_no_checkpoint(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        checkpoints.read(str(tmp_path / name))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no such file. Give a path, or hf://"):
        checkpoints.read(str(tmp_path / "nowhere.pth"))


@pytest.mark.parametrize("content", [[1, 2], {"model": {"weight": 3}}, torch.zeros(2)])
def test_a_file_that_holds_something_else(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="holds no plain dictionary of tensors"):
        checkpoints.read(str(tmp_path / "other.pth"))


def test_every_kind_of_misfit_is_named_and_nothing_is_loaded(model: AuralSAM2, filled: State) -> None:
    state = dict(filled)
    del state["v_model.no_mem_embed"]
    state["v_model.stranger"] = torch.zeros(1)
    state["aural_fuser.vgg.features.0.weight"] = torch.ones(5, 1, 3, 3)
    with pytest.raises(CheckpointError) as caught:
        model.load_released(state)
    message = str(caught.value)
    assert "1 missing: v_model.no_mem_embed" in message
    assert "1 unexpected: v_model.stranger" in message
    assert "1 misshapen: aural_fuser.vgg.features.0.weight is [5, 1, 3, 3], must be [16, 1, 3, 3]" in message
    assert "preset compact" in message
    assert all(not value.any() for value in model.state_dict().values())


@pytest.mark.parametrize("form", [dict, fuser_alone])
def test_a_checkpoint_of_another_preset(
    model: AuralSAM2, released_shapes: dict[str, dict[str, tuple[int, ...]]], form: Callable[[State], State]
) -> None:
    other = {k: torch.empty(shape, device="meta") for k, shape in released_shapes["hiera_tiny"].items()}
    with pytest.raises(CheckpointError, match=r"and \d+ more.*Is it a checkpoint of another preset\?"):
        model.load_released(form(other))
    assert all(not value.any() for value in model.state_dict().values())


def test_a_text_form_needs_its_text_projection(filled: State) -> None:
    with pytest.raises(CheckpointError, match=r"4 missing: aural_fuser\.text_proj\.0\.bias"):
        AuralSAM2.from_preset("compact", text=True).load_released(filled)
