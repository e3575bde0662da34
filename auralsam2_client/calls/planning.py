"""What to ask for each clip of a video, and what each frame's answer is, for both clients."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypedDict

from auralsam2_client.calls.answers import LOGITS
from auralsam2_client.calls.segmentation import Segmentation
from auralsam2_client.contract import BuildInfo
from auralsam2_client.errors import BadInput
from auralsam2_client.labels import enlarge_labels
from auralsam2_client.masks import FrameResult
from auralsam2_client.media.clips import MediaClip, cut_clips
from auralsam2_client.media.reader import Media
from auralsam2_client.prompts import Prompts, check_prompts, text_tensors


@dataclass(frozen=True, eq=False)
class SegmentedClip:
    """A clip of a video and the answer for each of its frames, in order of time."""

    clip: MediaClip
    results: list[FrameResult]
    build: BuildInfo | None = None
    """What answered, where the served build says so."""

    @property
    def num_repeated_windows(self) -> int:
        """Frames that heard sound of an earlier moment, because the sound ends before the video."""
        return self.clip.heard.num_repeated


class Question(TypedDict):
    """Arguments of a client's `segment` beside frames, sound and time."""

    prompts: Prompts | None
    use_audio: bool
    combination: str
    answer: str
    text: str | None


class Plan:
    """The clips of a video and what is asked for each. Raises: BadInput, before anything is sent."""

    def __init__(
        self,
        source: Media | Iterable[MediaClip],
        clip_length: int,
        prompts: Prompts | None,
        use_audio: bool,
        combination: str,
        answer: str = LOGITS,
        text: str | None = None,
    ) -> None:
        says = bool(text_tensors(text))
        self._source, self._clip_length = source, clip_length
        self._prompts, self._use_audio, self._combination = prompts, use_audio, combination
        self._answer, self._text = answer, text
        if isinstance(source, Media):
            self._marked = _marked_clip(prompts, source, clip_length, use_audio or says)
        elif prompts is not None or not (use_audio or says):
            raise BadInput("Prompts are on a frame of a whole video. Give the Media that read_media returns.")

    def clips(self) -> Iterator[MediaClip]:
        """Give the clips one after the other."""
        return cut_clips(self._source, self._clip_length) if isinstance(self._source, Media) else iter(self._source)

    def question(self, clip: MediaClip) -> Question:
        """Tell what is asked for a clip: its prompts' frame is counted within it."""
        here = self._prompts if self._prompts is not None and clip.first == self._marked else None
        if here is not None and here.frame is not None:
            here = replace(here, frame=here.frame - clip.first)
        asked: Question = {
            "prompts": here,
            "use_audio": self._use_audio,
            "combination": self._combination,
            "answer": self._answer,
            "text": self._text,
        }
        return asked


def read_clip(clip: MediaClip, answer: Segmentation) -> SegmentedClip:
    """Put the answer for a clip frame by frame, its masks at the size of the input."""
    masks = answer.masks()
    labels = None if answer.class_map is None else enlarge_labels(answer.class_map, masks)
    results = [
        FrameResult(
            time_s=float(time_s),
            mask=mask,
            iou=iou,
            best_candidate=int(iou.argmax()),
            object_score=float(score),
            mode=answer.mode,
            labels=None if labels is None else labels[index],
            class_scores=_scores(answer, index),
        )
        for index, (time_s, mask, iou, score) in enumerate(
            zip(clip.times_s, masks, answer.iou, answer.object_score, strict=True)
        )
    ]
    return SegmentedClip(clip, results, answer.build)


def _scores(answer: Segmentation, index: int) -> dict[str, float] | None:
    """Scores of a frame's classes by name; None of a build without."""
    if answer.class_scores is None:
        return None
    return dict(zip(answer.class_names, answer.class_scores[index].tolist(), strict=True))


def notes_of(num_repeated_windows: int, num_frames: int) -> tuple[str, ...]:
    """Say what stood in for what was not there in a video's answers, a line each."""
    if not num_repeated_windows:
        return ()
    return (
        f"the sound ends before the video: {num_repeated_windows} of {num_frames} frames heard the last 0.975 s again",
    )


def _marked_clip(prompts: Prompts | None, media: Media, clip_length: int, everywhere: bool) -> int:
    """The first frame of the clip that the prompts are in. Raises: BadInput, before anything is sent.

    `everywhere`: whether something says in every clip what to segment, sound or text.
    """
    total = len(media.frames)
    if prompts is not None:
        check_prompts(prompts, total, *media.frames.shape[1:3])
    if not everywhere and total > clip_length:
        raise BadInput(
            f"Without sound the prompts alone say what to segment, and they reach over one clip of {clip_length}"
            f" frames; the video gives {total}. Take at most {clip_length} (--max-frames, --start, --fps), or keep the"
            " sound."
        )
    frame = 0 if prompts is None or prompts.frame is None else prompts.frame
    return frame - frame % clip_length
