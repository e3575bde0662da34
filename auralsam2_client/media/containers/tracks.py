"""Which tracks of a file are read: those that players take, or those that are asked for by number."""

from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from auralsam2_client.errors import BadInput
from auralsam2_client.media.containers.display import Colour, Orientation

_Track = TypeVar("_Track", bound=Stream)
_COVER = Disposition.attached_pic | Disposition.timed_thumbnails


@dataclass(frozen=True)
class TrackUsed:
    """A track as players number it: from 1, among those of its kind."""

    number: int
    of: int
    codec: str


@dataclass(frozen=True)
class Used:
    """What of a video file was read, and how its pictures were turned and coloured."""

    video: TrackUsed
    sound: TrackUsed | None  # None where the sound is another file's, or silence
    orientation: Orientation
    colour: Colour
    comment: str = ""
    """Of the file's header."""

    def as_json(self) -> dict[str, Any]:
        """Return what result.json says: `tracks`, `rotation` and `colour`."""
        tracks = {
            kind: None if track is None else {"track": track.number, "of": track.of, "codec": track.codec}
            for kind, track in (("video", self.video), ("sound", self.sound))
        }
        rotation = {"degrees_clockwise": 90 * self.orientation.quarters, "mirrored": self.orientation.mirrored}
        return {"tracks": tracks, "rotation": rotation, "colour": asdict(self.colour)}


def video_track(container: InputContainer, name: str, number: int | None = None) -> VideoStream:
    """Choose the video track: by its number from 1, else the one that players take.

    Players take a film before a thumbnail, which is one picture, then the one that is marked as default, then the
    better one. The cover of a music file counts where there is nothing else.

    Raises: BadInput when there is none, no such number, or no decoder for it.
    """
    tracks = list(container.streams.video)
    if number is None:
        covers = [track for track in tracks if track.disposition & _COVER]
        chosen = [track for track in tracks if track not in covers] or covers
    else:
        chosen = _numbered(tracks, number, name, "video")
    if not chosen:
        raise BadInput(f"{name} has no video stream; one is needed. Give a video file, or a folder of frames.")
    best = container.streams.best("video")
    track = max(
        chosen, key=lambda one: (one.frames != 1, bool(one.disposition & Disposition.default), one is best, -one.index)
    )
    if track.codec_context is None:
        raise BadInput(f"{name}: there is no decoder for its video here. Convert it: ffmpeg -i FILE out.mp4")
    return track


def sound_track(
    container: InputContainer, name: str, number: int | None = None, video: Stream | None = None
) -> AudioStream:
    """Choose the sound track: by its number from 1, else the one that players take along with the video.

    Raises: BadInput when there is none, no such number, or no decoder for it.
    """
    tracks = list(container.streams.audio)
    if not tracks:
        raise BadInput(f"{name} has no sound track; one is needed. Use --silent to treat it as silence.")
    if number is None:
        best = container.streams.best("audio", related=video)
        track = next((track for track in tracks if track is best), tracks[0])
    else:
        track = _numbered(tracks, number, name, "sound")[0]
    if track.codec_context is None:
        raise BadInput(f"{name}: there is no decoder for its sound here. Convert it, or use --silent.")
    return track


def track_used(container: InputContainer, track: VideoStream | AudioStream) -> TrackUsed:
    """Say which track it is among those of its kind."""
    kin = list(container.streams.video if isinstance(track, VideoStream) else container.streams.audio)
    return TrackUsed(kin.index(track) + 1, len(kin), track.codec_context.name)


def _numbered(tracks: list[_Track], number: int, name: str, kind: str) -> list[_Track]:
    option = {"video": "--video-track", "sound": "--audio-track"}[kind]
    if not 1 <= number <= len(tracks):
        raise BadInput(
            f"{option} {number}, but {name} has {len(tracks)} {kind} track{'' if len(tracks) == 1 else 's'}, counted "
            "from 1. Leave it out for the one that players take."
        )
    return [tracks[number - 1]]
