"""The four stages that the server chains, as modules of fixed shapes: vggish -> hiera -> aural_fuser -> sam2_decoder.

Each wraps parts of one AuralSAM2 and says what it changes. Between stages crosses what the next one reads, no more:
FPN levels 0 and 1 are only ever read through linear maps (the decoder's `conv_s0`, `conv_s1` and the fuser's patch
embeddings), so each lateral is folded into its readers and the 256-channel map at stride 4 never exists.
"""

import copy
import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn

from auralsam2.model.aural_sam2 import AuralSAM2
from auralsam2.network import image_encoder, mask_decoder
from auralsam2.network.aural_fuser import AuralFeatures
from auralsam2.network.log_mel import LogMel
from auralsam2.network.memory import Positions, fold_values
from auralsam2.network.positions import pair_exchange
from auralsam2.network.pvt import MLP_RATIO, Mlp
from auralsam2.network.readout import ReadOut, select
from auralsam2.network.tracker import ImageFeatures, track
from auralsam2.presets import STRIDE
from auralsam2_client.contract import BESIDE_GRAPH, HANDED_ON, MODELS, STAGE_NAMES, Sizes, TensorSpec, tensor, tensors

# On a CPU, of hiera's leading blocks and the fuser's MLPs: what one operator gives and the next reads should not leave
# the last cache.
STRIP_BYTES = 16 << 20
BYTES_OF_FLOAT32 = 4


class VggishStage(nn.Module):
    """Sound to audio tokens. Log-mel is inside, so that a client sends plain samples."""

    def __init__(self, model: AuralSAM2) -> None:
        super().__init__()
        self.log_mel = LogMel()
        self.vgg = model.aural_fuser.vgg

    def forward(self, audio: Tensor) -> tuple[Tensor]:
        """Encode audio [T, 15600, 2] float32 -> tokens [T, C]."""
        return (self.vgg(self.log_mel(audio)),)


def fold_lateral(lateral: nn.Conv2d, reader: nn.Conv2d) -> nn.Conv2d:
    """Fold the 1x1 `lateral` into `reader`, one equal convolution: weights and biases are multiplied through.

    Exact because the reader does not pad: every tap of its kernel sees the lateral's bias.
    """
    assert lateral.bias is not None
    assert reader.bias is not None
    patch, stride = reader.kernel_size[0], reader.stride[0]
    folded = nn.Conv2d(lateral.in_channels, reader.out_channels, patch, stride=stride)
    assert folded.bias is not None
    inner, kernel = lateral.weight.double()[:, :, 0, 0], reader.weight.double()
    with torch.no_grad():
        folded.weight.copy_(torch.einsum("omhw,mi->oihw", kernel, inner))
        folded.bias.copy_(reader.bias.double() + torch.einsum("omhw,m->o", kernel, lateral.bias.double()))
    return folded


class HieraStage(nn.Module):
    """Frames to image features. Normalising is inside; the position embedding is a constant; laterals are folded.

    For a CPU the trunk's tokens lie window by window (`windowed`), and its leading blocks take them in `strips` parts.
    """

    position: Tensor

    def __init__(self, model: AuralSAM2, windowed: bool = True, strips: int = 1) -> None:
        super().__init__()
        self.windowed, self.strips = windowed, strips
        sam, fuser = model.v_model, model.aural_fuser
        self.trunk, self.neck = sam.image_encoder.trunk, sam.image_encoder.neck
        self.register_buffer("position", image_encoder.position_embedding(self.trunk, model.image_size).detach())
        level_0, level_1 = self.neck.convs[3].conv, self.neck.convs[2].conv
        self.high_res_s4 = fold_lateral(level_0, sam.sam_mask_decoder.conv_s0)
        self.high_res_s8 = fold_lateral(level_1, sam.sam_mask_decoder.conv_s1)
        patch_1, patch_2, _ = fuser.patch_embeds
        assert isinstance(patch_1, nn.Conv2d)
        assert isinstance(patch_2, nn.Conv2d)
        self.patches_1 = fold_lateral(level_0, patch_1)
        self.patches_2 = fold_lateral(level_1, patch_2)

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """Encode frames [T, S, S, 3] uint8 -> high_res_s4, high_res_s8, patches_1, patches_2, image_embedding."""
        normalised = image_encoder.normalise(frames)
        features = image_encoder.trunk_features(
            self.trunk, normalised, self.position, windowed=self.windowed, strips=self.strips
        )
        return (
            self.high_res_s4(features[0]),
            self.high_res_s8(features[1]),
            self.patches_1(features[0]),
            self.patches_2(features[1]),
            image_encoder.image_embedding(self.neck, features),
        )


