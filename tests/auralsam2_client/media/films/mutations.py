"""Files that are broken at random: bit flips, cuts, foreign headers, runs of one byte. And a worker that reads them.

As a program it reads each file whose path comes in on a line, and answers a line: "read", "refused", or the traceback
of anything else. It is a process of its own so that its death is seen.
"""

import sys
import traceback
from collections.abc import Sequence
from random import Random

from auralsam2_client.errors import BadInput
from auralsam2_client.media.reader import read_media

_HEADER_BYTES = 4096


def mutated(content: bytes, others: Sequence[bytes], random: Random) -> bytes:
    """Break a file in one of six ways."""
    broken = bytearray(content)
    size = len(broken)
    head = min(size, _HEADER_BYTES)
    match random.randrange(6):
        case 0:
            _flip(broken, random, 0, size)
        case 1:
            _flip(broken, random, 0, head)
        case 2:
            _flip(broken, random, size - head, size)
        case 3:
            del broken[random.randrange(size) :]
        case 4:
            other = random.choice(others)
            length = random.randrange(min(len(other), head))
            broken[:length] = other[:length]
        case _:
            place = random.randrange(size)
            broken[place : place + random.randrange(200)] = random.choice((b"\0", b"\xff")) * random.randrange(200)
    return bytes(broken)


def _flip(broken: bytearray, random: Random, begin: int, end: int) -> None:
    for _ in range(random.choice((1, 3, 10, 50))):
        broken[random.randrange(begin, end)] ^= 1 << random.randrange(8)


def _read(path: str) -> str:
    try:
        read_media(path)
    except BadInput:
        return "refused"
    except BaseException:  # noqa: BLE001 - whatever it is, the test names it
        return traceback.format_exc().replace("\n", " | ")
    return "read"


if __name__ == "__main__":
    for line in sys.stdin:
        sys.stdout.write(_read(line.rstrip("\n")) + "\n")
        sys.stdout.flush()
