"""The small stages from which SAM2's own prompts are tracked, frame by frame: decode, remember, read memory.

A clip with prompts has no fixed order of frames, so its loop runs in the server (`stage_runtime/prompts/decoder.py`)
around modules of fixed shapes: one decodes a frame, one turns its mask into a memory, one prepares a frame for reading,
and one for each number of remembered frames reads them. Constants that the loop itself adds lie beside them.
"""

import copy

import torch
from torch import Tensor, nn

from auralsam2.model.sounding_sam2 import SoundingSAM2
from auralsam2.network import mask_decoder
from auralsam2.network.memory import (
    MemoryReading,
    attend_prepared,
    enlarge,
    fold_values,
    harden,
    prepare,
    remember_mask,
)
from auralsam2.network.segment_anything import NUM_MEMORY_FRAMES, SegmentAnything
from auralsam2.presets import STRIDE
from auralsam2.prompted.prompted_masks import NUM_MASKS, decode_prompted
from auralsam2.prompted.prompts import NUM_SLOTS, mask_embedding, sparse_tokens
from auralsam2.stages.clip_stages import PositionBuffers, Stage
from auralsam2_client.contract import DECODE, PREPARE, READ, WRITE, TensorSpec


class DecodeGraph(nn.Module):
    """One frame and its prompt to the decoder's four masks; the choice among them is the loop's."""

    dense: Tensor

    def __init__(self, model: SoundingSAM2) -> None:
        super().__init__()
        self.sam = model.v_model
        self.register_buffer("dense", mask_decoder.dense_positions(self.sam).detach().contiguous())

    def forward(
        self,
        image: Tensor,
        high_res_s4: Tensor,
        high_res_s8: Tensor,
        coords: Tensor,
        labels: Tensor,
        mask: Tensor,
        mask_given: Tensor,
    ) -> tuple[Tensor, ...]:
        """Decode -> logits [1, 4, S/4, S/4], iou [1, 4], object score [1], object pointers [1, 4, C]."""
        sam = self.sam
        sparse, absent = sparse_tokens(sam, coords, labels)
        dense = torch.where(
            mask_given[:, None, None] > 0,
            mask_embedding(sam, mask[:, None]),
            sam.sam_prompt_encoder.no_mask_embed.weight,
        )
        tokens = image.flatten(2).transpose(1, 2)
        found = decode_prompted(sam, tokens, (high_res_s4, high_res_s8), sparse, absent, dense, self.dense)
        pointers = torch.where(found.object_score[..., None] > 0, sam.obj_ptr_proj(found.tokens), sam.no_obj_ptr)
        return found.low_res_logits, found.iou, found.object_score[:, 0], pointers


class WriteGraph(nn.Module):
    """A frame and its mask to what later frames read of it."""

    def __init__(self, sam: SegmentAnything) -> None:
        super().__init__()
        self.sam = sam

    def forward(self, embedding: Tensor, mask_logits: Tensor, prompted: Tensor) -> tuple[Tensor]:
        """Encode -> memory [1, N, C_mem]; the mask of a prompted frame is read as yes or no."""
        enlarged = enlarge(mask_logits[:, None])
        mask = torch.where(prompted[:, None, None, None] > 0, harden(enlarged), torch.sigmoid(enlarged))
        return (remember_mask(self.sam, embedding, mask)[None],)


class PrepareGraph(nn.Module):
    """A frame before it reads any memory."""

    def __init__(self, model: SoundingSAM2) -> None:
        super().__init__()
        self.sam = model.v_model
        self.positions = PositionBuffers(model, by_product=True)

    def forward(self, embedding: Tensor) -> tuple[Tensor]:
        """Prepare -> tokens [1, N, C]."""
        return (prepare(self.sam, embedding[0].flatten(1).T, self.positions())[None],)


