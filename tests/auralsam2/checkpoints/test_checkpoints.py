"""Every form a released checkpoint is found in loads to the same weights; whatever does not fit is refused whole."""

import logging
import pickle
import re
from collections.abc import Callable, Sequence
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
from auralsam2.model.loading import load_network
from auralsam2.network.aural_fuser import AuralFuser
from auralsam2.presets import preset

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


# As the release's conversion of such files reads `training_layers`; VGGish is `finetuning_layers.0`.
LIST = (
    *("patch_embeds.0", "patch_embeds.1", "patch_embeds.2"),
    *("f_blocks.0", "a_blocks.0", "fusion_modules.0"),
    *("f_blocks.1", "a_blocks.1", "fusion_modules.1"),
    *("f_blocks.2", "a_blocks.2", "fusion_modules.2"),
    *("smooth_convs.0", "smooth_convs.1", "train_proj_v1", "train_proj_a1", "text_proj"),
)


def in_lists(state: State, order: Sequence[str] = LIST, owner: str = FUSER) -> State:
    """As older files have it that name the fuser's layers by their place in a list alone."""
    places = {f"{part}.": f"training_layers.{number}." for number, part in enumerate(order)}
    places["vgg."] = "finetuning_layers.0."
    renamed: State = {}
    for key, value in state.items():
        name = key.removeprefix(FUSER)
        part = next((part for part in places if key != name and name.startswith(part)), None)
        renamed[key if part is None else f"{owner}{places[part]}{name.removeprefix(part)}"] = value
    return renamed


def with_lists(state: State) -> State:
    """As older files have it that hold the fuser's layers under their names and in lists."""
    return state | in_lists(state)


def prefixed(state: State) -> State:
    return {f"module.{key}": value for key, value in state.items()}


def assert_loaded(model: AuralSAM2, filled: State, prefix: str = "") -> None:
    for key, value in model.state_dict().items():
        wanted = filled[key] if key.startswith(prefix) else torch.zeros_like(value)
        assert torch.equal(value, wanted), key


def wrapped(*prefixes: str) -> Callable[[State], State]:
    return lambda state: {"".join(prefixes) + key: value for key, value in state.items()}


@pytest.mark.parametrize(
    "form",
    [
        dict,
        older,
        prefixed,
        lambda state: prefixed(older(state)),
        wrapped("_orig_mod."),
        wrapped("module.", "_orig_mod."),
        wrapped("_orig_mod.", "module.", "model."),
        wrapped("model.", "_orig_mod.", "module."),
        lambda state: {key.replace(FUSER, f"{FUSER}_orig_mod.module."): value for key, value in state.items()},
        lambda state: prefixed(state) | state,
        in_lists,
        with_lists,
        lambda state: prefixed(in_lists(state, owner="audio_prompter.")),
    ],
)
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
        lambda state: wrapped("model.", "module.")(fuser_alone(state)),
        lambda state: in_lists({k: v for k, v in state.items() if k.startswith(FUSER)}, owner=""),
    ],
)
def test_the_fuser_alone(model: AuralSAM2, filled: State, form: Callable[[State], State]) -> None:
    model.load_released(form(filled))
    assert_loaded(model, filled, FUSER)
    assert not checkpoints.is_whole(form(filled))


@pytest.fixture(scope="module")
def ref_avs(well_scaled: Callable[[nn.Module, int], nn.Module]) -> State:
    """As the release's Ref-AVS files have it: linear contrastive heads, the text projection, the text model."""
    network = AuralSAM2.from_preset("compact", text=True)
    fuser = network.aural_fuser
    for name in ("train_proj_v1", "train_proj_a1"):
        head = getattr(fuser, name)
        convolution = head.proj[0]
        inner, width = convolution.out_channels, convolution.in_channels
        head.proj = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.LayerNorm(inner), nn.Linear(inner, inner))
    return well_scaled(network, 3).state_dict() | {"t_model.pooler.dense.weight": torch.ones(4, 4)}


def without_text_model(state: State) -> State:
    return {key: value for key, value in state.items() if not key.startswith("t_model.")}


