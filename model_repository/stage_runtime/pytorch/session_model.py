"""Sessions of a build that computes in PyTorch: features stay on the device, and rounds are decoded there."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import triton_python_backend_utils as pb_utils

from auralsam2_client.contract import FEATURES_ENSEMBLE, IMAGE_FEATURES, NETWORK, RESULTS, Parameter

from ..engine import Array
from ..engine.refusals import Refusal
from ..sessions.adapter import SessionModel
from ..sessions.rounds import SessionDecoder
from ..sessions.sessions import Encoded
from ..sessions.stage_calls import call_model
from .loading import load_placed
from .prompted import load_prompted_decoder
from .tensors import read_tensor, take_tensor


class CardSessionModel(SessionModel):
    """Keeps features in the memory of its device, bounded as on a CPU."""

    def load_decoder(self, args: Mapping[str, str], parameters: Mapping[str, str], folder: Path) -> SessionDecoder:
        """Capture the stages that track prompts on the device of this instance."""
        name = args["model_name"]
        placed = load_placed(args, parameters, lambda line: pb_utils.Logger.log_info(f"{name}: {line}"))
        # Written by the model that has all stages, or by the export; what is compiled here is a part of it.
        placed.compiled.read()
        self._card, self._device = placed.card, placed.placing.device
        self._in_one_process = parameters[Parameter.NETWORK] == NETWORK
        return load_prompted_decoder(placed.network, placed.placing)

    def keep(self, tensor: Any) -> Any:
        """Copy a feature to the device of this instance, to be kept."""
        return take_tensor(tensor, self._device)

    def ticket_of(self, tensor: Any) -> bytes:
        """Read a clip's ticket, wherever it is."""
        return bytes(read_tensor(tensor).tolist())

    def encode(self, clip: list[Any], sound: Any, marks: Mapping[str, Any]) -> Encoded:
        """Run the clip: where one process has all stages, features and answer by sound come from one call."""
        if not self._in_one_process:
            return super().encode(clip, sound, marks)
        found = call_model(FEATURES_ENSEMBLE, [*clip, sound], (*IMAGE_FEATURES, *RESULTS), **marks)
        features = {name: self.keep(found[name]) for name in IMAGE_FEATURES}
        use_audio = bool(sound.as_numpy()[0])
        heard: dict[str, Array] | None = (
            {name: found[name].as_numpy().copy() for name in RESULTS} if use_audio else None
        )
        return features, heard

    def explain(self, error: Exception) -> Refusal | None:
        """Say what the card failed with, where it was the card."""
        return self._card.explain(error)

    def give_back(self) -> None:
        """Return freed memory to the card, and what was the host's to the system."""
        super().give_back()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
