"""The sizes of the network, by name. `hiera_*` follow SAM2 (2.0 configs) and AuralSAM2 as released; `compact` is ours.

Sources: the SAM2 package's sam2_hiera_{t,s,b+,l} configurations; AuralSAM2's released checkpoints (fuser and VGGish).
"""

from dataclasses import dataclass

from auralsam2.errors import NetworkError

IMAGE_SIZES = (1024, 512, 256, 224)
STRIDE = 16


@dataclass(frozen=True)
class Preset:
    """Widths and depths of one AuralSAM2. Counts unless the name says otherwise."""

    name: str
    embed_dim: int
    """Channels of the first Hiera stage; each later stage doubles them."""
    num_heads: int
    """Attention heads of the first Hiera stage; each later stage doubles them."""
    stages: tuple[int, int, int, int]
    global_att_blocks: tuple[int, ...]
    window_pos_embed_bkg_spatial_size: tuple[int, int]
    window_spec: tuple[int, int, int, int] = (8, 4, 14, 7)
    width: int = 256
    """d_model of FPN, fuser, memory attention and mask decoder."""
    memory_width: int = 64
    memory_layers: int = 4
    memory_feedforward: int = 2048
    decoder_feedforward: int = 2048
    decoder_heads: int = 8
    vggish_channels: tuple[int, int, int, int] = (64, 128, 256, 512)
    vggish_hidden: int = 4096
    fuser_depths: tuple[int, int, int] = (3, 6, 12)
    """PVTv2 blocks on the visual side, for each of the three stages."""
    audio_depth: int = 3
    """Blocks on the audio side of each stage."""
    fuser_heads: int = 4
    fusion_width: int = 128
    """Features inside the two-way fusion."""
    text_width: int = 768
    """Features of a word's state: DistilRoBERTa's, or those of `text.encoder`."""
    text_hidden: int = 1024
    """Between a word's state and its token."""
    default_image_size: int = 1024

    @property
    def channel_list(self) -> list[int]:
        """Channels of the four Hiera stages, deepest first, as the FPN neck wants them."""
        return [self.embed_dim * 2**stage for stage in (3, 2, 1, 0)]

    @property
    def vggish_out(self) -> int:
        """Features of one channel's embedding: left and right together fill `width`."""
        return self.width // 2


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset("hiera_tiny", 96, 1, (1, 2, 7, 2), (5, 7, 9), (7, 7)),
        Preset("hiera_small", 96, 1, (1, 2, 11, 2), (7, 10, 13), (7, 7)),
        Preset("hiera_base_plus", 112, 2, (2, 3, 16, 3), (12, 16, 20), (14, 14)),
        Preset("hiera_large", 144, 2, (2, 6, 36, 4), (23, 33, 43), (7, 7), window_spec=(8, 4, 16, 8)),
        Preset(
            "compact",
            embed_dim=32,
            num_heads=1,
            stages=(1, 2, 4, 1),
            global_att_blocks=(4, 6),
            window_pos_embed_bkg_spatial_size=(7, 7),
            window_spec=(8, 4, 8, 4),
            width=128,
            memory_width=32,
            memory_layers=2,
            memory_feedforward=512,
            decoder_feedforward=512,
            decoder_heads=4,
            vggish_channels=(16, 32, 64, 128),
            vggish_hidden=256,
            fuser_depths=(1, 1, 2),
            audio_depth=1,
            fusion_width=64,
            text_width=128,
            text_hidden=256,
            default_image_size=256,
        ),
    )
}


def preset(name: str) -> Preset:
    """Find the preset called `name`. Raises NetworkError that lists the known names."""
    if name not in PRESETS:
        raise NetworkError(f"preset {name!r} is unknown; choose one of {', '.join(PRESETS)}.")
    return PRESETS[name]


def check_image_size(image_size: int) -> int:
    """Return `image_size` if the network runs at it. Raises NetworkError that lists the sizes."""
    if image_size not in IMAGE_SIZES:
        sizes = ", ".join(map(str, IMAGE_SIZES))
        raise NetworkError(f"image_size {image_size} px is not supported; choose one of {sizes}.")
    return image_size
