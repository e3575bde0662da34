"""Weights into a network, all of them or none: every key is accounted for before the first is loaded."""

import logging
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol

from torch import Tensor

from auralsam2.checkpoints.finite import check_finite
from auralsam2.checkpoints.names import FUSER, PREFIXES_KNOWN, SAM2, join_keys, sort_out, without_wrappers
from auralsam2.errors import CheckpointError
from auralsam2.network.adapters import SoundAdapters
from auralsam2.network.aural_fuser import AuralFuser, HeadForm
from auralsam2.presets import Preset

VGGISH = f"{FUSER}vgg."

_LOG = logging.getLogger(__name__)


class Module(Protocol):
    """What weights are loaded into: a module of PyTorch."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> object: ...


class Network(Module, Protocol):
    """An `AuralSAM2`, by its parts: the network itself loads its weights through this module."""

    @property
    def preset(self) -> Preset: ...

    @property
    def v_model(self) -> Module: ...

    @property
    def aural_fuser(self) -> AuralFuser | SoundAdapters: ...


def load_strictly(module: Module, state: Mapping[str, Tensor], what: str) -> None:
    """Load every key of `state` into `module`, all of them or none.

    Raises: CheckpointError naming missing, unexpected and misshapen keys, and those whose values are not finite.
    """
    wanted = module.state_dict()
    # Older PyTorch wrote no batch counters; evaluation never reads them.
    missing = [k for k in wanted if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state if k not in wanted]
    misshapen = [
        f"{k} is {list(state[k].shape)}, must be {list(wanted[k].shape)}"
        for k in wanted
        if k in state and state[k].shape != wanted[k].shape
    ]
    prefix = _unknown_prefix(unexpected, wanted)
    if prefix is not None:
        raise CheckpointError(
            f"{what} does not fit: its names carry a prefix that is not known: {prefix!r}. {PREFIXES_KNOWN}"
        )
    problems = [
        f"{len(keys)} {kind}: {join_keys(keys)}"
        for kind, keys in (("missing", missing), ("unexpected", unexpected), ("misshapen", misshapen))
        if keys
    ]
    if problems:
        raise CheckpointError(f"{what} does not fit. {'; '.join(problems)}. Is it a checkpoint of another preset?")
    check_finite(state, what)
    module.load_state_dict(dict(state), strict=False)


def _unknown_prefix(unexpected: Iterable[str], wanted: Collection[str]) -> str | None:
    """What stands before most of the names that are wanted, or None."""
    found = Counter(
        key[: dot.end()] for key in unexpected for dot in re.finditer(r"\.", key) if key[dot.end() :] in wanted
    )
    prefix, count = found.most_common(1)[0] if found else ("", 0)
    return prefix if 2 * count > len(wanted) else None


def load_into(model: Network, state: Mapping[str, Tensor]) -> None:
    """Load a released file's tensors into `model`: the whole network, or `aural_fuser` where that is all it holds.

    The contrastive heads become those of the file, whichever of the two released forms it holds; inference reads none.
    What else the file holds, the text model of Ref-AVS, is left to `text_model`.

    Raises: CheckpointError naming missing, unexpected and misshapen keys, and those whose values are not finite;
        `model` is then as it was.
    """
    named = sort_out(state)
    own_part = model.aural_fuser
    with _heads_of(named.network, own_part) if isinstance(own_part, AuralFuser) else nullcontext():
        if any(key.startswith(SAM2) for key in named.network):
            load_strictly(model, named.network, f"the checkpoint (whole network, preset {model.preset.name})")
        else:
            fuser = {key.removeprefix(FUSER): value for key, value in named.network.items()}
            load_strictly(own_part, fuser, f"the checkpoint (fuser alone, preset {model.preset.name})")
    if named.differing:
        _LOG.warning(
            "%d of the tensors that the checkpoint lists a second time (training_layers, finetuning_layers) differ from"
            " those under the layer's own name, or cannot be matched with them; the latter were loaded: %s",
            len(named.differing),
            join_keys(named.differing),
        )
    if named.text_model:
        _LOG.info(
            "the checkpoint holds its text model too (t_model.*, %d tensors), which is not part of the network",
            len(named.text_model),
        )


@contextmanager
def _heads_of(network: Mapping[str, Tensor], fuser: AuralFuser) -> Iterator[None]:
    """Give `fuser` heads of the form that `network` holds, for good unless the block raises."""
    held = fuser.train_proj_v1, fuser.train_proj_a1
    # Linear, GELU, LayerNorm, Linear: the other form ends at 2.
    linear = any(key.startswith(f"{FUSER}train_proj_v1.proj.3.") for key in network)
    form: HeadForm = "linear" if linear else "convolution"
    if form != held[0].form:
        fuser.train_proj_v1, fuser.train_proj_a1 = fuser.new_heads(form)
    try:
        yield
    except CheckpointError:
        fuser.train_proj_v1, fuser.train_proj_a1 = held
        raise


def load_sam2(model: Network, state: Mapping[str, Tensor]) -> None:
    """Load SAM2's own checkpoint (`sam2_hiera_*.pt`, names without prefix) under a fuser-only AuralSAM2 file.

    Of a whole AuralSAM2 file its SAM2 is taken.
    """
    bare = without_wrappers(state)
    own = {key.removeprefix(SAM2): value for key, value in bare.items() if key.startswith(SAM2)}
    load_strictly(model.v_model, own or bare, f"the SAM2 checkpoint (preset {model.preset.name})")


def load_vggish(model: Network, state: Mapping[str, Tensor]) -> None:
    """Load VGGish alone (`vggish-10086976.pth`); its post-processing matrices (`pproc.*`) are not used.

    Of an AuralSAM2 file its VGGish is taken.
    """
    kept = {key: value for key, value in without_wrappers(state).items() if not key.startswith("pproc.")}
    own = {key.removeprefix(VGGISH): value for key, value in kept.items() if key.startswith(VGGISH)}
    kept = own or kept
    load_strictly(model.aural_fuser.vgg, kept, "the VGGish checkpoint")
