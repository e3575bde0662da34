"""The command `segment`: a clip goes through a running server, files with its masks come out."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress

from auralsam2_client.contract import ANSWERS, COMBINATIONS, FROM_PROCEDURAL_WORLD, BuildInfo
from auralsam2_client.errors import AuralServeError, BadInput
from service.commands.options import OutOption
from service.commands.terminal import fail, note, progress_bar, say

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from auralsam2_client.calls.planning import SegmentedClip
    from auralsam2_client.masks import FrameResult
    from service.commands.segment_source import Source


def segment(
    clip: Annotated[str, typer.Argument(help="A video file, or a folder of frames with a WAV.")],
    out: OutOption = Path("out"),
    url: Annotated[str, typer.Option(help="host:port of the server's gRPC.")] = "127.0.0.1:8001",
    fps: Annotated[float, typer.Option(help="Frames a second to segment.")] = 1.0,
    start: Annotated[
        float, typer.Option(help="Second to begin at; with --max-frames it cuts a long video into parts.")
    ] = 0.0,
    max_frames: Annotated[
        int | None, typer.Option(help="Stop after this many frames, 1 to 600, the most of one run; default: all.")
    ] = None,
    sound: Annotated[Path | None, typer.Option(help="A file with sound; default: the clip's own track.")] = None,
    audio_track: Annotated[
        int | None, typer.Option(help="Sound track by number, from 1; default: the one that players take.")
    ] = None,
    video_track: Annotated[
        int | None, typer.Option(help="Video track by number, from 1; default: the one that players take.")
    ] = None,
    silent: Annotated[bool, typer.Option("--silent", help="Treat the clip as silent.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse a clip of which anything is missing or damaged.")
    ] = False,
    overlay: Annotated[bool, typer.Option(help="Write the overlay video and the contact sheet.")] = True,
    timeout: Annotated[float, typer.Option(help="Seconds for each clip of T frames.")] = 300.0,
    points: Annotated[
        str | None,
        typer.Option(
            help='Clicks in pixels of the input: "120,200,+;30,40,-"; + on the object, - beside it; default: none.'
        ),
    ] = None,
    box: Annotated[
        str | None, typer.Option(help="Box around the object, x0,y0,x1,y1 in pixels of the input; default: none.")
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="Picture of the input's size: all but its background; default: none.")
    ] = None,
    frame: Annotated[
        int | None, typer.Option(help="Frame of points, box or mask, from 0; default: the one that is decoded first.")
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            help='Say what is meant: "the striped shape that whistles"; for a build with text; default: nothing.'
        ),
    ] = None,
    audio: Annotated[
        bool, typer.Option("--audio/--no-audio", help="Go by the sound too, beside the prompts and the text.")
    ] = True,
    wire: Annotated[
        str,
        typer.Option(
            help="Frames go to the server as: auto | raw | jpeg | lossless. auto: JPEG where it changes little."
        ),
    ] = "auto",
    combine: Annotated[
        str | None,
        typer.Option(
            help=f"Sound and prompts combine by: {' | '.join(COMBINATIONS)}; default: {COMBINATIONS[0]}. Needs marks."
        ),
    ] = None,
    answer: Annotated[
        str, typer.Option(help=f"Form of the masks on the wire: {' | '.join(ANSWERS)}; bits are coarser.")
    ] = "logits",
) -> None:
    """Segment the sounding objects of a clip, or what you mark in it, through a running server.

    A run takes 600 frames at most. Longer videos go in parts, by --start and --max-frames, or with a lower --fps.
    """
    from auralsam2_client.calls.client import Client
    from auralsam2_client.calls.segmenting import segment_clips
    from auralsam2_client.media.prompt_options import read_prompts
    from auralsam2_client.prompts import text_tensors
    from service.commands.segment_source import open_source
    from service.results.outputs import write_run

    try:
        with ExitStack() as stack:
            prompts = read_prompts(points, box, mask, frame)
            if combine is not None and prompts is None:
                raise BadInput(
                    f"--combine {combine} joins sound and marks, and nothing is marked. "
                    "Give --points, --box or --mask, or leave --combine out."
                )
            says = bool(text_tensors(text))
            source = stack.enter_context(
                open_source(
                    clip,
                    whole=prompts is not None or not (audio or says),
                    fps=fps,
                    start_s=start,
                    max_frames=max_frames,
                    silent=silent,
                    sound_path=sound,
                    audio_track=audio_track,
                    video_track=video_track,
                    strict=strict,
                )
            )
            client = stack.enter_context(Client(url, timeout_s=timeout, retries=2, wire=wire))
            segmented = segment_clips(
                client,
                source.of_length(client.num_frames),
                prompts=prompts,
                text=text,
                use_audio=audio,
                combination=combine or COMBINATIONS[0],
                answer=answer,
                timeout_s=timeout,
            )
            stack.enter_context(closing(segmented))
            bar = stack.enter_context(progress_bar("{task.description}"))
            model = f"{client.model}, {client.image_size} px, clips of {client.num_frames} frames"
            told = Told(bar, source, overlay=overlay, use_audio=audio, says=says)
            run = source.run(
                model=model,
                precision={},
                wire=client.chosen_wire(),
                overlay=overlay,
                prompts=prompts,
                answer_notes=told.notes,
                build=lambda: told.build,
            )
            paths = write_run(out, told.frames(segmented), run)
    except AuralServeError as error:
        fail(error)
    for line in (*source.notes, *told.notes()):
        note(f"note: {line}.")
    for line in told.lines:
        say(line)
    say("wrote " + ", ".join(str(path) for path in paths))


class Told:
    """What a person sees of a run: frames as they are written, and a line for each at the end."""

    def __init__(self, bar: Progress, source: "Source", *, overlay: bool, use_audio: bool, says: bool) -> None:
        self.lines: list[str] = []
        self.num_repeated = 0
        self.build: BuildInfo | None = None
        self._source, self._use_audio, self._says, self._masked = source, use_audio, says, 0.0
        what = "segmenting and writing" if overlay else "segmenting"
        self._bar, self._task = bar, bar.add_task(what, total=source.expected)

    def notes(self) -> tuple[str, ...]:
        """Say what stood in for what was not there, and what weakens the answers, a line each."""
        from auralsam2_client.calls.planning import notes_of
        from auralsam2_client.knowledge import knowledge_notes

        weak = knowledge_notes(
            self.build,
            procedural=self._source.comment == FROM_PROCEDURAL_WORLD,
            share=self._masked / max(1, len(self.lines)),
            use_audio=self._use_audio,
            says=self._says,
        )
        return (*notes_of(self.num_repeated, len(self.lines)), *weak)

    def frames(self, clips: "Iterable[SegmentedClip]") -> "Iterator[tuple[NDArray[np.uint8], FrameResult]]":
        """Give each frame and its answer. One counts as done when the next is asked for."""
        for clip in clips:
            self.num_repeated += clip.num_repeated_windows
            self.build = clip.build
            for picture, found in zip(clip.clip.frames, clip.results, strict=True):
                yield picture, found
                made_by = "" if found.mode == "audio" else f"  by {found.mode}"
                named = found.class_areas()
                made_by += f"  {', '.join(sorted(named, key=lambda name: -named[name]))}" if named else ""
                share, score = float(found.mask.mean()), found.object_score
                self._masked += share
                self.lines.append(
                    f"{found.time_s:7.2f} s  mask {share:6.1%} of the frame  object score {score:+.2f}{made_by}"
                )
                self._bar.update(self._task, completed=len(self.lines))
            del clip, picture, found
        # The encoder holds frames back, the sheet is made of all: a second or two of a large video.
        self._bar.update(self._task, description="finishing the files")
