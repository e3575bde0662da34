"""A picture that is held, in H.264: frames that say no more than "as before", written here and not by the encoder.

An encoder looks at each frame of a held picture again, which at one picture a second is 24 of 25 frames. What it would
find is a slice of skipped macroblocks, a dozen bytes. Those bytes are the same for each picture but for the frame's
number, where each picture begins a sequence of its own (an IDR picture) and macroblocks are coded by CAVLC.

Source  ITU-T H.264 (08/2021): 7.3.2.1 and 7.3.2.2 for the parameter sets, 7.3.3 for the slice header, 7.3.4 for runs
        of skipped macroblocks, 8.4.1.1 for their motion, which is none.
"""

from collections.abc import Mapping
from dataclasses import dataclass

HELD_FROM = 8
"""Pictures that are held for so many frames are worth a sequence each."""
# Nothing is looked at ahead, so that each picture is a whole sequence and comes out at once. Without a look at what
# follows the same quality takes a lower crf: 14 gives the 48 dB of `fast` at 20, in twice the bytes
# and a 16th of the time.
OPTIONS: Mapping[str, str] = {
    "crf": "14",
    "preset": "superfast",
    "tune": "zerolatency",
    "threads": "1",
    "forced-idr": "1",
    "x264-params": "cabac=0:ref=1:bframes=0:weightp=0:scenecut=0:sliced-threads=0",
}
_SPS, _PPS = 7, 8
_HIGH = 100
_START = b"\x00\x00\x00\x01"
# A slice of a picture that others refer to, not of an IDR picture.
_HEADER = 0x41


@dataclass(frozen=True)
class HeldPictures:
    """The frames behind the first of a picture, for one encoder's stream."""

    frame_num_bits: int
    num_macroblocks: int
    deblocking_is_told: bool

    @classmethod
    def of_stream(cls, extradata: bytes) -> "HeldPictures | None":
        """Read an encoder's parameter sets, in Annex B's form; None for a stream of another kind than OPTIONS make."""
        units = {unit[0] & 31: unit[1:] for unit in extradata.split(b"\x00\x00\x01") if unit}
        if not {_SPS, _PPS} <= units.keys():
            return None
        sps, pps = _Bits(units[_SPS].rstrip(b"\x00")), _Bits(units[_PPS].rstrip(b"\x00"))
        profile = sps.number(8)
        sps.number(16)
        sps.golomb()
        if profile == _HIGH and (sps.golomb(), sps.golomb(), sps.golomb(), sps.number(2)) != (1, 0, 0, 0):
            return None
        frame_num_bits, order = sps.golomb() + 4, sps.golomb()
        sps.golomb()
        sps.number(1)
        num_macroblocks, frames_alone = (sps.golomb() + 1) * (sps.golomb() + 1), sps.number(1)
        ids, by_cabac, in_fields, groups = (pps.golomb(), pps.golomb()), pps.number(1), pps.number(1), pps.golomb()
        num_more_references = pps.golomb()
        pps.golomb()
        weighted = pps.number(3)
        for _ in range(3):
            pps.golomb()
        told, _, redundant = pps.number(1), pps.number(1), pps.number(1)
        others = (by_cabac, in_fields, groups, num_more_references, weighted, redundant)
        if profile > _HIGH or order != 2 or not frames_alone or any(ids) or any(others):
            return None
        return cls(frame_num_bits, num_macroblocks, bool(told))

    def frame(self, number: int) -> bytes:
        """Write the frame `number` of a picture, 1 for the one behind its first, as Annex B has it."""
        last = (1 << self.frame_num_bits) - 1
        bits = "".join(
            (
                _golomb(0),  # first macroblock
                _golomb(5),  # all slices of the picture are P
                _golomb(0),  # parameter set
                f"{number & last:0{self.frame_num_bits}b}",
                "000",  # as many references as usual, in their usual order, the oldest of them leaves
                _golomb(0),  # no other quantiser
                _golomb(1) if self.deblocking_is_told else "",  # no deblocking
                _golomb(self.num_macroblocks),  # skipped
                "1",
            )
        )
        bits += "0" * (-len(bits) % 8)
        return _START + bytes([_HEADER]) + _escaped(int(bits, 2).to_bytes(len(bits) // 8, "big"))


class _Bits:
    """Reads a parameter set."""

    def __init__(self, unit: bytes) -> None:
        plain = unit.replace(b"\x00\x00\x03", b"\x00\x00")
        self._bits = "".join(f"{byte:08b}" for byte in plain)
        self._at = 0

    def number(self, num_bits: int) -> int:
        self._at += num_bits
        return int(self._bits[self._at - num_bits : self._at], 2)

    def golomb(self) -> int:
        """An Exp-Golomb number; a signed one by its code."""
        num_zeros = self._bits.index("1", self._at) - self._at
        self._at += num_zeros
        return self.number(num_zeros + 1) - 1


def _golomb(value: int) -> str:
    code = f"{value + 1:b}"
    return "0" * (len(code) - 1) + code


def _escaped(payload: bytes) -> bytes:
    """Put a 3 between two zeros and what would look like a start code."""
    escaped, num_zeros = bytearray(), 0
    for byte in payload:
        if num_zeros >= 2 and byte <= 3:
            escaped.append(3)
            num_zeros = 0
        escaped.append(byte)
        num_zeros = num_zeros + 1 if byte == 0 else 0
    return bytes(escaped)
