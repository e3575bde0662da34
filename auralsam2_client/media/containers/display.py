"""How a picture is shown: the eight turns of a display matrix, pixels that are not square, and the colours in words."""

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from numpy.typing import NDArray

# Beyond it a declared aspect is damage; the widest lenses squeeze by 2.
_MAX_ASPECT = 4
# FFmpeg's AVColorSpace; 2 is "unspecified", for which the conversion takes the matrix of BT.601.
_MATRICES = {
    0: "rgb",
    1: "bt709",
    4: "fcc",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "ycgco",
    9: "bt2020nc",
    10: "bt2020c",
}
_UNSPECIFIED = "unspecified, read as bt601"
_FULL_RANGE = 2


@dataclass(frozen=True)
class Orientation:
    """A turn by quarters clockwise, then a mirroring that lets left and right change places."""

    quarters: int = 0
    mirrored: bool = False

    @property
    def swaps_sides(self) -> bool:
        """Tell whether height and width change places."""
        return self.quarters % 2 == 1

    def apply(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Turn [H, W, 3] as it is shown, [W, H, 3] for a quarter turn; a view."""
        turned = np.rot90(picture, -self.quarters)
        return turned[:, ::-1] if self.mirrored else turned


def from_matrix(a: float, b: float, c: float, d: float) -> Orientation:
    """Read a display matrix: a stored point (x, y) is shown at (a x + c y, b x + d y), y downwards.

    A matrix between two of the eight, as of a camera held at a slant, counts as the nearer one. One of zeros counts as
    upright.
    """
    if abs(b) + abs(c) > abs(a) + abs(d):
        # x and y change places: a quarter turn clockwise is (-y, x), and (y, x) is that and a mirroring.
        return Orientation(1 if (b or -c) > 0 else 3, mirrored=b * c > 0)
    return Orientation(2 if (d or a) < 0 else 0, mirrored=a * d < 0)


def orientation_of(frame: VideoFrame) -> Orientation:
    """Read how a decoded frame is to be shown."""
    try:
        side_data: Any = frame.side_data
        matrix = struct.unpack("=9i", bytes(side_data[Type.DISPLAYMATRIX])[:36])
    except KeyError:
        return Orientation()
    except (ValueError, struct.error):
        # Side data of a kind that this PyAV has no name for hides the matrix; the plain turn is still told.
        return Orientation(-round(frame.rotation / 90) % 4)
    return from_matrix(matrix[0], matrix[1], matrix[3], matrix[4])


def pixel_aspect(declared: Fraction | None, orientation: Orientation) -> float:
    """Return width by height of a pixel as it is shown: 1.0 for square ones, and where none or nonsense is declared."""
    if not declared or not Fraction(1, _MAX_ASPECT) <= declared <= _MAX_ASPECT:
        return 1.0
    return float(1 / declared if orientation.swaps_sides else declared)


@dataclass(frozen=True)
class Colour:
    """How a frame's pixels were understood."""

    pixel_format: str
    matrix: str
    range: str  # "full" or "limited"


def colour_of(frame: VideoFrame) -> Colour:
    """Read how a decoded frame's colours are meant, as the conversion to RGB takes them."""
    name = frame.format.name
    if frame.format.is_rgb or name.startswith(("gray", "pal8", "mono")):
        return Colour(name, "rgb" if frame.format.is_rgb or name == "pal8" else "grey", _range(frame))
    return Colour(name, _MATRICES.get(frame.colorspace, _UNSPECIFIED), _range(frame))


def _range(frame: VideoFrame) -> str:
    full = frame.color_range == _FULL_RANGE or frame.format.name.startswith("yuvj") or frame.format.is_rgb
    return "full" if full else "limited"
