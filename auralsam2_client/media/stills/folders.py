"""The files of a person's folder: in the order of their numbers, without what Mac and Windows leave behind."""

import re
from collections.abc import Collection
from pathlib import Path

_DIGITS = re.compile(r"(\d+)")
# Besides "._NAME", the companion that a Mac writes for NAME where the disk cannot hold its attributes.
_LEFT_OVERS = frozenset({".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini"})

NaturalKey = tuple[tuple[str | int, ...], tuple[str | int, ...], str]


def natural_key(path: Path) -> NaturalKey:
    """Make a key that sorts names as file managers do: runs of digits count as numbers, letters without their case.

    The suffix counts after the rest of the name: "frame.png" stands before "frame1.png".
    """
    return _parts(path.stem), _parts(path.suffix), path.name


def is_left_over(path: Path) -> bool:
    """Tell whether a file is one that Mac or Windows leaves in a folder: `._*`, `.DS_Store`, `Thumbs.db`."""
    return path.name.startswith("._") or path.name.lower() in _LEFT_OVERS


def list_files(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """List the files of a folder whose suffix, in lower case, is one of `suffixes`, in natural order.

    Left-overs of Mac and Windows are not listed. Raises: OSError when the folder cannot be read.
    """
    found = (path for path in folder.iterdir() if path.suffix.lower() in suffixes)
    return sorted((path for path in found if not is_left_over(path) and path.is_file()), key=natural_key)


def _parts(text: str) -> tuple[str | int, ...]:
    # Texts and numbers take turns, so that a number never meets a text.
    return tuple(int(part) if index % 2 else part.casefold() for index, part in enumerate(_DIGITS.split(text)))
