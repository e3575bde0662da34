"""From the settings of an export to what is exported: the network with its weights, and a class head."""

from pathlib import Path

from auralsam2 import checkpoints
from auralsam2.classes.class_head import ClassHead
from auralsam2.classes.head_file import read_head
from auralsam2.model.aural_sam2 import AuralSAM2
from auralsam2.model.loading import build_network, untrained
from auralsam2.model.parity_weights import parity_state
from auralsam2.model.shipped import sha256_of
from auralsam2.model.sounding_sam2 import SoundingSAM2
from auralsam2.presets import preset
from auralsam2_client.contract import AURALSAM2
from export.errors import ExportError
from export.settings import DETERMINISTIC_SEED, ExportSettings


def load_model(settings: ExportSettings) -> SoundingSAM2:
    """Load the network that `settings` describes, with its weights.

    Every weight of it is finite. Serving compares the hashes of a build's files, so it need not look at them again.

    Raises: CheckpointError when a file does not fit, or holds values that are not finite.
    """
    if settings.weights_file is None:
        model = untrained(settings.preset, settings.method, settings.size)
        model.load_released(parity_state(model, DETERMINISTIC_SEED))
        return model
    checkpoints.check(settings.weights_file, settings.sam2_file)
    state = checkpoints.read(settings.weights_file)
    if checkpoints.reads_text(state):
        raise ExportError(
            f"{Path(settings.weights_file).name} is a checkpoint of the Ref-AVS form, which reads text beside sound;"
            " the served models take no text yet. Export one of the auralsam2_avs_* checkpoints."
        )
    found = checkpoints.method_of(state)
    if found != settings.method:
        raise ExportError(
            f"{Path(settings.weights_file).name} holds weights of {found}, not of {settings.method}; give --method"
            f" {found}, or other weights."
        )
    return build_network(settings.weights_file, state, settings.preset, settings.size, settings.sam2_file)


def load_aural_sam2(settings: ExportSettings) -> AuralSAM2:
    """Load as `load_model` what is AuralSAM2. Raises: ExportError for settings of another method too."""
    model = load_model(settings)
    if not isinstance(model, AuralSAM2):
        raise ExportError(f"method {settings.method!r} where {AURALSAM2} is needed; leave --method out.")
    return model


def load_class_head(settings: ExportSettings) -> tuple[ClassHead, tuple[str, ...]]:
    """Load the class head of a build and the names of its classes.

    Raises: CheckpointError when the file holds none, or one that was trained on other weights' masks.
    """
    assert settings.class_head_file is not None, "settings with classes were checked"
    weights = settings.weights_file
    trained = "none" if weights is None else sha256_of(checkpoints.fetch(weights))
    return read_head(settings.class_head_file, preset(settings.preset), trained)
