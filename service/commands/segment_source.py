"""Where `segment` takes its frames from: a clip as it is read; where prompts are on one of its frames, read first."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auralsam2_client.media.clips import MediaClip
from auralsam2_client.media.reader import Media, read_media
from auralsam2_client.media.streaming import MediaStream
from service.commands.terminal import progress_bar
from service.results.outputs import Picture, Run, run_of


@dataclass(frozen=True)
class Source:
    """A clip that is read while it is segmented, or was read."""

    media: Media | MediaStream
    reading: Mapping[str, Any]
    """How it was opened: arguments of `read_media`."""

    @property
    def expected(self) -> int | None:
        """Frames, as far as it is known before the last."""
        return len(self.media.frames) if isinstance(self.media, Media) else self.media.expected

    @property
    def notes(self) -> tuple[str, ...]:
        """What was missing, damaged or filled up in it, a line each; known after the last frame."""
        return self.media.notes

    @property
    def comment(self) -> str:
        """The comment in the file's header; known after the first frame."""
        used = self.media.used
        return "" if used is None else used.comment

    def of_length(self, clip_length: int) -> Media | Iterator[MediaClip]:
        """Give what `segment_clips` takes."""
        return self.media if isinstance(self.media, Media) else self.media.clips(clip_length)

    def run(self, *, overlay: bool, **settings: Any) -> Run:
        """Tell what is written beside the answers, before the clips are read; `settings` are the rest of it."""
        media = self.media
        if isinstance(media, Media):
            return run_of(media, overlay=overlay, **settings)
        return Run(
            source=media.source,
            fps=media.fps,
            sound=media.listener().between if overlay and not media.silent else None,
            overlay=overlay,
            start_s=media.time_s(0),
            expected=media.expected,
            picture=lambda index: _read_again(media, index, self.reading),
            files=media.files,
            pixel_aspect=media.pixel_aspect,
            facts=media.facts,
            **settings,
        )


@contextmanager
def open_source(clip: str | Path, *, whole: bool, **reading: Any) -> Iterator[Source]:
    """Open a clip; `reading` as for `read_media`.

    Args:
        whole: read all of it first.
    Raises: BadInput.
    """
    if not whole:
        with MediaStream(clip, **reading) as stream:
            yield Source(stream, reading)
        return
    with progress_bar("reading   ") as bar:
        task = bar.add_task("", total=None)
        media = read_media(clip, progress=lambda done, total: bar.update(task, completed=done, total=total), **reading)
    yield Source(media, reading)


def _read_again(stream: MediaStream, index: int, reading: Mapping[str, Any]) -> Picture:
    """Read one frame of a video that has other frames than it declares; its last is held while its sound goes on."""
    assert not stream.files, "a folder has as many frames as it has files"
    media: Media = read_media(stream.source, **{**reading, "start_s": stream.time_s(index), "max_frames": 1})
    picture: Picture = media.frames[0]
    return picture
