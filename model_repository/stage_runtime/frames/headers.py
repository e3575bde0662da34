"""What a picture says of itself before it is decoded: its format, its sides, and whether the file is whole.

JPEG (ITU T.81), PNG (W3C, third edition) and WebP (RFC 9649) as they write it. What is refused here never reaches a
decoder: other sides than it says, more than 8 bits a channel, CMYK, transparency, several pictures in one file, an end
that is not there.
"""

import struct
from dataclasses import dataclass, field

JPEG, PNG, WEBP = "JPEG", "PNG", "WEBP"
FORMATS = (JPEG, PNG, WEBP)
"""As Pillow names them."""

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Of JPEG: baseline, extended and progressive with Huffman codes; the other frames are lossless or arithmetic.
_BASELINE = 0xC0
_FRAMES = (_BASELINE, 0xC1, 0xC2)
_OTHER_FRAMES = (0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))
_NO_LENGTH = (0x01, *range(0xD0, 0xD8))
_END, _SCAN = 0xD9, 0xDA
MAX_SCANS = 64
"""Of a progressive JPEG: each costs a pass over the whole picture, and usual files have ten."""
# Of PNG: bits a channel of each kind that has no transparency: grey, RGB, palette.
_DEPTHS = {0: (1, 2, 4, 8), 2: (8,), 3: (1, 2, 4, 8)}
_WITH_ALPHA = (4, 6)
# Flags of WebP's extended header.
_ANIMATED, _ALPHA = 0x02, 0x10


class BadPicture(ValueError):
    """A file that is no picture for this service. The message goes on after "frame 3 ", and tells the way out."""


@dataclass(frozen=True)
class Header:
    """`format` by Pillow's name; sides in pixels."""

    format: str
    width: int
    height: int
    plain: bool = field(default=False, compare=False)
    """A baseline JPEG in YCbCr, all channels of one size, in one scan: decoders agree on it within rounding."""


def read_header(data: bytes) -> Header:
    """Read the header of a JPEG, PNG or WebP file, and see that the file goes on to its end. Nothing is decoded.

    Raises: BadPicture.
    """
    try:
        if data.startswith(b"\xff\xd8"):
            return _read_jpeg(data)
        if data.startswith(_PNG_SIGNATURE):
            return _read_png(data)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _read_webp(data)
    except (struct.error, IndexError) as error:
        raise _cut_short() from error
    raise BadPicture(
        f"begins with {data[:4].hex(' ') or 'nothing'}; must be a JPEG, PNG or WebP file. Encode it as one."
    )


def _cut_short() -> BadPicture:
    return BadPicture("is cut short, or its lengths do not add up. Send the whole file.")


def _with_alpha() -> BadPicture:
    return BadPicture("has transparency; must be RGB or grey. Put it on a background first.")


def _animated() -> BadPicture:
    return BadPicture("is animated; each frame of the clip is a file of its own. Send one picture a file.")


def _read_jpeg(data: bytes) -> Header:
    place = 2
    while True:
        if data[place] != 0xFF:
            raise _cut_short()
        marker = data[place + 1]
        if marker == 0xFF:  # a filling byte
            place += 1
            continue
        if marker in (*_OTHER_FRAMES, _END, _SCAN):
            raise BadPicture("is a JPEG of a seldom kind (lossless, arithmetic); send a baseline or progressive one.")
        if marker in _FRAMES:
            break
        place += 2 if marker in _NO_LENGTH else 2 + _length_of(data, place)
    bits, height, width, channels = struct.unpack_from(">BHHB", data, place + 4)
    if bits != 8:
        raise BadPicture(f"has {bits} bits a channel; must be 8. Convert it.")
    if channels not in (1, 3):
        raise BadPicture(f"is a JPEG of {channels} channels (CMYK has 4); must be RGB or grey. Convert it to RGB.")
    num_scans = data.count(b"\xff\xda")
    if num_scans > MAX_SCANS:
        raise BadPicture(f"is a JPEG of more than {MAX_SCANS} scans; send a baseline one.")
    if not data.endswith(b"\xff\xd9"):
        raise _cut_short()
    plain = marker == _BASELINE and channels == 3 and num_scans == 1 and _in_ycbcr(data, place + 10)
    return Header(JPEG, width, height, plain)


def _in_ycbcr(data: bytes, place: int) -> bool:
    """Tell by the channels' names and sizes; where Adobe's marker may say otherwise, no."""
    names, sizes = data[place : place + 9 : 3], data[place + 1 : place + 9 : 3]
    return names == b"\1\2\3" and len(set(sizes)) == 1 and b"Adobe" not in data


def _length_of(data: bytes, place: int) -> int:
    (length,) = struct.unpack_from(">H", data, place + 2)
    if length < 2:
        raise _cut_short()
    return int(length)


def _read_png(data: bytes) -> Header:
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    if data[8:16] != b"\x00\x00\x00\x0dIHDR":
        raise _cut_short()
    if bits == 16:
        raise BadPicture("has 16 bits a channel; must be 8. Convert it.")
    if colour in _WITH_ALPHA:
        raise _with_alpha()
    if bits not in _DEPTHS.get(colour, ()):
        raise BadPicture(f"says {bits} bits a channel of kind {colour}, which PNG does not have. Write it again.")
    place, kinds = 8, list[bytes]()
    while place < len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        kinds.append(kind)
        place += 12 + length
    if place != len(data) or kinds[-1] != b"IEND" or b"IDAT" not in kinds:
        raise _cut_short()
    if b"acTL" in kinds:
        raise _animated()
    if b"tRNS" in kinds:
        raise _with_alpha()
    return Header(PNG, width, height)


def _read_webp(data: bytes) -> Header:
    (size,) = struct.unpack_from("<I", data, 4)
    if len(data) != 8 + size + size % 2:
        raise _cut_short()
    place, chunks = 12, dict[bytes, tuple[int, int]]()
    while place < len(data):
        kind, length = struct.unpack_from("<4sI", data, place)
        chunks.setdefault(kind, (place + 8, length))
        place += 8 + length + length % 2
    if place != len(data):
        raise _cut_short()
    canvas = None
    if b"VP8X" in chunks:
        (start, _) = chunks[b"VP8X"]
        if data[start] & _ANIMATED:
            raise _animated()
        if data[start] & _ALPHA:
            raise _with_alpha()
        canvas = tuple(1 + int.from_bytes(data[start + at : start + at + 3], "little") for at in (4, 7))
    if not chunks.keys().isdisjoint((b"ANIM", b"ANMF")):
        raise _animated()
    if b"ALPH" in chunks:
        raise _with_alpha()
    width, height = _webp_sides(data, chunks)
    if canvas not in (None, (width, height)):
        raise BadPicture(f"is a WebP of {width} x {height} px that says it is of another size. Write it again.")
    return Header(WEBP, width, height)


def _webp_sides(data: bytes, chunks: dict[bytes, tuple[int, int]]) -> tuple[int, int]:
    if (b"VP8 " in chunks) == (b"VP8L" in chunks):
        raise _cut_short()
    if b"VP8 " in chunks:
        start, _ = chunks[b"VP8 "]
        if data[start + 3 : start + 6] != b"\x9d\x01\x2a":
            raise _cut_short()
        width, height = struct.unpack_from("<HH", data, start + 6)
        return width & 0x3FFF, height & 0x3FFF
    start, _ = chunks[b"VP8L"]
    signature, bits = struct.unpack_from("<BI", data, start)
    if signature != 0x2F:
        raise _cut_short()
    if bits >> 28 & 1:
        raise _with_alpha()
    return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
