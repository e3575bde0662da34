"""Our network from a clip's bytes to its masks, in the four stages of the service; constants are made beforehand."""

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from auralsam2 import AuralSAM2, network
from auralsam2.model.parity_weights import parity_state
from auralsam2.network import image_encoder, mask_decoder
from auralsam2.network.aural_fuser import AuralFeatures
from auralsam2.network.log_mel import LogMel
from auralsam2.network.tracker import ImageFeatures, track
from auralsam2_client.contract import STAGE_NAMES
from export.gates.sample_clip import sample_audio, sample_frames
from loadtests.cases.case import Case

SEED = 51
"""Of the stand-in weights. What a clip costs does not depend on them; their masks mean nothing, but can be compared."""
StageCall = tuple[Callable[..., Any], tuple[Tensor, ...]]
"""A stage as a function of tensors, and what it reads of a clip."""
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class ClipTensors(NamedTuple):
    """A clip on the device."""

    frames: Tensor
    """[T, S, S, 3] uint8."""
    audio: Tensor
    """[T, 15600, 2] float32."""


def sample_clip(case: Case, device: str, seed: int = 0) -> ClipTensors:
    """Draw a clip of the procedural world."""
    frames = torch.from_numpy(sample_frames(case.num_frames, case.image_size, seed))
    audio = torch.from_numpy(sample_audio(case.num_frames, seed))
    return ClipTensors(frames.to(device), audio.to(device))


def stand_in_state(case: Case) -> dict[str, Tensor]:
    """Draw the stand-in weights of a case, float32, on the CPU."""
    return parity_state(AuralSAM2.from_preset(case.preset, case.image_size), SEED)


def load(case: Case, state: dict[str, Tensor], device: str, dtype: str | None = None) -> AuralSAM2:
    """Build a network with the weights `state` on the device.

    Args:
        dtype: with the fused operators, in float32 | float16 | bfloat16; None: as it is published, float32.
    Raises: NetworkError, ImportError where the network does not run in that type.
    """
    model = AuralSAM2.from_preset(case.preset, case.image_size)
    model.load_released(state)
    model = model.to(device)
    if dtype is None:
        # Gradients stay asked for: autocast keeps narrow copies of such weights alone, as in others' scripts.
        return model
    model.requires_grad_(False).fuse()
    if dtype != "float32":
        convert: Callable[[AuralSAM2, torch.dtype], Any] = import_module(f"{network.__name__}.precision").to_precision
        convert(model, DTYPES[dtype])
    return model


class StagedNetwork(nn.Module):
    """The stages, each a function of tensors alone, so that each can be captured, compiled and timed."""

    position: Tensor
    dense: Tensor

    def __init__(self, model: AuralSAM2) -> None:
        super().__init__()
        self.model = model
        device = next(model.parameters()).device
        self.log_mel = LogMel().to(device)
        sam = model.v_model
        with torch.inference_mode():
            position = image_encoder.position_embedding(sam.image_encoder.trunk, model.image_size)
            dense = mask_decoder.dense_positions(sam)
        self.register_buffer("position", position, persistent=False)
        self.register_buffer("dense", dense, persistent=False)
        self.eval()

    def vggish(self, audio: Tensor) -> Tensor:
        """Hear a clip [T, 15600, 2] -> tokens [T, C]."""
        tokens: Tensor = self.model.aural_fuser.tokens(self.log_mel(audio))
        return tokens

    def hiera(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """See frames [T, S, S, 3] uint8 -> the decoder's two maps, two maps of patches, and the image embedding."""
        sam, fuser = self.model.v_model, self.model.aural_fuser
        s4, s8, embedding = image_encoder.pyramid(sam, image_encoder.normalise(frames), self.position)
        decoder = sam.sam_mask_decoder
        return decoder.conv_s0(s4), decoder.conv_s1(s8), fuser.patches(0, s4), fuser.patches(1, s8), embedding

    def aural_fuser(
        self, patches_1: Tensor, patches_2: Tensor, embedding: Tensor, tokens: Tensor
    ) -> tuple[Tensor, ...]:
        """Mix sound and frames -> three maps and three sets of tokens."""
        fuser = self.model.aural_fuser
        mixed: AuralFeatures = fuser((patches_1, patches_2, fuser.patches(2, embedding)), tokens)
        return *mixed.visual, *mixed.audio

    def sam2_decoder(self, high_res_s4: Tensor, high_res_s8: Tensor, embedding: Tensor, *aural: Tensor) -> Tensor:
        """Decode frame after frame, each reading what came before it -> all candidates [T, 3, S/4, S/4]."""
        v1, v2, v3, a1, a2, a3 = aural
        image, mixed = ImageFeatures(high_res_s4, high_res_s8, embedding), AuralFeatures((v1, v2, v3), (a1, a2, a3))
        return track(self.model.v_model, image, mixed, 0, self.model.positions(), self.dense).low_res_logits

    def calls(self, frames: Tensor, audio: Tensor) -> dict[str, StageCall]:
        """Run a clip stage by stage, and list each with the tensors that it was given."""
        s4, s8, patches_1, patches_2, embedding = self.hiera(frames)
        fused = patches_1, patches_2, embedding, self.vggish(audio)
        decoded = s4, s8, embedding, *self.aural_fuser(*fused)
        return {
            "vggish": (self.vggish, (audio,)),
            "hiera": (self.hiera, (frames,)),
            "aural_fuser": (self.aural_fuser, fused),
            "sam2_decoder": (self.sam2_decoder, decoded),
        }

    def forward(self, frames: Tensor, audio: Tensor) -> Tensor:
        """Run a whole clip -> logits of all candidates [T, 3, S/4, S/4]."""
        decode, given = self.calls(frames, audio)["sam2_decoder"]
        logits: Tensor = decode(*given)
        return logits

    def compile_stages(self) -> None:
        """Let Inductor compile each stage at its first call, which takes minutes for the large networks."""
        for name in STAGE_NAMES:
            setattr(self, name, torch.compile(getattr(self, name), dynamic=False))
