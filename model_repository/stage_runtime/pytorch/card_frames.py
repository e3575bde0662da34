"""FRAMES_ENCODED on a card: plain JPEGs are decoded there, and whatever it does not take or fails on, on the CPU.

Chosen when a stage loads: torchvision on nvJPEG, where it is there and gives a sample as the CPU does.
"""

import io
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ..engine import Array
from ..frames.encoded import Decoding, EncodedFrames
from .device.captured import from_numpy
from .device.failures import Card

HOST_DECODED = "auralsam2_host_decoded_frames_total"
KIND, FAILED, RESULT = "kind", "failed", "result"
"""Why a frame is left to the CPU: no plain JPEG; the card's decoder raised; it gave something else than the frame."""
MAX_DIFFERENCE = 4
"""Levels of 256 between two decoders of a plain JPEG. Their inverse transforms are a level apart in Y, Cb and Cr, each
rounded: B = Y + 1.772 Cb moves by 2.8, and rounding by less than one more. Without 4:4:4 there is no such bound, for
colour is enlarged in other ways."""

JpegDecoder = Callable[[Sequence[bytes]], Sequence[Tensor]]
"""Decodes JPEGs to [3, S, S] uint8 RGB each, on its device. Raises whatever it stumbles over."""


class CardFrames:
    """Of a build: see `EncodedFrames`, which checks all files before anything is decoded. One clip at a time."""

    def __init__(
        self, host: EncodedFrames, decoder: JpegDecoder, device: torch.device, count: Callable[[str], None]
    ) -> None:
        """`count`: gets the reason of each frame that is left to the CPU: KIND, FAILED or RESULT."""
        self._host, self._decoder, self._device, self._count = host, decoder, device, count

    def decode(self, files: Array) -> Tensor | Array:
        """Decode a clip, [T, S, S, 3] uint8 RGB: on the device, or where no frame is for it, in the host's memory.

        Raises: BadRequest as `EncodedFrames.decode`; what the card itself failed with.
        """
        headers = self._host.check(files)
        size = headers[0].width
        plain = [frame for frame, header in enumerate(headers) if header.plain]
        for _ in range(len(headers) - len(plain)):
            self._count(KIND)
        found = dict(zip(plain, self._decode_each([files[frame] for frame in plain]), strict=True))
        decoded = {frame: value for frame, value in found.items() if value is not None and self._fits(value, size)}
        for frame in plain:
            if frame not in decoded:
                self._count(FAILED if found[frame] is None else RESULT)
        rest = [frame for frame in range(len(headers)) if frame not in decoded]
        by_host = self._host.decode_some(rest, files, headers) if rest else None
        if not decoded and by_host is not None:
            return by_host
        clip = torch.empty((len(headers), size, size, 3), dtype=torch.uint8, device=self._device)
        for frame in range(len(headers)):
            if frame in decoded:
                clip[frame].copy_(decoded[frame].permute(1, 2, 0))
            elif by_host is not None:
                clip[frame].copy_(from_numpy(by_host[frame]))
        if self._device.type == "cuda":
            # Whoever reads it does so in another lane; and here it shows what the decoder left undone.
            torch.cuda.current_stream(self._device).synchronize()
        return clip

    def _decode_each(self, files: Sequence[bytes]) -> list[Tensor | None]:
        """Decode files at once, and one by one where that fails; None for one that fails by itself."""
        if not files:
            return []
        try:
            found = list(self._decoder(files))
        except torch.AcceleratorError:
            raise
        except Exception:  # noqa: BLE001  (a file that it does not take is the CPU's; that says what is wrong with it)
            found = []
        if len(found) == len(files):
            return list(found)
        return [None] if len(files) == 1 else [each for file in files for each in self._decode_each([file])]

    def _fits(self, value: Tensor, size: int) -> bool:
        return (
            isinstance(value, Tensor)
            and value.shape == (3, size, size)
            and value.dtype == torch.uint8
            and value.device == self._device
        )


def frames_on_card(
    host: EncodedFrames, card: Card, report: Callable[[str], None], count: Callable[[str], None]
) -> Decoding:
    """Choose what decodes files on a device: the card where its decoder is there and right, else the CPU.

    Args:
        report: gets a line that says which, on a card.
        count: as of `CardFrames`.
    """
    if card.device.type != "cuda":
        return host
    try:
        decoder = torchvision_decoder(card.device)
        if not agrees(decoder, card.device):
            raise RuntimeError("a sample comes out otherwise than on the CPU")
    except torch.AcceleratorError:
        raise
    # A library that is missing, of another build, or without nvJPEG.
    except Exception as error:  # noqa: BLE001
        report(f"JPEGs are decoded on the CPU: {error}")
        return host
    report(f"JPEGs are decoded on {card.name}")
    return CardFrames(host, decoder, card.device, count)


def torchvision_decoder(device: torch.device) -> JpegDecoder:
    """Make a decoder of torchvision, which has nvJPEG in its builds for CUDA. Raises: ImportError and the like."""
    # Part of set-up on cards alone.
    from torchvision.io import ImageReadMode, decode_jpeg  # type: ignore[import-not-found, unused-ignore]

    def decode(files: Sequence[bytes]) -> list[Tensor]:
        given = [torch.frombuffer(bytearray(file), dtype=torch.uint8) for file in files]
        found: list[Tensor] = decode_jpeg(given, mode=ImageReadMode.RGB, device=device)
        return found

    return decode


def agrees(decoder: JpegDecoder, device: torch.device) -> bool:
    """Compare a decoder with the CPU's on a sample of strong colours. Raises: what the decoder raises."""
    from PIL import Image

    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    sample = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None, :], ramp[::-1, None]), axis=-1)
    file = io.BytesIO()
    Image.fromarray(sample).save(file, "JPEG", quality=95, subsampling=0)
    with Image.open(file) as image:
        wanted = np.asarray(image)
    (found,) = decoder([file.getvalue()])
    if found.shape != (3, *wanted.shape[:2]) or found.dtype != torch.uint8 or found.device != device:
        return False
    given = found.permute(1, 2, 0).cpu().numpy()
    return int(np.abs(given.astype(int) - wanted).max()) <= MAX_DIFFERENCE
