"""Compiled models in an engine's cache, each with a hash of our own beside it: what rots on a disk is never loaded.

OpenVINO loads a blob that was damaged in its middle without a word, and then answers otherwise. So a start loads only
blobs whose hash an earlier start wrote down, right after the engine had compiled them from graphs of the manifest.
The hash lies in NAME.blob.sha256, in the form that `sha256sum --check` reads.

Inductor's files carry a hash of their own (model_repository/stage_runtime/pytorch/compile_cache.py), and engines of
TensorRT one in the manifest of the build.
"""

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from auralsam2_client.errors import ConfigError
from service.builds.manifest import sha256

SUFFIX = ".blob"
HASH_SUFFIX = ".sha256"


@dataclass(frozen=True)
class CheckedModels:
    """What a look at the cache found before a start."""

    digests: dict[str, str] = field(default_factory=dict)
    """Hash of every blob that fits it, by name."""
    damaged: tuple[str, ...] = ()
    """Blobs that did not fit their hash, and were deleted."""


def check_compiled_models(cache: Path) -> CheckedModels:
    """Compare every blob of a cache with its hash, and delete what does not fit or has none: the engine compiles it.

    A blob without a hash was left by a start that did not end well, or by another program. It may be whole, but nothing
    shows it before it is loaded.

    Raises: ConfigError where such a blob cannot be deleted.
    """
    digests, damaged = {}, []
    for path in sorted(cache.glob(f"*{SUFFIX}")):
        wanted = _read_hash(path)
        found = ""
        with contextlib.suppress(ConfigError):  # one that cannot be read is not proven either
            found = sha256(path) if wanted else ""
        if wanted and found == wanted:
            digests[path.name] = found
            continue
        if wanted:
            damaged.append(path.name)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise ConfigError(
                f"{path} is a compiled model that does not fit its hash, or has none, and it cannot be deleted"
                f" ({error.strerror}). Delete it, or name another folder with --cache-dir."
            ) from error
        with contextlib.suppress(OSError):
            _hash_path(path).unlink(missing_ok=True)
    return CheckedModels(digests, tuple(damaged))


def record_compiled_models(cache: Path, checked: CheckedModels) -> None:
    """Write the hash of every blob that was compiled since `checked`. Where the cache cannot be written, none is.

    A hash that was compared before the start stays as it is: what happened to its file meanwhile shows at the next one.
    """
    for path in sorted(cache.glob(f"*{SUFFIX}")):
        if path.name in checked.digests:
            continue
        with contextlib.suppress(OSError, ConfigError):
            partial = path.with_name(f".{path.name}.{os.getpid()}")
            partial.write_text(f"{sha256(path)}  {path.name}\n")
            partial.replace(_hash_path(path))


def _hash_path(blob: Path) -> Path:
    return blob.with_name(blob.name + HASH_SUFFIX)


def _read_hash(blob: Path) -> str:
    """Read what is written beside a blob; "" where there is nothing of use."""
    try:
        digest, _, name = _hash_path(blob).read_text(encoding="ascii", errors="replace").strip().partition("  ")
    except OSError:
        return ""
    return digest if name == blob.name else ""
