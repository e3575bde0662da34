"""How a fusion is cut into launches: its buffers, grids and block sizes.

Long because two forms have twelve launches between them, and each names its tensors, its sizes and its grid in full.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from kernels.fusion import triton_kernels
from kernels.fusion.reference import FUSION_FORMS, FusionForm
from kernels.launching.errors import KernelError
from kernels.launching.launch import ELEMENT_NAMES, Blocks, Buffer, Constant, Launch, Plan, Size, cdiv

WIDTHS, INNERS = (128, 256), (64, 128)
MAX_ELEMENTS = 2**31 - 1
"""Offsets are 32-bit."""


@dataclass(frozen=True)
class FusionSizes:
    """T frames of `num_pixels` = h w tokens, `num_tokens` = M audio and text tokens. These three may be symbolic."""

    num_frames: Size
    num_pixels: Size
    num_tokens: Size
    width: int
    inner: int
    straddles: bool
    """Whether rows of the projections straddle channels: h w is no multiple of d. Known when kernels are chosen."""

    @staticmethod
    def of(num_frames: int, num_pixels: int, num_tokens: int, width: int, inner: int) -> "FusionSizes":
        """Check sizes and keep them. Raises KernelError that names the limits."""
        if width not in WIDTHS or inner not in INNERS:
            raise KernelError(
                f"fusion of width {width} and inner width {inner}: kernels exist for widths {WIDTHS} and inner widths"
                f" {INNERS}."
            )
        if min(num_frames, num_pixels, num_tokens) < 1:
            raise KernelError(
                f"fusion of {num_frames} frames, {num_pixels} pixels and {num_tokens} tokens: each must be at least 1."
            )
        if max(num_frames * num_pixels * width, num_frames * num_pixels * num_tokens * 2) > MAX_ELEMENTS:
            raise KernelError(
                f"fusion of {num_frames} frames of {num_pixels} pixels with {num_tokens} tokens: a buffer would pass"
                f" {MAX_ELEMENTS} elements, the reach of a 32-bit offset."
            )
        return FusionSizes(num_frames, num_pixels, num_tokens, width, inner, bool(num_pixels % inner))


def default_blocks(dtype: torch.dtype) -> dict[str, Blocks]:
    """Choose block sizes that compile without spills on every architecture of the report, before any tuning."""
    single = dtype == torch.float32
    return {
        "project_sound": Blocks({"BLOCK_M": 16, "BLOCK_N": 32, "BLOCK_C": 64}, 4, 2),
        "released_sums": Blocks({"BLOCK_M": 16, "BLOCK_C": 32 if single else 64}, 8 if single else 4, 2),
        "project_visual": Blocks({"BLOCK_P": 32, "BLOCK_C": 32 if single else 64}, 8 if single else 4, 2),
        "straddling_sums": Blocks({"BLOCK_M": 16, "BLOCK_P": 16}, 4, 1),
        "mixing_weights": Blocks({"BLOCK_K": 32, "BLOCK_N": 32, "BLOCK_D": 16 if single else 64}, 4, 1),
        "released_mix": Blocks({"BLOCK_P": 32, "BLOCK_K": 32}, 8 if single else 4, 2),
        "add_up_sound": Blocks({"BLOCK_S": 64, "BLOCK_D": 32}, 4, 1),
        "finish_sound": Blocks({"BLOCK_M": 16, "BLOCK_D": 16 if single else 64}, 8, 1),
        "paper_tokens": Blocks({"BLOCK_M": 16, "BLOCK_N": 32}, 4, 1),
        "paper_mix": Blocks({"BLOCK_P": 16 if single else 32, "BLOCK_M": 16, "BLOCK_C": 64}, 8, 1),
        "paper_sums": Blocks({"BLOCK_M": 16, "BLOCK_P": 32, "BLOCK_C": 64, "TILES": 4}, 8, 2),
        "paper_sound": Blocks({"BLOCK_S": 32, "BLOCK_C": 32}, 4, 1),
    }


def plan(sizes: FusionSizes, dtype: torch.dtype, form: FusionForm, blocks: Mapping[str, Blocks]) -> Plan:
    """Plan the launches of one fusion.

    Args:
        dtype: of tokens and weights, in and out: float32, float16 or bfloat16.
        blocks: for each kernel by name, as `default_blocks`.
    Returns: a plan with the inputs `visual`, `audio` and the fields of FusionWeights, the outputs `frame`, `sound`.
    Raises: KernelError for another dtype or form.
    """
    if dtype not in ELEMENT_NAMES:
        raise KernelError(f"fusion in {dtype}: kernels exist for {', '.join(ELEMENT_NAMES.values())}.")
    if form not in FUSION_FORMS:
        raise KernelError(f"fusion form {form!r} is unknown; choose one of {', '.join(FUSION_FORMS)}.")
    return _Planner(sizes, dtype, form, blocks).plan()


class _Planner:
    def __init__(self, sizes: FusionSizes, dtype: torch.dtype, form: FusionForm, blocks: Mapping[str, Blocks]) -> None:
        self.sizes, self.dtype, self.form, self.blocks = sizes, dtype, form, blocks
        self.precision = "tf32x3" if dtype == torch.float32 else "tf32"
        self.launches: list[Launch] = []
        s, c, d = sizes, sizes.width, sizes.inner
        self.buffers = {
            name: Buffer(shape, dtype)
            for name, shape in {
                "visual": (s.num_frames, s.num_pixels, c),
                "audio": (s.num_tokens, c),
                "visual_in": (3 * d, c),
                "visual_in_bias": (3 * d,),
                "sound_in": (c + 3 * d, c),
                "sound_in_bias": (c + 3 * d,),
                "frame_out": (c, d),
                "frame_out_bias": (c,),
                "frame_norm": (c,),
                "frame_norm_bias": (c,),
                "sound_out": (c, d),
                "sound_out_bias": (c,),
                "sound_norm": (c,),
                "sound_norm_bias": (c,),
                "frame": (s.num_frames, s.num_pixels, c),
                "sound": (s.num_tokens, c),
            }.items()
        }
        self.inputs = tuple(name for name in self.buffers if name not in ("frame", "sound"))

    def scratch(self, name: str, *shape: Size) -> str:
        self.buffers[name] = Buffer(shape, torch.float32)
        return name

    def launch(
        self,
        name: str,
        inputs: Mapping[str, str],
        integers: Mapping[str, Size],
        outputs: Mapping[str, str],
        constants: Mapping[str, Constant],
        grid: tuple[Size, Size, Size],
    ) -> None:
        blocks = self.blocks[name]
        # One table serves every width: a block never exceeds the axis that it cuts.
        reach = {"BLOCK_C": self.sizes.width, "BLOCK_D": self.sizes.inner}
        cut = {size: min(value, reach.get(size, value)) for size, value in blocks.sizes.items()}
        # Tiles of a narrow network are half as wide; spread over all warps, float32 sums spill from sm_90 on.
        num_warps = blocks.num_warps if self.sizes.inner == max(INNERS) else max(4, blocks.num_warps // 2)
        self.launches.append(
            Launch(
                getattr(triton_kernels, name),
                inputs,
                integers,
                outputs,
                {**constants, **cut},
                grid,
                num_warps,
                blocks.num_stages,
            )
        )

    def block(self, kernel: str, size: str) -> int:
        return self.blocks[kernel].sizes[size]

    def plan(self) -> Plan:
        s, c, d = self.sizes, self.sizes.width, self.sizes.inner
        wide = c + 3 * d
        self.launch(
            "project_sound",
            {"audio": "audio", "weight": "sound_in", "bias": "sound_in_bias"},
            {"num_tokens": s.num_tokens},
            {"projected": self.scratch("projected", s.num_tokens, wide)},
            {"C": c, "WIDE": wide, "PRECISION": self.precision},
            (
                cdiv(s.num_tokens, self.block("project_sound", "BLOCK_M")),
                wide // self.block("project_sound", "BLOCK_N"),
                1,
            ),
        )
        if self.form == "paper":
            self.paper()
        else:
            self.released()
        self.launch(
            "finish_sound",
            {
                "sound": "looked",
                "projected": "projected",
                "sound_out": "sound_out",
                "sound_out_bias": "sound_out_bias",
                "norm": "sound_norm",
                "norm_bias": "sound_norm_bias",
            },
            {"num_tokens": s.num_tokens},
            {"out": "sound"},
            {"C": c, "D": d, "PRECISION": self.precision},
            (cdiv(s.num_tokens, self.block("finish_sound", "BLOCK_M")), 1, 1),
        )
        return Plan(self.buffers, self.inputs, ("frame", "sound"), tuple(self.launches))

    def released(self) -> None:
        s, c, d = self.sizes, self.sizes.width, self.sizes.inner
        num_blocks, num_parts = self.straddling_sums() if s.straddles else self.block_sums()
        rank = s.num_frames * s.num_tokens
        self.launch(
            "mixing_weights",
            {"projected": "projected", "frame_out": "frame_out"},
            {"num_tokens": s.num_tokens, "num_frames": s.num_frames},
            {"mixing": self.scratch("mixing", s.num_frames, rank, c)},
            {"C": c, "D": d, "PRECISION": self.precision},
            (
                cdiv(rank, self.block("mixing_weights", "BLOCK_K")),
                c // self.block("mixing_weights", "BLOCK_N"),
                s.num_frames,
            ),
        )
        self.launch(
            "released_mix",
            {
                "x": "visual",
                "scores": "scores",
                "mixing": "mixing",
                "frame_out_bias": "frame_out_bias",
                "norm": "frame_norm",
                "norm_bias": "frame_norm_bias",
            },
            {
                "num_tokens": s.num_tokens,
                "num_frames": s.num_frames,
                "num_pixels": s.num_pixels,
                "num_blocks": num_blocks,
            },
            {"out": "frame"},
            {"C": c, "PRECISION": self.precision},
            (cdiv(s.num_pixels, self.block("released_mix", "BLOCK_P")), s.num_frames, 1),
        )
        self.launch(
            "add_up_sound",
            {"sums": "sums"},
            {"num_tokens": s.num_tokens, "num_parts": num_parts, "num_rows": s.num_frames * s.num_pixels},
            {"sound": self.scratch("looked", s.num_tokens, d)},
            {"D": d},
            (s.num_tokens, d // self.block("add_up_sound", "BLOCK_D"), 1),
        )

    def block_sums(self) -> tuple[Size, Size]:
        """-> blocks a frame, parts of the audio sum."""
        s, c, d = self.sizes, self.sizes.width, self.sizes.inner
        num_blocks = s.num_pixels // d
        parts = s.num_frames * num_blocks
        self.launch(
            "released_sums",
            {"x": "visual", "weight": "visual_in", "bias": "visual_in_bias", "projected": "projected"},
            {"num_tokens": s.num_tokens},
            {
                "scores": self.scratch("scores", s.num_frames, num_blocks, s.num_tokens, d),
                "sums": self.scratch("sums", parts, s.num_tokens, d),
            },
            {"C": c, "D": d, "PRECISION": self.precision},
            (parts, cdiv(s.num_tokens, self.block("released_sums", "BLOCK_M")), 1),
        )
        return num_blocks, parts

    def straddling_sums(self) -> tuple[Size, Size]:
        """-> blocks a frame (one), parts of the audio sum."""
        s, c, d = self.sizes, self.sizes.width, self.sizes.inner
        self.launch(
            "project_visual",
            {"x": "visual", "weight": "visual_in", "bias": "visual_in_bias"},
            {"num_pixels": s.num_pixels, "num_frames": s.num_frames},
            {"rows": self.scratch("rows", 3, s.num_frames, d, s.num_pixels)},
            {"C": c, "D": d, "PRECISION": self.precision},
            (cdiv(s.num_pixels, self.block("project_visual", "BLOCK_P")), s.num_frames, 3),
        )
        chunks = cdiv(s.num_pixels, self.block("straddling_sums", "BLOCK_P"))
        parts = s.num_frames * chunks
        self.launch(
            "straddling_sums",
            {"rows": "rows", "projected": "projected"},
            {"num_tokens": s.num_tokens, "num_pixels": s.num_pixels, "num_frames": s.num_frames},
            {
                "scores": self.scratch("scores", s.num_frames, 1, s.num_tokens, s.num_pixels),
                "sums": self.scratch("sums", parts, s.num_tokens, d),
            },
            {"C": c, "D": d, "PRECISION": self.precision},
            (chunks, s.num_frames, cdiv(s.num_tokens, self.block("straddling_sums", "BLOCK_M"))),
        )
        return 1, parts

    def paper(self) -> None:
        s, c, d = self.sizes, self.sizes.width, self.sizes.inner
        num_rows = s.num_frames * s.num_pixels
        scale = 1 / math.sqrt(d)
        self.launch(
            "paper_tokens",
            {"projected": "projected", "weight": "visual_in", "bias": "visual_in_bias", "frame_out": "frame_out"},
            {"num_tokens": s.num_tokens},
            {
                "folded": self.scratch("folded", 3, s.num_tokens, c),
                "offsets": self.scratch("offsets", s.num_tokens),
            },
            {"C": c, "D": d, "PRECISION": self.precision},
            (
                c // self.block("paper_tokens", "BLOCK_N"),
                cdiv(s.num_tokens, self.block("paper_tokens", "BLOCK_M")),
                3,
            ),
        )
        self.launch(
            "paper_mix",
            {
                "x": "visual",
                "folded": "folded",
                "offsets": "offsets",
                "frame_out_bias": "frame_out_bias",
                "norm": "frame_norm",
                "norm_bias": "frame_norm_bias",
            },
            {"num_tokens": s.num_tokens, "num_rows": num_rows},
            {"out": "frame"},
            {"C": c, "SCALE": scale, "PRECISION": self.precision},
            (cdiv(num_rows, self.block("paper_mix", "BLOCK_P")), 1, 1),
        )
        parts = cdiv(num_rows, self.block("paper_sums", "BLOCK_P") * self.block("paper_sums", "TILES"))
        self.launch(
            "paper_sums",
            {"x": "visual", "folded": "folded"},
            {"num_tokens": s.num_tokens, "num_rows": num_rows},
            {
                "peaks": self.scratch("peaks", parts, s.num_tokens),
                "totals": self.scratch("totals", parts, s.num_tokens),
                "sums": self.scratch("sums", parts, s.num_tokens, c),
            },
            {"C": c, "SCALE": scale, "PRECISION": self.precision},
            (parts, cdiv(s.num_tokens, self.block("paper_sums", "BLOCK_M")), 1),
        )
        self.launch(
            "paper_sound",
            {"peaks": "peaks", "totals": "totals", "sums": "sums", "weight": "visual_in", "bias": "visual_in_bias"},
            {"num_tokens": s.num_tokens, "num_parts": parts},
            {"sound": self.scratch("looked", s.num_tokens, d)},
            {"C": c, "D": d},
            (s.num_tokens, 1, 1),
        )
