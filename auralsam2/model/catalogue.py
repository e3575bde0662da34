"""Weights that the project ships, and those that a person may bring: where from, under which licence, what they know.

A size is measured, or follows from the parameters that a publisher counts; a hash is measured, or named by a publisher.
What neither tells is empty: nothing is filled in by guess.
"""

from dataclasses import dataclass
from pathlib import Path

from auralsam2 import checkpoints
from auralsam2.model.shipped import SHIPPED, sha256_of, shipped_class_head, shipped_weights
from auralsam2_client.contract import AURALSAM2


@dataclass(frozen=True)
class KnownWeights:
    """One file of weights."""

    name: str
    knows: str
    licence: str
    size: str
    """For people; empty where it is not known here."""
    sha256: str
    """Whole, or how it begins; empty where the publisher names none."""
    command: str
    """What brings and exports it."""


_AVS = "hf://yyliu01/AuralSAM2/ckpts/{name}"
_EXPORT = "auralsam2 export --preset hiera_large --checkpoint {reference}"


def _released(name: str, knows: str, more: str = "") -> KnownWeights:
    command = _EXPORT.format(reference=_AVS.format(name=name)) + more
    return KnownWeights(name, knows, "MIT", "", "", command)


# Source: AuralSAM2's page on the hub; SAM 2's list of checkpoints; torch.hub, after whose rule the digits in VGGish's
# name are the beginning of the file's sha256. Sizes: 224.4 M and 72.1 M parameters of four bytes.
BROUGHT = (
    _released("auralsam2_avs_v1m.pth", "AVSBench V1M: several things that sound"),
    _released("auralsam2_avs_v1s.pth", "AVSBench V1S: one thing that sounds"),
    _released("auralsam2_avs_v2.pth", "AVSBench V2, 10 frames a clip", " --num-frames 10"),
    KnownWeights(
        "sam2_hiera_large.pt",
        "SAM 2 itself, for checkpoints that hold the fuser alone",
        "Apache-2.0",
        "about 898 MB",
        "",
        "auralsam2 export --preset hiera_large --checkpoint FUSER --sam2-checkpoint"
        " hf://facebook/sam2-hiera-large/sam2_hiera_large.pt",
    ),
    KnownWeights(
        "vggish-10086976.pth",
        "VGGish, to train a fuser on",
        "Apache-2.0",
        "about 288 MB",
        "10086976...",
        "auralsam2 train --preset hiera_large --checkpoint FUSER --vggish-checkpoint vggish-10086976.pth",
    ),
)


def list_shipped() -> tuple[KnownWeights, ...]:
    """Describe the weights that are shipped, from their files."""
    found = []
    for preset, method in SHIPPED:
        path = shipped_weights(preset, method)
        if path is not None:
            size, sha256 = _measured(path)
            knows = checkpoints.trained_on(str(path))
            command = f"auralsam2 export --preset {preset}"
            command += "" if method == AURALSAM2 else f" --method {method}"
            found.append(KnownWeights(path.name, knows, "Apache-2.0", size, sha256, command))
    for preset, method in SHIPPED:
        head = shipped_class_head(preset) if method == AURALSAM2 else None
        if head is not None:
            size, sha256 = _measured(head)
            knows = f"names for the masks of {preset}: {', '.join(checkpoints.class_names(str(head)))}"
            command = f"auralsam2 export --preset {preset} --classes"
            found.append(KnownWeights(head.name, knows, "Apache-2.0", size, sha256, command))
    return tuple(found)


def examine(reference: str) -> KnownWeights:
    """Describe a file that a person has, by what it holds.

    Args:
        reference: as `checkpoints.fetch` takes it; one on the hub is downloaded.
    Raises: CheckpointError for a file that is missing, no weights, or damaged, as an export would.
    """
    state = checkpoints.read(reference)
    path = checkpoints.fetch(reference)
    size, sha256 = _measured(path)
    knows = checkpoints.trained_on(str(path))
    if checkpoints.CLASSES in checkpoints.header(str(path)):
        knows = f"{knows}; a class head: {', '.join(checkpoints.class_names(str(path)))}"
    elif checkpoints.method_of(state) != AURALSAM2:
        alone = "" if checkpoints.is_whole(state) else ", without SAM2"
        knows = f"{knows}; adapters of {checkpoints.method_of(state)}{alone}"
    return KnownWeights(path.name, knows, "", size, sha256, "")


def _measured(path: Path) -> tuple[str, str]:
    return f"{path.stat().st_size / 1e6:.1f} MB", sha256_of(path)
