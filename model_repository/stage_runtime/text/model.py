"""The fuser's door to the server: as every stage of the sound, and in builds with text with words beside it."""

from collections.abc import Mapping

from auralsam2_client.contract import AUDIO_TOKENS, Parameter

from ..adapter import Logic, Parts, SoundModel
from ..engine.stage import TensorShape
from .reader import Reader
from .stages import ReadingStage, tokens_input


class FuserModel(SoundModel):
    """Rests where nothing is heard and nothing is said."""

    def logic(self, parts: Parts) -> Logic:
        """Choose what answers a request: the stage of the sound, or the one that reads beside it."""
        if not reads(parts.parameters):
            return super().logic(parts)
        return ReadingStage(parts.stage, parts.outputs, Reader.load(parts.folder, parts.parameters))

    def own_inputs(self, parameters: Mapping[str, str], inputs: list[TensorShape]) -> list[TensorShape]:
        """List the tokens of sound and words together, where there are words."""
        return [tokens_input(tensor) for tensor in inputs if tensor.name == AUDIO_TOKENS and reads(parameters)]


def reads(parameters: Mapping[str, str]) -> bool:
    """Tell by the model's parameters whether the build takes text."""
    return bool(parameters.get(Parameter.TEXT_ENCODER_SHA256))