@pytest.mark.parametrize(
    "form",
    [
        dict,
        without_text_model,
        in_lists,
        with_lists,
        lambda state: prefixed(in_lists(state, owner="audio_prompter.")),
        wrapped("module.", "model."),
    ],
)
def test_a_ref_avs_file_loads(ref_avs: State, form: Callable[[State], State]) -> None:
    model = AuralSAM2.from_preset("compact", text=True)
    model.load_released(form(ref_avs))
    loaded = model.state_dict()
    assert loaded.keys() == without_text_model(ref_avs).keys()
    assert_same(loaded, without_text_model(ref_avs))
    assert not any(part.training for part in model.modules())
    assert checkpoints.reads_text(form(ref_avs))


def test_the_text_model_is_kept_apart_and_named(
    ref_avs: State, model: AuralSAM2, filled: State, caplog: pytest.LogCaptureFixture
) -> None:
    assert_same(checkpoints.text_model(prefixed(ref_avs)), {"pooler.dense.weight": torch.ones(4, 4)})
    assert not any("t_model" in key for key in checkpoints.current_names(ref_avs))
    assert checkpoints.text_model(filled) == {}
    with caplog.at_level(logging.INFO):
        model.load_released(filled | {"t_model.pooler.dense.weight": torch.ones(4, 4)})
    assert "t_model.*, 1 tensors" in caplog.text


def test_heads_of_either_form_follow_each_other(ref_avs: State, filled: State) -> None:
    model = AuralSAM2.from_preset("compact", text=True)
    words = {key: value for key, value in ref_avs.items() if ".text_proj." in key}
    for state in (filled | words, ref_avs, filled | words):
        model.load_released(state)
        assert_same(model.state_dict(), without_text_model(state))


def test_a_refused_file_leaves_the_heads_as_they_were(ref_avs: State, model: AuralSAM2, filled: State) -> None:
    model.load_released(filled)
    with pytest.raises(CheckpointError, match=r"4 unexpected: aural_fuser\.text_proj\.0\.bias"):
        model.load_released(ref_avs)
    assert_same(model.state_dict(), filled)


def test_the_contrastive_heads_are_not_read(ref_avs: State) -> None:
    model = AuralSAM2.from_preset("compact", 224, text=True)
    model.load_released(ref_avs)
    draw = torch.Generator().manual_seed(0)
    clip = torch.randn(2, 3, 224, 224, generator=draw), torch.randn(2, 2, 96, 64, generator=draw)
    words = torch.randn(1, 25, 768, generator=draw)
    wanted = model(*clip, words)
    for head in (model.aural_fuser.train_proj_v1, model.aural_fuser.train_proj_a1):
        for parameter in head.parameters():
            parameter.fill_(torch.nan)
    assert torch.equal(model(*clip, words).low_res_logits, wanted.low_res_logits)


@pytest.mark.parametrize("form", ["whole", "listed"])
def test_the_keys_of_ref_avs_files(
    ref_avs_shapes: dict[str, dict[str, tuple[int, ...]]],
    released_shapes: dict[str, dict[str, tuple[int, ...]]],
    form: str,
) -> None:
    held = {key: torch.zeros(()).expand(shape) for key, shape in ref_avs_shapes[form].items()}
    with torch.device("meta"):
        fuser = AuralFuser(preset("hiera_large"), 1024, True, "released")
        fuser.train_proj_v1, fuser.train_proj_a1 = fuser.new_heads("linear")
    wanted = {key: shape for key, shape in released_shapes["hiera_large"].items() if key.startswith("v_model.")}
    wanted |= {FUSER + key: tuple(value.shape) for key, value in fuser.state_dict().items()}
    assert {key: value.shape for key, value in checkpoints.current_names(held).items()} == wanted
    # DistilRoBERTa: embeddings, six layers, pooler.
    words = checkpoints.text_model(held)
    assert len(words) == 5 + 6 * 16 + 2
    assert words["encoder.layer.5.output.dense.weight"].shape == (768, 3072)
    assert checkpoints.reads_text(held)
    assert checkpoints.is_whole(held)


@pytest.mark.parametrize("name", ["hiera_tiny", "hiera_small", "hiera_base_plus", "hiera_large"])
@pytest.mark.parametrize("ending", [14, 16])
def test_the_keys_of_older_avsbench_files(
    released_shapes: dict[str, dict[str, tuple[int, ...]]], name: str, ending: int
) -> None:
    held = {
        key: torch.zeros(()).expand(shape)
        for key, shape in released_shapes[name].items()
        if ending == 16 or ".train_proj_" not in key
    }
    named = checkpoints.current_names(in_lists(held))
    assert {key: value.shape for key, value in named.items()} == {key: value.shape for key, value in held.items()}
    assert not checkpoints.reads_text(in_lists(held))


