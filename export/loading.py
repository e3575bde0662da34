"""From the settings of an export to what is exported: the network with its weights, a class head, a text encoder."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from auralsam2 import checkpoints
from auralsam2.classes.class_head import ClassHead
from auralsam2.classes.head_file import read_head
from auralsam2.model.aural_sam2 import AuralSAM2
from auralsam2.model.loading import build_network, new_network
from auralsam2.model.parity_weights import parity_state
from auralsam2.model.shipped import sha256_of
from auralsam2.model.sounding_sam2 import SoundingSAM2
from auralsam2.model.with_text import SentenceEncoder, sentence_encoder
from auralsam2.presets import preset
from auralsam2_client.contract import AURALSAM2
from export.errors import ExportError
from export.settings import DETERMINISTIC_SEED, ExportSettings

OWN_WORDS = "words.weight"
"""By which this project's text encoder is told from others."""


def load_model(settings: ExportSettings) -> SoundingSAM2:
    """Load the network that `settings` describes, with its weights.

    Every weight of it is finite. Serving compares the hashes of a build's files, so it need not look at them again.

    Raises: CheckpointError when a file does not fit, or holds values that are not finite.
    """
    if settings.weights_file is None:
        model = new_network(settings.preset, settings.method, settings.size)
        model.load_released(parity_state(model, DETERMINISTIC_SEED))
        return model
    checkpoints.check(settings.weights_file, settings.sam2_file)
    state = checkpoints.read(settings.weights_file)
    _check_reading(settings, state)
    found = checkpoints.method_of(state)
    if found != settings.method:
        raise ExportError(
            f"{Path(settings.weights_file).name} holds weights of {found}, not of {settings.method}; give --method"
            f" {found}, or other weights."
        )
    return build_network(settings.weights_file, state, settings.preset, settings.size, settings.sam2_file)


def load_text_encoder(settings: ExportSettings) -> SentenceEncoder:
    """Load the text encoder of a build. Raises: CheckpointError when the file holds none that fits."""
    assert settings.weights_file is not None, "settings with text were checked"
    name = settings.weights_file
    return sentence_encoder(name, checkpoints.read(name), preset(settings.preset).text_width)


def _check_reading(settings: ExportSettings, state: Mapping[str, Tensor]) -> None:
    """Check that a checkpoint reads text where the build takes it, by words that the server can number.

    Raises: ExportError.
    """
    name, reads = Path(settings.weights_file or "").name, checkpoints.reads_text(state)
    if reads and not settings.text:
        raise ExportError(
            f"{name} is a checkpoint of the Ref-AVS form, which reads text beside sound. Export it with --text, or"
            " another one without: auralsam2_avs_*."
        )
    if not settings.text:
        return
    if not reads:
        raise ExportError(f"{name} reads no text: it has no text_proj. Leave --text out, or give weights that read.")
    if OWN_WORDS not in checkpoints.text_model(state):
        raise ExportError(
            f"{name} has no text encoder of this project (t_model.{OWN_WORDS}): as released for Ref-AVS its words are"
            " those of DistilRoBERTa, whose tokeniser the server's environment does not have. Judge it in process with"
            " auralsam2 evaluate --text-model, or export one that auralsam2.training.after.text_tuning made."
        )


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
