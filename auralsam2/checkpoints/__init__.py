"""Released checkpoints, in every form they are found in, brought to one set of names and checked key by key.

Forms: the whole network (`v_model.*`, `aural_fuser.*`); the fuser alone (`vgg.*`, `f_blocks.*`, ...); older files that
say `audio_prompter.*` with names counted from 1 and hold every layer twice more under `training_layers` and
`finetuning_layers`.
"""

from auralsam2.checkpoints.files import HUB_SCHEME, fetch, read
from auralsam2.checkpoints.fitting import load_into, load_sam2, load_strictly, load_vggish
from auralsam2.checkpoints.names import current_names, is_whole

__all__ = [
    "HUB_SCHEME",
    "current_names",
    "fetch",
    "is_whole",
    "load_into",
    "load_sam2",
    "load_strictly",
    "load_vggish",
    "read",
]