def test_a_list_in_the_order_of_the_parts(model: AuralSAM2, filled: State) -> None:
    parts = ("f_blocks", "a_blocks", "fusion_modules")
    by_part = (*LIST[:3], *(f"{part}.{stage}" for part in parts for stage in range(3)), *LIST[12:])
    model.load_released(in_lists(filled, by_part))
    assert_loaded(model, filled)


@pytest.mark.parametrize(
    "order",
    [
        # A smoothing convolution before the third patch embedding, whose shapes are the same.
        ("patch_embeds.0", "patch_embeds.1", *LIST[3:12], "smooth_convs.0", "smooth_convs.1", "patch_embeds.2"),
        # The fusion before the blocks that it follows.
        (*LIST[:3], "fusion_modules.0", "f_blocks.0", "a_blocks.0", *LIST[6:14]),
        LIST[1:14],
    ],
)
def test_a_list_in_an_order_that_nobody_knows(model: AuralSAM2, filled: State, order: Sequence[str]) -> None:
    state = in_lists({key: value for key, value in filled.items() if ".train_proj_" not in key}, order)
    with pytest.raises(CheckpointError, match=r"in no order that is known.*\(0: .*Convert the file"):
        model.load_released(state)
    assert all(not value.any() for value in model.state_dict().values())


def test_sound_and_picture_exchanged_in_a_list(released_shapes: dict[str, dict[str, tuple[int, ...]]]) -> None:
    """The blocks of stage 1 are as many on both sides; those of the later stages tell."""
    held = {key: torch.zeros(()).expand(shape) for key, shape in released_shapes["hiera_tiny"].items()}
    sides = {"f_blocks": "a_blocks", "a_blocks": "f_blocks"}
    exchanged = [part.replace(part[:8], sides.get(part[:8], part[:8])) for part in LIST]
    with pytest.raises(CheckpointError, match="in no order that is known"):
        checkpoints.current_names(in_lists(held, exchanged))


def test_a_second_list_for_fine_tuning(model: AuralSAM2, filled: State) -> None:
    state = {key.replace("finetuning_layers.0.", "finetuning_layers.1."): v for key, v in in_lists(filled).items()}
    with pytest.raises(CheckpointError, match=r"lists finetuning_layers\.1; known is finetuning_layers\.0, VGGish"):
        model.load_released(state)


def test_a_part_that_stands_in_the_list_alone(model: AuralSAM2, filled: State) -> None:
    both = with_lists(filled)
    state = {key: value for key, value in both.items() if not key.startswith(f"{FUSER}a_blocks.2.")}
    model.load_released(state)
    assert_loaded(model, filled)


def test_duplicates_that_differ_are_named(model: AuralSAM2, filled: State, caplog: pytest.LogCaptureFixture) -> None:
    state = with_lists(filled)
    model.load_released(state)
    assert not caplog.records
    state["aural_fuser.training_layers.5.W_z.1.running_var"] = torch.full((128,), 9.0)
    model.load_released(state)
    assert_loaded(model, filled)
    (record,) = caplog.records
    assert "1 of the tensors" in record.getMessage()
    assert record.getMessage().endswith(": training_layers.5.W_z.1.running_var")


def test_duplicates_whose_order_nobody_knows_are_named(
    model: AuralSAM2, filled: State, caplog: pytest.LogCaptureFixture
) -> None:
    model.load_released(filled | in_lists(filled, LIST[1:16]))
    assert_loaded(model, filled)
    assert re.search(r"\d+ of the tensors .* cannot be matched .* and \d+ more$", caplog.text.strip())


def test_two_keys_that_become_one_and_differ(model: AuralSAM2, filled: State) -> None:
    key = "v_model.no_mem_embed"
    with pytest.raises(CheckpointError, match=rf"holds {key} twice, as {key} and as module\.{key}, and they differ"):
        model.load_released(filled | {f"module.{key}": filled[key] + 1})


def test_without_the_batch_counters_of_newer_pytorch(model: AuralSAM2, filled: State) -> None:
    model.load_released({k: v for k, v in filled.items() if not k.endswith("num_batches_tracked")})
    assert torch.equal(model.v_model.no_mem_embed, filled["v_model.no_mem_embed"])


