"""FRAMES_ENCODED: checked as a whole by the headers, then decoded, several frames at a time."""

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from auralsam2_client.contract import ENCODED_FRAMES

from ..engine import Array, EngineError
from ..engine.refusals import BadRequest
from .headers import BadPicture, Header, read_header

# Each holds one frame, and what its decoder needs.
MAX_THREADS = 4


class Decoding(Protocol):
    """Decodes the files of a clip, [T] of bytes, to [T, S, S, 3] uint8, valid until the next call."""

    def decode(self, files: Array, /) -> Any:
        """Raises: BadRequest naming the frame."""


class EncodedFrames:
    """Of a build: T files a clip, each of S x S px and of at most `max_bytes`. One clip at a time.

    Memory: T frames of S x S x 3 bytes for the answer, and a few frames for each of the threads.
    """

    def __init__(self, num_frames: int, image_size: int, max_bytes: int) -> None:
        self._num_frames, self._size, self._max_bytes = num_frames, image_size, max_bytes
        self._answer: Array | None = None
        self._pool: ThreadPoolExecutor | None = None

    def check(self, files: Array) -> list[Header]:
        """Read the headers of a clip's files, and decode nothing.

        Args:
            files: [T] of bytes, a JPEG, PNG or WebP file each.
        Raises: BadRequest naming the first frame that is not acceptable, what it is, the limit and the way out.
        """
        if files.shape != (self._num_frames,):
            raise BadRequest(f"{ENCODED_FRAMES}: {list(files.shape)}; must be [{self._num_frames}], a file a frame.")
        return [self._check_file(frame, data) for frame, data in enumerate(files)]

    def decode(self, files: Array) -> Array:
        """Decode a clip as FRAMES has it: [T, S, S, 3] uint8 RGB, valid until the next call.

        Grey becomes RGB; orientation by EXIF and profiles of colour are left aside, as the sizes are the network's own.

        Raises: BadRequest as `check`, before anything is decoded; or naming the frame that is damaged.
        """
        return self.decode_some(range(self._num_frames), files, self.check(files))

    def decode_some(self, frames: Sequence[int], files: Array, headers: Sequence[Header]) -> Array:
        """Decode some frames of a clip that was checked; in what is returned the others are of no meaning.

        Raises: BadRequest naming the frame that is damaged.
        """
        if self._pool is None or self._answer is None:
            threads = min(self._num_frames, MAX_THREADS, len(os.sched_getaffinity(0)))
            self._pool = ThreadPoolExecutor(threads, "decode")
            self._answer = np.empty((self._num_frames, self._size, self._size, 3), np.uint8)
        answer = self._answer
        given = ((frame, files[frame], headers[frame], answer[frame]) for frame in frames)
        for _ in self._pool.map(lambda each: self._decode_file(*each), given):
            pass
        return answer

    def find_library(self) -> None:
        """Import what decodes, so that a stage without it says so when it loads, and not with the first file.

        Raises: EngineError.
        """
        try:
            from PIL import Image
        except ImportError as error:
            raise EngineError(
                f"Pillow is not in the server's Python ({error}), and decodes the frames that come as files. Run"
                " `make setup`, or install requirements/server.txt there."
            ) from error
        Image.preinit()

    def _check_file(self, frame: int, data: bytes) -> Header:
        if len(data) > self._max_bytes:
            raise _refusal(frame, f"has {len(data)} bytes; at most {self._max_bytes} are taken. Encode it smaller.")
        try:
            header = read_header(data)
        except BadPicture as error:
            raise _refusal(frame, str(error)) from error
        if (header.width, header.height) != (self._size, self._size):
            raise _refusal(
                frame,
                f"is a {header.format} of {header.width} x {header.height} px; this build takes {self._size} x"
                f" {self._size}. Resize it.",
            )
        return header

    def _decode_file(self, frame: int, data: bytes, header: Header, answer: Array) -> None:
        # Only the stage that decodes has the library in its process.
        from PIL import Image

        try:
            with Image.open(io.BytesIO(data), formats=(header.format,)) as image:
                if image.size == (self._size, self._size):
                    answer[...] = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
                    return
        # Of a damaged file Pillow's plug-ins raise whatever they stumble over.
        except Exception as error:
            raise _refusal(frame, f"is a damaged {header.format}. Encode it again.") from error
        raise _refusal(frame, f"is a {header.format} that says two sizes. Encode it again.")


def _refusal(frame: int, words: str) -> BadRequest:
    return BadRequest(f"{ENCODED_FRAMES}: frame {frame} {words}")
