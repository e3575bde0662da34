"""Clips that tell what is where: a picture shows its number, a second of sound has its own pitch.

What must come out of a reader is then known by construction, whatever container, codec or damage lies between.
"""

import av
import numpy as np
from numpy.typing import NDArray

from auralsam2_client.media.reader import Media

CELLS = (2, 5)
RATE = 48_000

Sound = NDArray[np.float32]
Picture = NDArray[np.uint8]


def picture(number: int, height: int = 48, width: int = 80) -> Picture:
    """Show a number up to 1023: ten cells, white where its bit is set."""
    drawn = np.full((height, width, 3), 24, np.uint8)
    rows, columns = CELLS
    for bit in range(rows * columns):
        if number >> bit & 1:
            row, column = divmod(bit, columns)
            drawn[
                row * height // rows : (row + 1) * height // rows,
                column * width // columns : (column + 1) * width // columns,
            ] = 230
    return drawn


def number_of(shown: Picture) -> int:
    """Read the number back, by the middle of each cell."""
    rows, columns = CELLS
    height, width = shown.shape[:2]
    number = 0
    for bit in range(rows * columns):
        row, column = divmod(bit, columns)
        y, x = (2 * row + 1) * height // (2 * rows), (2 * column + 1) * width // (2 * columns)
        if shown[y - height // 16 : y + height // 16 + 1, x - width // 40 : x + width // 40 + 1].mean() > 127:
            number |= 1 << bit
    return number


def corner_picture(height: int = 48, width: int = 80) -> Picture:
    """White in the upper left quarter."""
    drawn = np.full((height, width, 3), 24, np.uint8)
    drawn[: height // 2, : width // 2] = 230
    return drawn


def pitches(seconds: float, first_s: float = 0.0, rate: int = RATE, channels: int = 2) -> Sound:
    """[n, channels]: second k, counted from first_s, is a tone of 400 + 200 k Hz."""
    at_s = np.arange(round(seconds * rate)) / rate
    hertz = 400 + 200 * np.floor(at_s + first_s + 1e-9)
    wave = 0.4 * np.sin(2 * np.pi * np.cumsum(hertz) / rate)
    return np.repeat(wave[:, None], channels, axis=1).astype(np.float32)


def tone(seconds: float, hertz: float, rate: int = RATE) -> Sound:
    """[n] of one pitch."""
    return (0.4 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def loudest_hertz(wave: Sound, rate: int = 16_000) -> float | None:
    """The loudest pitch; None for silence."""
    if len(wave) < 64 or np.abs(wave).max() < 0.005:
        return None
    return float(np.argmax(np.abs(np.fft.rfft(wave * np.hanning(len(wave)), 1 << 16)))) * rate / (1 << 16)


def second_at(sound: Sound, time_s: float) -> int | None:
    """Which second sounds in the middle of the window that begins at time_s; None for silence."""
    middle = round((time_s + 0.4875) * 16_000)
    hertz = loudest_hertz(sound[max(0, middle - 3000) : middle + 3000].mean(axis=1))
    return None if hertz is None else round((hertz - 400) / 200)


def numbers(media: Media) -> list[int]:
    return [number_of(frame) for frame in media.frames]


def seconds(media: Media) -> list[int | None]:
    assert media.sound is not None
    return [second_at(media.sound, float(time_s)) for time_s in media.times_s]


def sides(media: Media) -> list[int | None]:
    """The loudest pitch on the left and on the right, in Hz, rounded to 10."""
    assert media.sound is not None
    found = [loudest_hertz(media.sound[4000:-4000, side]) for side in (0, 1)]
    return [None if hertz is None else round(hertz / 10) * 10 for hertz in found]


def channel_names(layout: str) -> list[str]:
    return [channel.name for channel in av.AudioLayout(layout).channels]


def placed(layout: str, length_s: float, rate: int = RATE, **tones: float) -> Sound:
    """[n, channels] of a layout: placed("7.1", 2, FL=700, BR=2500) has those pitches in those channels."""
    names = channel_names(layout)
    sound = np.zeros((round(length_s * rate), len(names)), np.float32)
    for name, hertz in tones.items():
        sound[:, names.index(name)] = tone(length_s, hertz, rate)
    return sound


def as_loud_as_stereo(layout: str) -> float:
    """How much softer all channels at once have to be so as not to clip, with a little left."""
    return 1.0 if layout in ("mono", "stereo") else 0.8


def stored_for(shown: Picture, a: int, b: int, c: int, d: int) -> Picture:
    """What a file holds so that its display matrix, (x, y) shown at (a x + c y, b x + d y), gives this picture."""
    height, width = shown.shape[:2] if a else shown.shape[1::-1]
    y, x = np.mgrid[:height, :width]
    across, down = a * x + c * y, b * x + d * y
    return np.ascontiguousarray(shown[down - down.min(), across - across.min()])
