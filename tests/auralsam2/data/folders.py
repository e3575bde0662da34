"""Small data sets in the layouts of AVSBench and Ref-AVS, written for tests."""

from pathlib import Path

import numpy as np
import soundfile
from PIL import Image


def write_clip(folder: Path, num_frames: int = 5, *, labels: bool = True, seconds: float | None = None) -> Path:
    """Frames 60 x 40 px of growing brightness, a label that moves one pixel a frame, and a tone in stereo at 16 kHz."""
    (folder / "frames").mkdir(parents=True)
    for index in range(num_frames):
        Image.new("RGB", (60, 40), (20 * index, 90, 200)).save(folder / "frames" / f"{index}.jpg", quality=95)
    if labels:
        write_labels(folder / "labels_rgb", num_frames)
    write_tone(folder / "audio.wav", num_frames if seconds is None else seconds)
    return folder


def write_labels(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for index in range(count):
        label = np.zeros((40, 60, 3), np.uint8)
        label[10:20, 5 + index : 15 + index] = (0, 0, 64)  # a colour whose grey value rounds to little
        Image.fromarray(label).save(folder / f"{index}.png")


def write_tone(path: Path, seconds: float, rate: int = 16000, channels: int = 2) -> None:
    time_s = np.arange(round(seconds * rate)) / rate
    tone = 0.3 * np.sin(2 * np.pi * 440 * time_s)
    soundfile.write(path, np.stack([tone * (1 - 0.5 * c) for c in range(channels)], axis=1), rate)


def write_avsbench(root: Path, clips: dict[str, list[str]], split: str = "test") -> Path:
    """`clips`: label (v1s | v1m | v2) -> uids."""
    rows = ["vid,uid,s_min,s_sec,a_obj,split,label"]
    for label, uids in clips.items():
        for uid in uids:
            write_clip(root / label / uid)
            rows.append(f"x,{uid},0,5,piano,{split},{label}")
    (root / "metadata.csv").write_text("\n".join(rows) + "\n")
    return root
