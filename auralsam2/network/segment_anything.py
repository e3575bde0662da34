"""SAM2's parts, built from the `sam2` package at a preset's widths, under the names that released checkpoints use.

Changed against sam2's own SAM2Base: only construction is taken from it. The forward passes live in `image_encoder`,
`memory` and `mask_decoder`, because they must export (no complex numbers, no caches) and take prompts from sound.
"""

import torch
from sam2.modeling.backbones.hieradet import Hiera
from sam2.modeling.backbones.image_encoder import FpnNeck, ImageEncoder
from sam2.modeling.memory_attention import MemoryAttention, MemoryAttentionLayer
from sam2.modeling.memory_encoder import CXBlock, Fuser, MaskDownSampler, MemoryEncoder
from sam2.modeling.position_encoding import PositionEmbeddingSine
from sam2.modeling.sam.mask_decoder import MaskDecoder
from sam2.modeling.sam.prompt_encoder import PromptEncoder
from sam2.modeling.sam.transformer import RoPEAttention, TwoWayTransformer
from sam2.modeling.sam2_utils import MLP
from torch import nn

from auralsam2.presets import STRIDE, Preset

NUM_MEMORY_FRAMES = 7
"""The conditioning frame and up to six frames before the current one."""
FPN_TOP_DOWN_LEVELS = (2, 3)


def _image_encoder(preset: Preset) -> ImageEncoder:
    trunk = Hiera(
        embed_dim=preset.embed_dim,
        num_heads=preset.num_heads,
        stages=preset.stages,
        global_att_blocks=preset.global_att_blocks,
        window_pos_embed_bkg_spatial_size=preset.window_pos_embed_bkg_spatial_size,
        window_spec=preset.window_spec,
    )
    neck = FpnNeck(
        position_encoding=PositionEmbeddingSine(preset.width),
        d_model=preset.width,
        backbone_channel_list=preset.channel_list,
        fpn_top_down_levels=list(FPN_TOP_DOWN_LEVELS),
        fpn_interp_model="nearest",
    )
    return ImageEncoder(trunk=trunk, neck=neck, scalp=1)


def _memory_attention(preset: Preset, side: int) -> MemoryAttention:
    def attention(**kwargs: object) -> RoPEAttention:
        return RoPEAttention(
            embedding_dim=preset.width, num_heads=1, downsample_rate=1, feat_sizes=(side, side), **kwargs
        )

    layer = MemoryAttentionLayer(
        activation="relu",
        dim_feedforward=preset.memory_feedforward,
        dropout=0.0,
        pos_enc_at_attn=False,
        self_attention=attention(),
        d_model=preset.width,
        pos_enc_at_cross_attn_keys=True,
        pos_enc_at_cross_attn_queries=False,
        cross_attention=attention(rope_k_repeat=True, kv_in_dim=preset.memory_width),
    )
    return MemoryAttention(d_model=preset.width, pos_enc_at_input=True, layer=layer, num_layers=preset.memory_layers)


def _memory_encoder(preset: Preset) -> MemoryEncoder:
    return MemoryEncoder(
        out_dim=preset.memory_width,
        in_dim=preset.width,
        position_encoding=PositionEmbeddingSine(preset.memory_width),
        mask_downsampler=MaskDownSampler(embed_dim=preset.width, kernel_size=3, stride=2, padding=1),
        fuser=Fuser(CXBlock(preset.width, kernel_size=7, padding=3, use_dwconv=True), num_layers=2),
    )


def _mask_decoder(preset: Preset) -> MaskDecoder:
    return MaskDecoder(
        transformer_dim=preset.width,
        transformer=TwoWayTransformer(
            depth=2,
            embedding_dim=preset.width,
            num_heads=preset.decoder_heads,
            mlp_dim=preset.decoder_feedforward,
        ),
        num_multimask_outputs=3,
        iou_head_depth=3,
        iou_head_hidden_dim=preset.width,
        use_high_res_features=True,
        iou_prediction_use_sigmoid=True,
        pred_obj_scores=True,
        pred_obj_scores_mlp=True,
        use_multimask_token_for_obj_ptr=True,
    )


class SegmentAnything(nn.Module):
    """The weights of SAM2 (2.0 configurations), all of a released file's `v_model.*`."""

    def __init__(self, preset: Preset, image_size: int) -> None:
        super().__init__()
        width, side = preset.width, image_size // STRIDE
        self.fused = False
        """Memory is read by the fused operator, without a gradient; see `AuralSAM2.fuse`."""
        self.image_encoder = _image_encoder(preset)
        self.mask_downsample = nn.Conv2d(1, 1, kernel_size=4, stride=4)
        self.memory_attention = _memory_attention(preset, side)
        self.memory_encoder = _memory_encoder(preset)
        self.maskmem_tpos_enc = nn.Parameter(torch.zeros(NUM_MEMORY_FRAMES, 1, 1, preset.memory_width))
        self.no_mem_embed = nn.Parameter(torch.zeros(1, 1, width))
        self.no_mem_pos_enc = nn.Parameter(torch.zeros(1, 1, width))
        self.no_obj_ptr = nn.Parameter(torch.zeros(1, width))
        self.sam_prompt_encoder = PromptEncoder(
            embed_dim=width,
            image_embedding_size=(side, side),
            input_image_size=(image_size, image_size),
            mask_in_chans=16,
        )
        self.sam_mask_decoder = _mask_decoder(preset)
        self.obj_ptr_proj = MLP(width, width, width, 3)
        for embedding in (self.maskmem_tpos_enc, self.no_mem_embed, self.no_mem_pos_enc, self.no_obj_ptr):
            nn.init.trunc_normal_(embedding, std=0.02)
