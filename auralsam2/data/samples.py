"""One clip with its ground truth, in the sizes that it came in; and clips that are only read when somebody asks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Sample:
    """One clip to judge on."""

    name: str
    frames: NDArray[np.uint8]
    """[T, H, W, 3] RGB, before any resizing."""
    windows: NDArray[np.float32]
    """[A, 15600, 2]: the sound's examples, one a frame; as released, Ref-AVS may have fewer or more than frames."""
    masks: NDArray[np.bool_]
    """[T, H', W'], at the size of the labels."""
    expression: str | None = None
    """Ref-AVS: the words that point at the object."""

    def read(self) -> "Sample":
        """Return itself, as a `Clip` that was read already."""
        return self

    def windows_per_frame(self) -> NDArray[np.float32]:
        """Return [T, 15600, 2]: what is missing repeats the last, what is left over is cut."""
        if len(self.windows) == len(self.frames):
            return self.windows
        return self.windows[np.minimum(np.arange(len(self.frames)), len(self.windows) - 1)]


class Clip(Protocol):
    """A clip by its name, whether or not it was read."""

    @property
    def name(self) -> str: ...

    def read(self) -> Sample:
        """Read it. Raises: DataError when it is not as its layout says; other clips may be."""
        ...


@dataclass(frozen=True)
class Unread:
    """A clip that lies in a data set, or can be drawn."""

    name: str
    reader: Callable[[], Sample]
    """Raises DataError when the clip is not as its layout says."""

    def read(self) -> Sample:
        """Read it, each time again."""
        return self.reader()
