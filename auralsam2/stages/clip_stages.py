"""The four stages that the server chains, as modules of fixed shapes: vggish -> hiera -> aural_fuser -> sam2_decoder.

Each wraps parts of one AuralSAM2 and says what it changes. Between stages crosses what the next one reads, no more:
FPN levels 0 and 1 are only ever read through linear maps (the decoder's `conv_s0`, `conv_s1` and the fuser's patch
embeddings), so each lateral is folded into its readers and the 256-channel map at stride 4 never exists.
"""

import copy
from dataclasses import dataclass, fields, replace

from torch import Tensor, nn

from auralsam2.model.adapted_sam2 import AdaptedSAM2
from auralsam2.model.aural_sam2 import AuralSAM2
from auralsam2.model.sounding_sam2 import SoundingSAM2
from auralsam2.network import mask_decoder
from auralsam2.network.aural_fuser import AuralFeatures
from auralsam2.network.log_mel import LogMel
from auralsam2.network.memory import Positions, fold_values
from auralsam2.network.positions import pair_exchange
from auralsam2.network.pvt import MLP_RATIO, Mlp
from auralsam2.network.readout import ReadOut, select
from auralsam2.network.tracker import ImageFeatures, track
from auralsam2.presets import STRIDE
from auralsam2.stages.image_stages import (
    BYTES_OF_FLOAT32,
    STRIP_BYTES,
    AdaptedHieraStage,
    HandsOnTokens,
    HieraStage,
    strips_for,
)
from auralsam2_client.contract import (
    ADAPTERS,
    AUDIO_TOKENS,
    BESIDE_GRAPH,
    HANDED_ON,
    STAGE_NAMES,
    TOKENS,
    Sizes,
    TensorSpec,
    models_of,
    tensor,
    tensors,
)


class VggishStage(nn.Module):
    """Sound to audio tokens. Log-mel is inside, so that a client sends plain samples."""

    def __init__(self, model: SoundingSAM2) -> None:
        super().__init__()
        self.log_mel = LogMel()
        self.vgg = model.aural_fuser.vgg

    def forward(self, audio: Tensor) -> tuple[Tensor]:
        """Encode audio [T, 15600, 2] float32 -> tokens [T, C]."""
        return (self.vgg(self.log_mel(audio)),)


class AdaptersStage(nn.Module):
    """In the fuser's place: what the adapters of the decoder add. Its mask tokens stay SAM2's."""

    def __init__(self, model: AdaptedSAM2) -> None:
        super().__init__()
        self.adapters = model.aural_fuser

    def forward(self, embedding: Tensor, tokens: Tensor) -> tuple[Tensor, ...]:
        """Adapt -> visual 1 to 3 [T, C, S/16, S/16]."""
        visual: tuple[Tensor, ...] = self.adapters(embedding, tokens).visual
        return visual


class AuralFuserStage(nn.Module):
    """Patches and audio tokens to the features that prompt the decoder. Only patch embedding 3 (1x1) is left to do."""

    def __init__(self, model: AuralSAM2) -> None:
        super().__init__()
        self.fuser = model.aural_fuser

    def forward(self, patches_1: Tensor, patches_2: Tensor, embedding: Tensor, tokens: Tensor) -> tuple[Tensor, ...]:
        """Fuse -> visual 1 to 3 [T, C, S/16, S/16], audio 1 to 3 [T, C]."""
        features = self.fuser((patches_1, patches_2, self.fuser.patches(2, embedding)), tokens)
        return (*features.visual, *features.audio)


class ReadingFuserStage(AuralFuserStage):
    """The fuser where words stand after the sound: of the audio side the decoder reads the sound's tokens alone."""

    def forward(self, patches_1: Tensor, patches_2: Tensor, embedding: Tensor, tokens: Tensor) -> tuple[Tensor, ...]:
        """Fuse tokens [T + 25, C] -> visual 1 to 3 [T, C, S/16, S/16], audio 1 to 3 [T, C]."""
        v1, v2, v3, *audio = super().forward(patches_1, patches_2, embedding, tokens)
        return (v1, v2, v3, *(each[: len(embedding)] for each in audio))


