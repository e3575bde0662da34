"""Weights into a network, all of them or none: every key is accounted for before the first is loaded."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn

from auralsam2.checkpoints.names import current_names, is_whole
from auralsam2.errors import CheckpointError

if TYPE_CHECKING:
    from auralsam2.model import AuralSAM2

MAX_KEYS_NAMED = 8


def _listed(keys: Iterable[str]) -> str:
    names = sorted(keys)
    more = f" and {len(names) - MAX_KEYS_NAMED} more" if len(names) > MAX_KEYS_NAMED else ""
    return ", ".join(names[:MAX_KEYS_NAMED]) + more


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Load every key of `state` into `module`, all of them or none.

    Raises: CheckpointError naming missing, unexpected and misshapen keys.
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
    problems = [
        f"{len(keys)} {kind}: {_listed(keys)}"
        for kind, keys in (("missing", missing), ("unexpected", unexpected), ("misshapen", misshapen))
        if keys
    ]
    if problems:
        raise CheckpointError(f"{what} does not fit. {'; '.join(problems)}. Is it a checkpoint of another preset?")
    module.load_state_dict(dict(state), strict=False)


def load_into(model: "AuralSAM2", state: Mapping[str, Tensor]) -> None:
    """Load a released file's tensors into `model`: the whole network, or `aural_fuser` where that is all it holds."""
    named = current_names(state)
    if is_whole(state):
        load_strictly(model, named, f"the checkpoint (whole network, preset {model.preset.name})")
        return
    fuser = {key.removeprefix("aural_fuser."): value for key, value in named.items()}
    load_strictly(
        model.get_submodule("aural_fuser"), fuser, f"the checkpoint (fuser alone, preset {model.preset.name})"
    )


def load_sam2(model: "AuralSAM2", state: Mapping[str, Tensor]) -> None:
    """Load SAM2's own checkpoint (`sam2_hiera_*.pt`, names without prefix) under a fuser-only AuralSAM2 file."""
    load_strictly(model.get_submodule("v_model"), state, f"the SAM2 checkpoint (preset {model.preset.name})")


def load_vggish(model: "AuralSAM2", state: Mapping[str, Tensor]) -> None:
    """Load VGGish alone (`vggish-10086976.pth`); its post-processing matrices (`pproc.*`) are not used."""
    kept = {key: value for key, value in state.items() if not key.startswith("pproc.")}
    load_strictly(model.get_submodule("aural_fuser.vgg"), kept, "the VGGish checkpoint")
