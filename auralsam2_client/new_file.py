"""A file that appears whole or not at all, and never through a link: what the link points at stays as it is."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Give a place beside `path` to write to, and put what was written there into its place at the end.

    A file or a link that is in place is replaced; a file that is written to under another name is not touched. When
    the block fails, nothing is left and nothing is replaced. Raises: OSError.
    """
    partial = path.with_name(f".{path.name}.partial")
    # Of an earlier run that was killed, or a link, through which a writer would write elsewhere.
    partial.unlink(missing_ok=True)
    # Ours from here on: a link that comes in between makes this fail.
    os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_new(path: Path, text: str) -> None:
    """Write a text as a file that appears as `new_file` says. Raises: OSError."""
    with new_file(path) as partial:
        partial.write_text(text, encoding="utf-8")