class ReadGraph(nn.Module):
    """A prepared frame that reads R remembered frames and the clip's object pointers. Empty places are masked out."""

    def __init__(self, model: SoundingSAM2) -> None:
        super().__init__()
        self.sam, self.side = model.v_model, model.image_size // STRIDE
        self.positions = PositionBuffers(model, by_product=True)

    def forward(
        self,
        tokens: Tensor,
        memory: Tensor,
        temporal: Tensor,
        remembered: Tensor,
        pointers: Tensor,
        pointed: Tensor,
    ) -> tuple[Tensor]:
        """Read the memory -> image [1, C, S/16, S/16]."""
        positions = self.positions()
        num_tokens, width = positions.memory.shape
        placed = memory[0] + (positions.memory + temporal[0][:, None])
        split = pointers.reshape(-1, width)
        num_pointers = pointers.shape[1]
        absent = torch.cat(
            [
                (remembered[0] <= 0)[:, None].expand(-1, num_tokens).flatten(),
                (pointed[0] <= 0)[:, None].expand(-1, split.shape[0] // num_pointers).flatten(),
            ]
        )
        reading = MemoryReading(
            torch.cat([memory[0].flatten(0, 1), split]),
            torch.cat([placed.flatten(0, 1), split]),
            split.shape[0],
            absent=absent,
        )
        image = attend_prepared(self.sam, tokens[0], reading, positions)
        return (image.T.unflatten(1, (self.side, self.side))[None],)


def memory_sizes(num_frames: int) -> tuple[int, ...]:
    """List for how many remembered frames there is a graph; between them, places stay empty.

    One prompted frame and the frames before a tracked one are 7 at most; several prompts in a long clip may be more.
    """
    last = num_frames - 1
    return tuple(size for size in (1, 2, 3, 4, NUM_MEMORY_FRAMES) if size < last) + ((last,) if last else ())


def prompt_stages(model: SoundingSAM2, num_frames: int) -> tuple[Stage, ...]:
    """Build the graphs for clips of `num_frames` frames, as stages of one frame a call. `model` stays as it is."""
    model = copy.deepcopy(model)
    fold_values(model.v_model)
    width, memory_width, side = model.preset.width, model.preset.memory_width, model.image_size // STRIDE

    def floats(name: str, *shape: int) -> TensorSpec:
        return TensorSpec(name, "FP32", (1, *shape))

    embedding, image = floats("IMAGE_EMBEDDING", width, side, side), floats("IMAGE", width, side, side)
    decode = Stage(
        DECODE,
        DecodeGraph(model),
        (
            image,
            floats("HIGH_RES_S4", width // 8, 4 * side, 4 * side),
            floats("HIGH_RES_S8", width // 4, 2 * side, 2 * side),
            floats("POINT_COORDS", NUM_SLOTS, 2),
            floats("POINT_LABELS", NUM_SLOTS),
            floats("MASK_PROMPT", 4 * side, 4 * side),
            floats("MASK_GIVEN"),
        ),
        (
            floats("FOUR_LOGITS", NUM_MASKS, 4 * side, 4 * side),
            floats("FOUR_IOU", NUM_MASKS),
            floats("OBJECT_SCORE"),
            floats("FOUR_POINTERS", NUM_MASKS, width),
        ),
        1,
    )
    write = Stage(
        WRITE,
        WriteGraph(model.v_model),
        (embedding, floats("MASK_LOGITS", 4 * side, 4 * side), floats("PROMPTED")),
        (floats("MEMORY", side * side, memory_width),),
        1,
    )
    tokens = floats("TOKENS", side * side, width)
    prepare = Stage(PREPARE, PrepareGraph(model), (embedding,), (tokens,), 1)
    read = [
        Stage(
            READ.format(size),
            ReadGraph(model),
            (
                tokens,
                floats("MEMORY", size, side * side, memory_width),
                floats("TEMPORAL", size, memory_width),
                floats("REMEMBERED", size),
                floats("POINTERS", num_frames - 1, width),
                floats("POINTED", num_frames - 1),
            ),
            (image,),
            1,
        )
        for size in memory_sizes(num_frames)
    ]
    return (decode, write, prepare, *read) if read else (decode,)


def prompt_constants(model: SoundingSAM2) -> dict[str, Tensor]:
    """Give what the loop around the stages adds by itself, by name, float32."""
    sam = model.v_model
    assert sam.mask_downsample.bias is not None
    constants = {
        "no_mem_embed": sam.no_mem_embed[0, 0],
        "no_obj_ptr": sam.no_obj_ptr[0],
        "temporal": sam.maskmem_tpos_enc[:, 0, 0],
        "mask_weight": sam.mask_downsample.weight[0, 0],
        "mask_bias": sam.mask_downsample.bias,
    }
    return {name: value.detach().float() for name, value in constants.items()}
