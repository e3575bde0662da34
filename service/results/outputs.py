"""What `segment` leaves in its folder: overlay video with the sound, contact sheet, PNG masks, result.json.

Frames are written as they come, and none is kept: a video may be longer than memory.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auralsam2_client.calls.segmenting import SegmentedMedia
from auralsam2_client.contract import BuildInfo
from auralsam2_client.errors import BadInput
from auralsam2_client.masks import FrameResult, Rle, frame_entry, from_rle, write_entries, write_mask
from auralsam2_client.media.reader import Media
from auralsam2_client.prompts import Prompts
from auralsam2_client.run_files import OVERLAY, SHEET
from service.results.caption import caption_of
from service.results.out_folder import results_into
from service.results.overlay import Cover, contact_sheet, sheet_frames, sheet_tile, write_shown
from service.results.overlay_sound import SoundBetween
from service.results.prompt_drawing import draw_prompts

Picture = NDArray[np.uint8]
# A file may declare a frame more or less than it has.
_OFF_BY = (-1, 0, 1)


@dataclass(frozen=True)
class Run:
    """What is written beside the answers."""

    source: str
    fps: float
    model: str
    precision: Mapping[str, str]
    sound: SoundBetween | None
    start_s: float  # of the first frame
    expected: int | None  # frames, as far as it is known before the last
    picture: Callable[[int], Picture]
    """Gets a frame once more, by its number."""
    files: tuple[str, ...] = ()
    pixel_aspect: float = 1.0  # width by height of a pixel as it is shown
    facts: Callable[[], Mapping[str, Any]] = dict
    """Tells about the reading, once the last frame was read: `Media.facts`."""
    answer_notes: Callable[[], Sequence[str]] = tuple
    """Tells about the answers, once the last is there."""
    build: Callable[[], BuildInfo | None] = lambda: None
    """Tells what answered, once the last answer is there."""
    wire: str | None = None
    overlay: bool = True
    prompts: Prompts | None = None


def write_outputs(
    out_dir: Path,
    media: Media,
    segmented: SegmentedMedia,
    *,
    model: str,
    precision: Mapping[str, str],
    wire: str | None = None,
    overlay: bool = True,
    prompts: Prompts | None = None,
) -> list[Path]:
    """Write everything into `out_dir`, which is made if it is missing; return the paths, the JSON last.

    What an earlier run wrote there goes, what is the user's own stays; see `out_folder`. Prompts are drawn on their
    frame; where they name none, on the one that the build decodes first, if it says which.

    Raises: BadInput when a file cannot be written, ConfigError when this machine cannot encode H.264. Nothing is
        written or removed then.
    """
    run = run_of(
        media,
        model=model,
        precision=precision,
        wire=wire,
        overlay=overlay,
        prompts=prompts,
        answer_notes=lambda: segmented.notes,
        build=lambda: segmented.build,
    )
    return write_run(out_dir, zip(media.frames, segmented.frames, strict=True), run)


def run_of(media: Media, **settings: Any) -> Run:
    """Tell of a video in memory what a run needs to know; `settings` are the rest of it."""
    return Run(
        source=media.source,
        fps=media.fps,
        sound=None if media.sound is None else partial(_samples, media.sound),
        start_s=float(media.times_s[0]),
        expected=len(media.frames),
        picture=lambda index: media.frames[index],
        files=media.files,
        pixel_aspect=media.pixel_aspect,
        facts=media.facts,
        **settings,
    )


def _samples(sound: NDArray[np.float32], first: int, end: int) -> NDArray[np.float32]:
    return sound[first:end]


def write_run(out_dir: Path, shown: Iterable[tuple[Picture, FrameResult]], run: Run) -> list[Path]:
    """Write everything as `write_outputs` does, of frames and their answers as they come.

    Raises: as `write_outputs`; BadInput without a frame; and what `shown` raises.
    """
    with results_into(out_dir) as folder:
        written = _Written(folder, shown, run)
        beside = []
        if run.overlay:
            write_shown(
                folder / OVERLAY,
                written.frames(),
                run.fps,
                run.sound,
                sound_start_s=run.start_s,
                pixel_aspect=run.pixel_aspect,
            )
            beside = [OVERLAY, SHEET]
            contact_sheet(folder / SHEET, *written.sheet())
        else:
            for _ in written.frames():
                pass
        if not written.entries:
            raise BadInput("There are 0 frames to write; at least 1 is needed. Was the clip empty?")
        facts, build = run.facts(), run.build()
        result = write_entries(
            folder,
            written.entries,
            source=run.source,
            fps=run.fps,
            model=run.model,
            precision=run.precision or precision_of(build),
            facts={**facts, "notes": [*facts.get("notes", ()), *run.answer_notes()]},
            wire=run.wire,
            build=build,
            beside=beside,
        )
    return [out_dir / name for name in (*beside, result.name)]


def precision_of(build: BuildInfo | None) -> dict[str, str]:
    """Tell what a build computes in, as result.json has it; nothing of one that does not say."""
    return {} if build is None else {"engine": build["engine"], "arithmetic": build["precision"]}


@dataclass
class _Written:
    """The frames of a run that passed: their masks are files, their entries and some small pictures are here."""

    folder: Path
    shown: Iterable[tuple[Picture, FrameResult]]
    run: Run
    entries: list[dict[str, Any]] = field(default_factory=list)
    tiles: dict[int, tuple[Picture, Cover]] = field(default_factory=dict)
    size: tuple[int, ...] = ()

    def frames(self) -> Iterator[tuple[Picture, Cover, str]]:
        """Give each frame, its mask and its caption, once its files are written."""
        run, wanted = self.run, self._wanted()
        for index, (picture, result) in enumerate(self.shown):
            self.size = self.size or result.mask.shape
            self.entries.append(frame_entry(index, result, self.size, run.files[index] if run.files else None))
            try:
                write_mask(self.folder, index, result.mask)
            except OSError as error:
                raise BadInput(f"The masks cannot be written: {error.strerror}. Choose another --out.") from error
            drawn = self._drawn(index, picture)
            cover = result.mask if result.labels is None else result.labels
            if index in wanted:
                self.tiles[index] = sheet_tile(drawn, cover, pixel_aspect=run.pixel_aspect)
            named = tuple(result.class_areas())
            yield drawn, cover, caption_of(index, result.time_s, result.object_score, named)
            del picture, result, drawn

    def sheet(self) -> tuple[list[Picture], list[Cover], list[str]]:
        """Give what the contact sheet shows: pictures, masks and captions."""
        pictures, masks, captions = [], [], []
        for index in sheet_frames(len(self.entries)):
            entry = self.entries[index]
            if index not in self.tiles:
                rle: Rle = entry["rle"]
                picture = self._drawn(index, self.run.picture(index))
                self.tiles[index] = sheet_tile(picture, from_rle(rle), pixel_aspect=self.run.pixel_aspect)
            picture, mask = self.tiles[index]
            pictures.append(picture)
            masks.append(mask)
            named = tuple(name for name, found in entry.get("classes", {}).items() if found["area_px"])
            captions.append(caption_of(index, entry["time_s"], entry["object_score"], named))
        return pictures, masks, captions

    def _wanted(self) -> set[int]:
        """The frames that the contact sheet may show."""
        if not self.run.overlay or self.run.expected is None:
            return set()
        counts = (self.run.expected + off for off in _OFF_BY)
        return {index for count in counts if count > 0 for index in sheet_frames(count)}

    def _drawn(self, index: int, picture: Picture) -> Picture:
        prompts = self.run.prompts
        return picture if prompts is None or self._marked() != index else draw_prompts(picture, prompts)

    def _marked(self) -> int | None:
        """The frame of the prompts; where they name none, the one that the build decodes first, if it says which."""
        prompts, build = self.run.prompts, self.run.build()
        if prompts is not None and prompts.frame is not None:
            return prompts.frame
        return None if build is None else int(build["conditioning_frame"])
