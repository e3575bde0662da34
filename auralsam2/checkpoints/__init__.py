"""Released checkpoints, in every form they are found in, brought to one set of names and checked key by key.

Forms: the whole network (`v_model.*`, `aural_fuser.*`); the fuser alone (`vgg.*`, `f_blocks.*`, ...); Ref-AVS files,
whose contrastive heads are linear and which may hold their text model too (`t_model.*`); older files that say
`audio_prompter.*` with names counted from 1, and hold the fuser's layers twice more, or only, in lists
(`training_layers.N`, `finetuning_layers.0`). Any of them in wrappers: `module.`, `_orig_mod.`, `model.`, in any order.
"""

from auralsam2.checkpoints.files import HUB_SCHEME, check, fetch, load_torch, read
from auralsam2.checkpoints.finite import check_finite
from auralsam2.checkpoints.fitting import load_into, load_sam2, load_strictly, load_vggish
from auralsam2.checkpoints.kinds import kind_of
from auralsam2.checkpoints.knowledge import CLASSES, TRAINED_ON, class_names, header, trained_on
from auralsam2.checkpoints.methods import method_of
from auralsam2.checkpoints.names import FUSER, current_names, is_whole, lacks, reads_text, text_model

__all__ = [
    "CLASSES",
    "FUSER",
    "HUB_SCHEME",
    "TRAINED_ON",
    "check",
    "check_finite",
    "class_names",
    "current_names",
    "fetch",
    "header",
    "is_whole",
    "kind_of",
    "lacks",
    "load_into",
    "load_sam2",
    "load_strictly",
    "load_torch",
    "load_vggish",
    "method_of",
    "read",
    "reads_text",
    "text_model",
    "trained_on",
]
