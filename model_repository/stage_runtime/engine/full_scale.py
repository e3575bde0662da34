"""Sound that is not there, or in another scale than [-1, 1]: refused before it is computed.

By another scale the masks would be wrong without a word.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from auralsam2_client.contract import AUDIO, MAX_SAMPLE, WINDOW_SAMPLES

from .engines import Array
from .refusals import BadRequest


def check_sound_came(given: Mapping[str, Any]) -> None:
    """Raise BadRequest where AUDIO did not come to a clip that goes by its sound."""
    if AUDIO not in given:
        raise BadRequest(
            f"{AUDIO} did not come; a clip goes by its sound. Send it, float32 [T, {WINDOW_SAMPLES}, 2], or prompts"
            " with USE_AUDIO false."
        )


def check_full_scale(inputs: Mapping[str, Array]) -> None:
    """Check that AUDIO, where it is among the inputs, lies in [-1, 1]. NaN and Inf are left to the stage's own check.

    Raises: BadRequest naming the largest sample.
    """
    audio = inputs.get(AUDIO)
    if audio is None or not audio.size:
        return
    place = int(np.abs(audio).argmax())
    largest = float(audio.flat[place])
    if np.isfinite(largest) and abs(largest) > MAX_SAMPLE:
        index = [int(i) for i in np.unravel_index(place, audio.shape)]
        raise BadRequest(
            f"{AUDIO}: {largest:g} at {index}; every sample must lie in [-1, 1]. Divide 16-bit integers by 32768, and"
            " clip what goes beyond full scale."
        )