def strips_for(model: AuralSAM2) -> int:
    """Choose parts for the trunk's leading blocks on a CPU: a power of two, so that the widest map of a part, inside
    the first blocks' MLP, is at most STRIP_BYTES.
    """
    expanded = 4 * model.preset.embed_dim * (model.image_size // image_encoder.PATCH_STRIDE) ** 2
    return 1 << max(0, math.ceil(math.log2(expanded * BYTES_OF_FLOAT32 / STRIP_BYTES)))


class HandsOnTokens(nn.Module):
    """Hiera for a server without Python between the stages: the chain's audio tokens pass through the graph."""

    def __init__(self, hiera: HieraStage) -> None:
        super().__init__()
        self.hiera = hiera

    def forward(self, frames: Tensor, tokens: Tensor) -> tuple[Tensor, ...]:
        """Encode as HieraStage; tokens [T, C] come out as they went in."""
        return (*self.hiera(frames), tokens.clone())


class AuralFuserStage(nn.Module):
    """Patches and audio tokens to the features that prompt the decoder. Only patch embedding 3 (1x1) is left to do."""

    def __init__(self, model: AuralSAM2) -> None:
        super().__init__()
        self.fuser = model.aural_fuser

    def forward(self, patches_1: Tensor, patches_2: Tensor, embedding: Tensor, tokens: Tensor) -> tuple[Tensor, ...]:
        """Fuse -> visual 1 to 3 [T, C, S/16, S/16], audio 1 to 3 [T, C]."""
        features = self.fuser((patches_1, patches_2, self.fuser.patches(2, embedding)), tokens)
        return (*features.visual, *features.audio)


class PositionBuffers(nn.Module):
    """The network's position constants as buffers, so that a graph holds them.

    `by_product`: rotary positions without taking pairs apart. OpenVINO splits and joins on one thread, at 1024 px for
    longer than the projection before it takes; TensorRT fuses attention with what stands between it and the projections
    only where that is not a product.
    """

    def __init__(self, model: AuralSAM2, by_product: bool) -> None:
        super().__init__()
        positions = model.positions()
        exchange = pair_exchange(model.preset.width) if by_product else None
        for name, table in vars(replace(positions, exchange=exchange)).items():
            self.register_buffer(name, table)

    def forward(self) -> Positions:
        return Positions(**{field.name: getattr(self, field.name) for field in fields(Positions)})


class Sam2DecoderStage(nn.Module):
    """The whole tracking loop as one graph: no host round trip between frames. Positions are buffers of the stage."""

    dense: Tensor

    def __init__(
        self, model: AuralSAM2, conditioning_frame: int, read_out: ReadOut, rotate_by_product: bool = False
    ) -> None:
        super().__init__()
        self.sam = model.v_model
        self.conditioning_frame = conditioning_frame
        self.read_out: ReadOut = read_out
        self.register_buffer("dense", mask_decoder.dense_positions(self.sam).detach().contiguous())
        self.positions = PositionBuffers(model, rotate_by_product)

    def forward(
        self, high_res_s4: Tensor, high_res_s8: Tensor, embedding: Tensor, *aural: Tensor
    ) -> tuple[Tensor, ...]:
        """Decode -> mask logits [T, S/4, S/4], candidates [T, 3, S/4, S/4], iou [T, 3], object score [T]."""
        v1, v2, v3, a1, a2, a3 = aural
        clip = track(
            self.sam,
            ImageFeatures(high_res_s4, high_res_s8, embedding),
            AuralFeatures((v1, v2, v3), (a1, a2, a3)),
            self.conditioning_frame,
            self.positions(),
            self.dense,
        )
        masks = select(clip.low_res_logits, clip.iou, clip.object_score, self.read_out)
        return masks, clip.low_res_logits, clip.iou, clip.object_score[:, 0]


@dataclass(frozen=True)
class Stage:
    """One stage: its module and the names, types and shapes of what goes in and out for a clip of T frames.

    `frames_per_call` may be smaller than T: on CPU the hiera graph takes one frame and the stage loops over the clip,
    which is faster there than a batch. The specifications are always those of the clip.
    """

    name: str
    module: nn.Module
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    frames_per_call: int

    def graph_shape(self, spec: TensorSpec) -> tuple[int, ...]:
        """Compute the shape of `spec` in the graph: a loop over frames cuts the leading axis."""
        return (self.frames_per_call, *spec.shape[1:])


def build_stages(
    model: AuralSAM2,
    num_frames: int,
    conditioning_frame: int,
    read_out: ReadOut,
    hiera_frames_per_call: int,
    hands_on_tokens: bool = False,
    for_cpu: bool = False,
) -> tuple[Stage, ...]:
    """Build the chain for clips of `num_frames` frames. Names and shapes are the contract between the models.

    Fuser and decoder run the fused operators, on weights of their own: `model` stays as it is.

    Args:
        hands_on_tokens: the hiera graph takes the audio tokens too and gives them back; then it takes whole clips.
        for_cpu: trunk and memory attention as a CPU runs them faster; see `HieraStage`, `PositionBuffers` and
            `fold_values`.
    """
    assert not hands_on_tokens or hiera_frames_per_call == num_frames
    fused = copy.deepcopy(model).fuse()
    if for_cpu:
        fold_values(fused.v_model)
    hidden = MLP_RATIO * model.preset.width * (model.image_size // STRIDE) ** 2
    for part in fused.aural_fuser.modules():
        if isinstance(part, Mlp):
            part.by_frame = for_cpu and num_frames * hidden * BYTES_OF_FLOAT32 > STRIP_BYTES
    sizes = Sizes(num_frames, model.image_size, model.preset.width)
    # What a stage's own runtime reads, writes or hands on is not the graph's.
    takes = {name: tensors(MODELS[name].inputs, sizes) for name in STAGE_NAMES}
    gives = {name: tensors((n for n in MODELS[name].outputs if n not in BESIDE_GRAPH), sizes) for name in STAGE_NAMES}
    tokens = tensor("AUDIO_TOKENS", sizes)
    takes["hiera"], gives["hiera"] = (tuple(s for s in specs["hiera"] if s != tokens) for specs in (takes, gives))
    # A GPU has no use for strips: they are launches more, of less work each.
    hiera = HieraStage(model, windowed=for_cpu, strips=strips_for(model) if for_cpu else 1)
    hiera_module: nn.Module = hiera
    if hands_on_tokens:
        hiera_module = HandsOnTokens(hiera)
        # A graph cannot give an output the name of an input.
        takes["hiera"], gives["hiera"] = (*takes["hiera"], tokens), (*gives["hiera"], replace(tokens, name=HANDED_ON))
    decoder = Sam2DecoderStage(fused, conditioning_frame, read_out, rotate_by_product=for_cpu)
    modules = {
        "vggish": (VggishStage(model), num_frames),
        "hiera": (hiera_module, hiera_frames_per_call),
        "aural_fuser": (AuralFuserStage(fused), num_frames),
        "sam2_decoder": (decoder, num_frames),
    }
    return tuple(
        Stage(name, module, takes[name], gives[name], frames_per_call)
        for name, (module, frames_per_call) in modules.items()
    )
