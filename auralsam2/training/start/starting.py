"""Where a run starts from: weights that were given, or for `compact` initial ones and a pretraining of its own."""

from dataclasses import dataclass

import numpy as np
import torch

from auralsam2 import checkpoints
from auralsam2.errors import TrainingError
from auralsam2.model.adapted_sam2 import AdaptedSAM2
from auralsam2.model.aural_sam2 import AuralSAM2
from auralsam2.model.shipped import shipped_weights
from auralsam2.model.sounding_sam2 import SoundingSAM2
from auralsam2.network.log_mel import LogMel
from auralsam2.training.examples.clips import Source
from auralsam2.training.losses.audio_contrast import AudioContrast
from auralsam2.training.losses.clip_contrast import ClipContrast
from auralsam2.training.settings import TrainSettings
from auralsam2.training.start.initial import initialise_fuser, initialise_fuser_as_released, initialise_vggish
from auralsam2_client.contract import AURALSAM2

# Whose sounds VGGish is initialised on.
NUM_CLIPS = 32


@dataclass(frozen=True)
class Weights:
    """Where a run starts from; None: untrained."""

    checkpoint: str | None = None
    sam2_checkpoint: str | None = None
    vggish_checkpoint: str | None = None


def starting_point(
    settings: TrainSettings, weights: Weights, source: Source, log_mel: LogMel
) -> tuple[SoundingSAM2, AudioContrast | ClipContrast]:
    """Network and contrastive loss as they are before the first step.

    Raises: CheckpointError when a file does not fit the preset or is of another method; TrainingError for a Hiera
        preset that lacks weights, or weights that read text.
    """
    torch.manual_seed(settings.seed)
    model: SoundingSAM2
    contrast: AudioContrast | ClipContrast
    if settings.method == AURALSAM2:
        model, contrast = _auralsam2(settings, weights, source, log_mel)
    else:
        model = AdaptedSAM2.from_preset(settings.preset, settings.method, settings.size)
        contrast = AudioContrast(model.preset.width, settings.audio_contrast_samples).requires_grad_(False)
    _load(model, settings, weights)
    if not settings.sam2_learns:
        model.v_model.requires_grad_(False)
    if not settings.vggish_learns:
        model.aural_fuser.vgg.requires_grad_(False)
    return model, contrast


def _auralsam2(
    settings: TrainSettings, weights: Weights, source: Source, log_mel: LogMel
) -> tuple[AuralSAM2, AudioContrast | ClipContrast]:
    """AuralSAM2 with the initial weights of a run, and its contrastive loss."""
    model = AuralSAM2.from_preset(settings.preset, settings.size)
    contrast = AudioContrast(model.preset.width, settings.audio_contrast_samples)
    if weights.checkpoint is None and settings.from_scratch:
        sounds = np.concatenate([source(number, settings.num_frames).windows for number in range(NUM_CLIPS)])
        initialise_vggish(model.aural_fuser.vgg, log_mel(torch.from_numpy(sounds)))
        initialise_fuser(model.aural_fuser)
    if weights.checkpoint is None and settings.fuser_start == "released":
        initialise_fuser_as_released(model.aural_fuser)
    if settings.audio_contrast_form == "clip":
        clip = ClipContrast(model.aural_fuser, settings.audio_contrast_samples, settings.audio_contrast_sampling)
        return model, clip
    # Heads of the released files that this form of the loss does not read.
    model.aural_fuser.train_proj_v1.requires_grad_(False)
    model.aural_fuser.train_proj_a1.requires_grad_(False)
    return model, contrast


def _load(model: SoundingSAM2, settings: TrainSettings, weights: Weights) -> None:
    """Load the files that the run starts from; adapters on `compact` start from what is shipped."""
    whole = False
    if weights.checkpoint is not None:
        state = checkpoints.read(weights.checkpoint)
        if checkpoints.reads_text(state):
            raise TrainingError(
                f"{weights.checkpoint} is a checkpoint of the Ref-AVS form, which reads text beside sound; training"
                " clips have no text. Start from one of the auralsam2_avs_* checkpoints."
            )
        found = checkpoints.method_of(state)
        if found != settings.method:
            raise TrainingError(f"{weights.checkpoint} holds weights of {found}; give --method {found}, or others.")
        whole = checkpoints.is_whole(state)
        model.load_released(state)
    shipped = None if settings.method == AURALSAM2 else shipped_weights(settings.preset)
    if weights.sam2_checkpoint is not None:
        checkpoints.load_sam2(model, checkpoints.read(weights.sam2_checkpoint))
    elif shipped is not None and not whole:
        checkpoints.load_sam2(model, checkpoints.read(str(shipped)))
    elif not settings.from_scratch and not whole:
        raise TrainingError(
            f"preset {settings.preset} trains {settings.method} on a frozen SAM2; give SAM2's weights with"
            " --sam2-checkpoint."
        )
    if weights.vggish_checkpoint is not None:
        checkpoints.load_vggish(model, checkpoints.read(weights.vggish_checkpoint))
    elif shipped is not None and weights.checkpoint is None:
        checkpoints.load_vggish(model, checkpoints.read(str(shipped)))
    elif not settings.from_scratch and weights.checkpoint is None:
        raise TrainingError(
            f"preset {settings.preset} trains on a frozen VGGish; give its weights with --vggish-checkpoint."
        )


def pretrains(settings: TrainSettings, weights: Weights) -> bool:
    """Tell whether the network is pretrained before its first step: where it starts from nothing, and is to be."""
    return weights.checkpoint is None and settings.from_scratch and sum(settings.pretraining_steps) > 0
