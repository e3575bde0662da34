"""Sound that comes second by second is what it is when it is resampled in one piece."""

import numpy as np
import pytest
import soxr

from service.results.overlay_sound import AAC_RATE, OverlaySound

RATE = 16_000


def drawn(seconds: float) -> np.ndarray:
    return np.random.default_rng(3).uniform(-1, 1, (round(seconds * RATE), 2)).astype(np.float32)


def taken(sound: OverlaySound, count: int) -> np.ndarray:
    parts = []
    while len(part := sound.take(count)):
        parts.append(part)
    return np.concatenate(parts)


@pytest.mark.parametrize("seconds", [0.3, 1.0, 3.0, 4.7])
@pytest.mark.parametrize("start_s", [0.0, 0.25])
def test_it_is_the_sound_resampled_in_one_piece(seconds: float, start_s: float) -> None:
    sound, asked = drawn(seconds), list[int]()

    def between(first: int, end: int) -> np.ndarray:
        asked.extend((first, end))
        return sound[first:end]

    whole = np.clip(soxr.resample(sound[round(start_s * RATE) :], RATE, AAC_RATE, quality="HQ"), -1, 1)
    assert taken(OverlaySound(between, RATE, start_s), 4321).tobytes() == whole.tobytes()
    assert asked == sorted(asked)
    assert asked[1:-1:2] == asked[2::2]


def test_it_asks_for_no_more_than_is_taken() -> None:
    asked: list[int] = []

    def between(first: int, end: int) -> np.ndarray:
        asked.append(end)
        return drawn(60)[first:end]

    OverlaySound(between, RATE).take(2 * AAC_RATE)
    assert max(asked) <= 4 * RATE


def test_sound_at_the_rate_of_players_passes_as_it_is() -> None:
    sound = 3 * drawn(2)
    assert taken(OverlaySound(lambda first, end: sound[first:end], AAC_RATE), 1000).tobytes() == sound.tobytes()


def test_silence_is_told() -> None:
    assert OverlaySound(lambda first, end: None, RATE).is_silent()
    assert OverlaySound(lambda first, end: drawn(1)[first:end], RATE, start_s=2.0).is_silent()
    assert not OverlaySound(lambda first, end: drawn(1)[first:end], RATE).is_silent()
