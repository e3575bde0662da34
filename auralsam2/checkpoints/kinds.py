"""What a file is, by its first bytes and its list of contents: weights that can be read, or something in their place.

A name says little: a clone without Git LFS, a page to log in or a download that broke off all end with .pth. Some
kilobytes are read, so that a file of gigabytes is told as fast as an empty one.
"""

import json
import zipfile
from pathlib import Path
from typing import Literal

from auralsam2.errors import CheckpointError

Kind = Literal["torch", "safetensors"]
_HEAD_BYTES = 4096
_SHOWN = 80
_AGAIN = "Fetch the file again."
_UNPACK = "Unpack it, and give the file of weights that is in it."
# The first line of the text that stands in for a large file in a clone made without Git LFS.
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_ANNEX_POINTER = b"/annex/objects/"
_ZIP, _PICKLE, _TAR, _TAR_PLACE = b"PK\x03\x04", b"\x80", b"ustar", 257
# The longest header that the safetensors format allows.
_MAX_HEADER_BYTES = 100_000_000
_OTHERS = {
    b"\x1f\x8b": ("a gzip archive", _UNPACK),
    b"BZh": ("a bzip2 archive", _UNPACK),
    b"\xfd7zXZ\x00": ("an xz archive", _UNPACK),
    b"\x28\xb5\x2f\xfd": ("a Zstandard archive", _UNPACK),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", _UNPACK),
    b"Rar!": ("a RAR archive", _UNPACK),
    b"PK\x05\x06": ("an empty zip archive", _AGAIN),
    b"\x89HDF": ("an HDF5 file, as Keras writes it", "Give weights of PyTorch."),
    b"GGUF": ("a GGUF file", "Give weights of PyTorch."),
    b"%PDF": ("a PDF", "Give the file of weights."),
}
_MARKUP = ("<!doctype html", "<html", "<head", "<body", "<script")


def kind_of(path: Path) -> Kind:
    """Tell how a file of weights is to be read, whatever its name.

    Returns: "torch", what `torch.save` writes (an archive, or the pickles of older versions) | "safetensors".
    Raises: CheckpointError that says what the file is instead, and the way out.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise _not_weights(path, f"cannot be read ({error.strerror})", "Check its permissions.") from error
    if not head:
        raise _not_weights(path, "an empty file, as a failed download leaves it", _AGAIN)
    if head.startswith(_LFS_POINTER):
        raise _not_weights(
            path,
            "a Git LFS pointer, the text that stands in for the file of weights",
            "Fetch the file itself: git lfs pull, in the repository that it comes from.",
        )
    if head.startswith(_ZIP):
        _check_archive(path, size)
        return "torch"
    if _has_header(head):
        _check_length(path, head, size)
        return "safetensors"
    if head.startswith(_PICKLE) and len(head) > 1 and head[1] <= 5:
        return "torch"
    raise _something_else(path, head)


def _not_weights(path: Path, what: str, way_out: str) -> CheckpointError:
    return CheckpointError(f"{path.name}: {what}. {way_out}")


def _check_archive(path: Path, size: int) -> None:
    names = None
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, NotImplementedError) as error:
        raise _not_weights(path, f"a damaged archive ({error})", _AGAIN) from error
    if names is None:
        raise _not_weights(path, f"an archive that breaks off after {size} bytes, as a cut download leaves it", _AGAIN)
    inside = {name.partition("/")[2] for name in names}
    if "data.pkl" not in inside:
        found = f"{', '.join(names[:3])}{' and more' if len(names) > 3 else ''}" or "nothing"
        raise _not_weights(path, f"a zip archive that torch.save did not write; it holds {found}", _UNPACK)
    if "constants.pkl" in inside:
        raise _not_weights(
            path,
            "a TorchScript archive, which holds code beside its weights",
            "Where you trust it, store them alone: torch.save(torch.jit.load(FILE).state_dict(), NEW).",
        )


def _has_header(head: bytes) -> bool:
    """Whether the file begins as safetensors do: the length of a header, then the header, which is JSON."""
    return head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= _MAX_HEADER_BYTES


def _check_length(path: Path, head: bytes, size: int) -> None:
    num_bytes = 8 + int.from_bytes(head[:8], "little")
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(num_bytes)[8:]) if num_bytes <= size else {}
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        num_bytes += max(ends, default=0)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return  # whoever reads it says what is wrong with it
    if size < num_bytes:
        raise _not_weights(
            path,
            f"a safetensors file that breaks off after {size} of {num_bytes} bytes, as a cut download leaves it",
            _AGAIN,
        )


def _something_else(path: Path, head: bytes) -> CheckpointError:
    for magic, (what, way_out) in _OTHERS.items():
        if head.startswith(magic):
            return _not_weights(path, what, way_out)
    if head[_TAR_PLACE : _TAR_PLACE + len(_TAR)] == _TAR:
        return _not_weights(path, "a tar archive", _UNPACK)
    text = _text_of(head)
    if text is None:
        began = head[:8].hex(" ")
        return _not_weights(path, f"neither what torch.save writes nor safetensors; it begins with {began}", _AGAIN)
    start = text.lstrip("\ufeff \t\r\n")
    shown = " ".join(start.split())[:_SHOWN]
    if start.lower().startswith(_MARKUP) or "<html" in start.lower():
        return _not_weights(
            path,
            "an HTML page, which a site sends in place of a file: to log in, to confirm a download, or of an error",
            "Download the file itself; of Hugging Face give hf://owner/repository/path/file.pth.",
        )
    if head.startswith(_ANNEX_POINTER) or "/.git/annex/objects/" in start:
        return _not_weights(path, "a pointer of git-annex", "Fetch the file itself: git annex get.")
    if start.startswith("<?xml"):
        return _not_weights(path, f"an XML text, as a store sends it for an error: {shown!r}", _AGAIN)
    if start.startswith(("{", "[")):
        return _not_weights(path, f"a JSON text, as a server sends it for an error: {shown!r}", _AGAIN)
    return _not_weights(path, f"a text: {shown!r}", "Give the file of weights.")


def _text_of(head: bytes) -> str | None:
    """The first bytes as a text, or None; a character at their end may be cut."""
    try:
        text = head.decode("utf-8-sig", "strict" if len(head) < _HEAD_BYTES else "ignore")
    except UnicodeDecodeError:
        return None
    return text if all(character.isprintable() or character.isspace() for character in text) else None
