"""The models of the layout "ensemble": each stage in a process of its own, tensors between them on the card."""

from collections.abc import Mapping
from typing import Any

import triton_python_backend_utils as pb_utils

from auralsam2_client.contract import Parameter

from ..adapter import DecoderModel, ImageModel, Logic, Parts, SoundModel, StageModel, clip_size
from ..admission.telemetry import Telemetry
from ..engine.refusals import Refusal
from ..engine.stage import ClipStage, TensorShape
from ..frames.encoded import Decoding, EncodedFrames
from ..prompts.stages import DecoderStage
from .card_frames import HOST_DECODED, frames_on_card
from .card_stage import CardStage
from .loading import Placed, load_placed
from .prompted import load_prompted_decoder
from .tensors import read_tensor, write_tensor


class CardModel(StageModel):
    """A stage that computes in PyTorch."""

    placed: Placed

    def load_stage(
        self,
        args: Mapping[str, str],
        parameters: Mapping[str, str],
        inputs: list[TensorShape],
        outputs: list[TensorShape],
    ) -> tuple[ClipStage, str]:
        """Place the stage on the device of this instance and capture it there."""
        name = args["model_name"]
        self.placed = load_placed(args, parameters, lambda line: pb_utils.Logger.log_info(f"{name}: {line}"))
        self.placed.compiled.read()
        graph = self.placed.placing.stage(self.placed.network.stages()[name])
        self.placed.compiled.write()
        return CardStage(graph, inputs, outputs, self.placed.card), parameters[Parameter.PRECISION]

    def read(self, tensor: Any) -> Any:
        """Read a tensor where it is."""
        return read_tensor(tensor)

    def write(self, name: str, value: Any) -> Any:
        """Write a tensor where it is."""
        return write_tensor(name, value)

    def explain(self, error: Exception) -> Refusal | None:
        """Say what the card failed with, where it was the card: outside the stage itself too."""
        return self.placed.card.explain(error)


class CardSoundModel(CardModel, SoundModel):
    """A stage of the sound, which rests when a request switches it off."""


class CardImageModel(CardModel, ImageModel):
    """The stage of the frames, raw or encoded."""

    def decoding(self, encoded: EncodedFrames, parts: Parts) -> Decoding:
        """Decode on the card where it can, else on the CPU."""
        labels = {"model": parts.parameters[Parameter.PRESET], "precision": parts.parameters[Parameter.PRECISION]}
        telemetry = Telemetry(pb_utils, labels)
        return frames_on_card(
            encoded,
            self.placed.card,
            pb_utils.Logger.log_info,
            lambda reason: telemetry.count(HOST_DECODED, reason=reason),
        )


class CardDecoderModel(CardModel, DecoderModel):
    """The decoder, with SAM2's own prompts beside the sound."""

    def logic(self, parts: Parts) -> Logic:
        """Answer by sound, by prompts, or by both."""
        decoder = load_prompted_decoder(self.placed.network, self.placed.placing)
        return DecoderStage(parts.stage, decoder, clip_size(parts))
