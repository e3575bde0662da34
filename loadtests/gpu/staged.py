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
from auralsam2.network.tracker import ImageFeatures, Tracked, track
from export.gates.sample_clip import sample_audio, sample_frames
from loadtests.cases import Case

SEED = 51
"""Of the stand-in weights. What a clip costs does not depend on them; their masks mean nothing, but can be compared."""
Patches = tuple[Tensor, Tensor, Tensor]
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

    def hiera(self, frames: Tensor) -> tuple[ImageFeatures, Patches]:
        """See frames [T, S, S, 3] uint8 -> what the decoder and the fuser read of them."""
        sam, fuser = self.model.v_model, self.model.aural_fuser
        fpn = image_encoder.pyramid(sam, image_encoder.normalise(frames), self.position)
        decoder = sam.sam_mask_decoder
        image = ImageFeatures(decoder.conv_s0(fpn[0]), decoder.conv_s1(fpn[1]), fpn[2])
        return image, (fuser.patches(0, fpn[0]), fuser.patches(1, fpn[1]), fuser.patches(2, fpn[2]))

    def aural_fuser(self, patches: Patches, tokens: Tensor) -> AuralFeatures:
        """Mix sound and frames."""
        mixed: AuralFeatures = self.model.aural_fuser(patches, tokens)
        return mixed

    def sam2_decoder(self, image: ImageFeatures, aural: AuralFeatures) -> Tracked:
        """Decode the frames one after the other, each reading what came before it."""
        return track(self.model.v_model, image, aural, 0, self.model.positions(), self.dense)

    def forward(self, frames: Tensor, audio: Tensor) -> Tensor:
        """Run a whole clip -> logits of all candidates [T, 3, S/4, S/4]."""
        tokens = self.vggish(audio)
        image, patches = self.hiera(frames)
        return self.sam2_decoder(image, self.aural_fuser(patches, tokens)).low_res_logits

    def compile_stages(self) -> None:
        """Let Inductor compile each stage at its first call, which takes minutes for the large networks."""
        for name in ("vggish", "hiera", "aural_fuser", "sam2_decoder"):
            setattr(self, name, torch.compile(getattr(self, name), dynamic=False))
