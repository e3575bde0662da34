"""What reads as a stage beside the fuser: numbers of words to the tokens that stand after those of the sound."""

from torch import Tensor, nn

from auralsam2.model.aural_sam2 import AuralSAM2
from auralsam2.stages.clip_stages import Stage
from auralsam2.text.encoder import WordEncoder
from auralsam2_client.contract import MAX_WORDS, TEXT_ENCODER, WORD_NUMBERS, WORD_TOKENS, TensorSpec


class TextEncoderStage(nn.Module):
    """Text encoder, and the fuser's projection of its states. Numbers come as floats: graphs know no other type."""

    def __init__(self, encoder: WordEncoder, projection: nn.Module) -> None:
        super().__init__()
        self.encoder, self.projection = encoder.float(), projection

    def forward(self, numbers: Tensor) -> tuple[Tensor]:
        """Encode numbers of words [1, 25] float32 -> tokens [25, C] float32."""
        return (self.projection(self.encoder(numbers.long())[0]),)


def text_stage(encoder: WordEncoder, model: AuralSAM2) -> Stage:
    """Make the stage of a text encoder and the network that it was trained with."""
    assert model.aural_fuser.text_proj is not None, "a network that reads"
    taken = TensorSpec(WORD_NUMBERS, "FP32", (1, MAX_WORDS))
    given = TensorSpec(WORD_TOKENS, "FP32", (MAX_WORDS, model.preset.width))
    return Stage(TEXT_ENCODER, TextEncoderStage(encoder, model.aural_fuser.text_proj), (taken,), (given,), 1)