class PositionBuffers(nn.Module):
    """The network's position constants as buffers, so that a graph holds them.

    `by_product`: rotary positions without taking pairs apart. OpenVINO splits and joins on one thread, at 1024 px for
    longer than the projection before it takes; TensorRT fuses attention with what stands between it and the projections
    only where that is not a product.
    """

    def __init__(self, model: SoundingSAM2, by_product: bool) -> None:
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
        self, model: SoundingSAM2, conditioning_frame: int, read_out: ReadOut, rotate_by_product: bool = False
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
        """Decode -> mask logits [T, S/4, S/4], candidates [T, 3, S/4, S/4], iou [T, 3], object score [T].

        `aural`: visual 1 to 3 and audio 1 to 3, or the visual ones alone.
        """
        v1, v2, v3, *audio = aural
        a1, a2, a3 = audio or [v1.new_zeros(v1.shape[:2])] * 3
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
        """Compute the shape of `spec` in the graph: a loop over frames cuts the leading axis of what is by frame."""
        by_frame = spec.shape[0] == self.inputs[0].shape[0]
        return (self.frames_per_call, *spec.shape[1:]) if by_frame else spec.shape


def build_stages(
    model: SoundingSAM2,
    num_frames: int,
    conditioning_frame: int,
    read_out: ReadOut,
    hiera_frames_per_call: int,
    hands_on_tokens: bool = False,
    for_cpu: bool = False,
    takes_words: bool = False,
) -> tuple[Stage, ...]:
    """Build the chain for clips of `num_frames` frames. Names and shapes are the contract between the models.

    Fuser and decoder run the fused operators, on weights of their own: `model` stays as it is.

    Args:
        hands_on_tokens: the hiera graph takes the audio tokens too and gives them back; then it takes whole clips.
        for_cpu: trunk and memory attention as a CPU runs them faster; see `HieraStage`, `PositionBuffers` and
            `fold_values`.
        takes_words: the fuser's graph takes TOKENS, those of the sound and then those of 25 words, for AUDIO_TOKENS.
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
    models = models_of(model.method)
    takes = {name: tensors((n for n in models[name].inputs if n not in BESIDE_GRAPH), sizes) for name in STAGE_NAMES}
    gives = {name: tensors((n for n in models[name].outputs if n not in BESIDE_GRAPH), sizes) for name in STAGE_NAMES}
    tokens = tensor(AUDIO_TOKENS, sizes)
    takes["hiera"], gives["hiera"] = (tuple(s for s in specs["hiera"] if s != tokens) for specs in (takes, gives))
    if takes_words:
        # The stage's own code joins what is said to what is heard.
        joined = tensor(TOKENS, sizes)
        takes["aural_fuser"] = tuple(joined if spec == tokens else spec for spec in takes["aural_fuser"])
    # A GPU has no use for strips: they are launches more, of less work each.
    hiera, fuser = _own_stages(fused, model, for_cpu, takes_words)
    hiera_module: nn.Module = hiera
    if isinstance(hiera, AdaptedHieraStage):
        takes["hiera"] = (*takes["hiera"], tokens)
        if not hands_on_tokens:
            takes["hiera"] = (*takes["hiera"], tensor(ADAPTERS, sizes))
    if hands_on_tokens:
        hiera_module = HandsOnTokens(hiera)
        # A graph cannot give an output the name of an input.
        takes["hiera"] = (*(s for s in takes["hiera"] if s != tokens), tokens)
        gives["hiera"] = (*gives["hiera"], replace(tokens, name=HANDED_ON))
    decoder = Sam2DecoderStage(fused, conditioning_frame, read_out, rotate_by_product=for_cpu)
    modules = {
        "vggish": (VggishStage(model), num_frames),
        "hiera": (hiera_module, hiera_frames_per_call),
        "aural_fuser": (fuser, num_frames),
        "sam2_decoder": (decoder, num_frames),
    }
    return tuple(
        Stage(name, module, takes[name], gives[name], frames_per_call)
        for name, (module, frames_per_call) in modules.items()
    )


def _own_stages(
    fused: SoundingSAM2, model: SoundingSAM2, for_cpu: bool, takes_words: bool
) -> tuple[HieraStage | AdaptedHieraStage, nn.Module]:
    """The two stages in which the methods differ: of the frames, and of the fuser."""
    strips = strips_for(model) if for_cpu else 1
    if isinstance(model, AdaptedSAM2):
        return AdaptedHieraStage(model, for_cpu, strips), AdaptersStage(model)
    assert isinstance(model, AuralSAM2)
    assert isinstance(fused, AuralSAM2)
    fuser = ReadingFuserStage(fused) if takes_words else AuralFuserStage(fused)
    return HieraStage(model, for_cpu, strips), fuser