def test_sam2_s_own_file() -> None:
    """The names of SAM2's file are those of its own network, built from its own configuration."""
    config = OmegaConf.load(Path(sam2.__file__).parent / "configs/sam2/sam2_hiera_t.yaml")
    config.model.image_size = 224
    own = hydra.utils.instantiate(config.model, _recursive_=True).state_dict()
    model = AuralSAM2.from_preset("hiera_tiny", 224)
    checkpoints.load_sam2(model, prefixed(own))
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


VARIANCE = "aural_fuser.fusion_modules.0.W_z.1.running_var"


def broken(state: State) -> State:
    """With five infinite variances and a bias that is no number."""
    variance, bias = state[VARIANCE].clone(), state["v_model.mask_downsample.bias"].clone()
    variance[3:7], variance[9], bias[0] = torch.inf, -torch.inf, torch.nan
    return state | {VARIANCE: variance, "v_model.mask_downsample.bias": bias}


BROKEN = (
    rf"{VARIANCE}: 5 of 128 values are not finite \(5 Inf\);"
    r" v_model\.mask_downsample\.bias: 1 of 1 values are not finite \(1 NaN\)\. Fetch the file again"
)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_a_file_with_values_that_are_not_finite(filled: State, tmp_path: Path, suffix: str, dtype: torch.dtype) -> None:
    path = tmp_path / f"broken{suffix}"
    names = (VARIANCE, "v_model.mask_downsample.bias", "v_model.no_mem_embed")
    state = {key: broken(filled)[key].to(dtype) for key in names} | {"count": torch.tensor(7)}
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    with pytest.raises(CheckpointError, match=rf"^broken{suffix}: {BROKEN}"):
        checkpoints.read(str(path))


def test_values_that_are_not_finite_are_not_loaded(model: AuralSAM2, filled: State) -> None:
    with pytest.raises(CheckpointError, match=rf"^the checkpoint \(whole network, preset compact\): {BROKEN}"):
        model.load_released(broken(filled))
    short = VARIANCE.removeprefix(FUSER)
    with pytest.raises(CheckpointError, match=rf"fuser alone, preset compact\): {short}: 5 of 128 values"):
        model.load_released(fuser_alone(broken(filled)))
    with pytest.raises(CheckpointError, match=rf"whole network, preset compact\): {BROKEN}"):
        model.load_released(in_lists(broken(filled)))
    sam2_s = {k.removeprefix("v_model."): v for k, v in broken(filled).items() if k.startswith("v_model.")}
    with pytest.raises(CheckpointError, match=r"SAM2 checkpoint .*: mask_downsample\.bias: 1 of 1 values"):
        checkpoints.load_sam2(model, sam2_s)
    vggish = {k: torch.full_like(v, torch.inf) for k, v in model.aural_fuser.vgg.state_dict().items()}
    with pytest.raises(
        CheckpointError, match=r"VGGish checkpoint: .*16 of 16 values are not finite \(16 Inf\).* more\."
    ):
        checkpoints.load_vggish(model, vggish)
    with pytest.raises(CheckpointError, match=rf"^the state: {BROKEN}"):
        checkpoints.load_strictly(model, broken(filled), "the state")
    assert all(not value.any() for value in model.state_dict().values())


def test_evaluating_refuses_values_that_are_not_finite(filled: State, tmp_path: Path) -> None:
    save_file(broken(filled), tmp_path / "broken.safetensors")
    with pytest.raises(CheckpointError, match=rf"^broken\.safetensors: {BROKEN}"):
        load_network("compact", checkpoint=str(tmp_path / "broken.safetensors"))


@pytest.mark.parametrize("value", [torch.finfo(torch.float32).max, -torch.finfo(torch.float32).max, 1e-45, 0.0])
def test_the_ends_of_the_type_are_finite(value: float) -> None:
    checkpoints.check_finite({"a": torch.tensor([value]), "none": torch.empty(0), "n": torch.tensor([True])}, "it")


def test_one_byte_floats_are_read_too() -> None:
    checkpoints.check_finite({"a": torch.ones(3).to(torch.float8_e4m3fn)}, "it")
    with pytest.raises(CheckpointError, match="it: a: 1 of 3 values are not finite"):
        checkpoints.check_finite({"a": torch.tensor([1.0, torch.inf, 2.0]).to(torch.float8_e5m2)}, "it")


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
