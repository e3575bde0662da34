"""Compiled code that travels with a build: one file of Inductor's artifacts and its hash, for one card and one PyTorch.

Written after a first start, read before the next one compiles. A file that does not fit its hash, or cannot be read, is
deleted and said so; then everything is compiled as at a first start.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from .network import NetworkDescription

SUFFIX = ".inductor"
_DIGEST_BYTES = hashlib.sha256().digest_size


class CompileCache:
    """The file of one network on one kind of card, below the build's cache folder; without a folder, none."""

    def __init__(
        self, folder: Path | None, card: str, description: NetworkDescription, report: Callable[[str], None]
    ) -> None:
        self._report = report
        told = json.dumps([card, torch.__version__, asdict(description)], sort_keys=True)
        self._path = None if folder is None else folder / (hashlib.sha256(told.encode()).hexdigest()[:24] + SUFFIX)
        self._was_read = False

    @property
    def path(self) -> Path | None:
        """Where the file is, or will be."""
        return self._path

    def read(self) -> bool:
        """Give Inductor what an earlier start compiled; tell whether there was anything."""
        if self._path is None or not self._path.is_file():
            return False
        try:
            whole = self._path.read_bytes()
            digest, artifacts = whole[:_DIGEST_BYTES], whole[_DIGEST_BYTES:]
            if hashlib.sha256(artifacts).digest() != digest:
                raise ValueError("it does not fit its hash")
            if torch.compiler.load_cache_artifacts(artifacts) is None:
                raise ValueError("PyTorch does not take it")
        except Exception as error:  # noqa: BLE001  (whatever is wrong with a cache, the start goes on without it)
            self._report(f"compiled code in {self._path.name} is not used: {error}; it is deleted and made again")
            with contextlib.suppress(OSError):
                self._path.unlink()
            return False
        self._was_read = True
        return True

    def write(self) -> None:
        """Keep what this start compiled, whole or not at all. A folder that cannot be written is no error."""
        if self._path is None or self._was_read:
            return
        found = torch.compiler.save_cache_artifacts()
        if found is None:
            return
        partial = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        with contextlib.suppress(OSError):
            partial.write_bytes(hashlib.sha256(found[0]).digest() + found[0])
            partial.replace(self._path)
