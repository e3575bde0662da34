"""The files that a run leaves in its folder: their names, and which of a folder's files an earlier run wrote."""

import json
import re
from contextlib import suppress
from pathlib import Path

RESULT, OVERLAY, SHEET = "result.json", "overlay.mp4", "frames.png"
# Only such names are ever taken for ours, whatever a list says.
_OURS = re.compile(rf"mask_\d{{5,}}\.png|{re.escape(OVERLAY)}|{re.escape(SHEET)}|{re.escape(RESULT)}")


def mask_name(index: int) -> str:
    """Name the file of a frame's mask."""
    return f"mask_{index:05d}.png"


def written_files(folder: Path) -> set[str]:
    """Name the files that an earlier run wrote into a folder, by its result.json; none where that is not ours."""
    result = folder / RESULT
    with suppress(OSError, ValueError, RecursionError):
        record = None if result.is_symlink() else json.loads(result.read_text(encoding="utf-8"))
        if isinstance(record, dict) and isinstance(record.get("frames"), list) and "model" in record:
            # Versions without the list wrote all of these.
            usual = [*(mask_name(index) for index in range(len(record["frames"]))), OVERLAY, SHEET, RESULT]
            listed = record.get("written", usual)
            return {name for name in listed if isinstance(name, str) and _OURS.fullmatch(name)}
    return set()
