"""The command `segment`: a clip goes through a running server, files with its masks come out."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress

from auralsam2_client.contract import COMBINATIONS
from auralsam2_client.errors import AuralServeError
from service.commands.options import OutOption
from service.commands.terminal import fail, note, progress_bar, say

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from auralsam2_client.calls.planning import SegmentedClip
    from auralsam2_client.masks import FrameResult


def segment(
    clip: Annotated[str, typer.Argument(help="A video file, or a folder of frames with a WAV.")],
    out: OutOption = Path("out"),
    url: Annotated[str, typer.Option(help="host:port of the server's gRPC.")] = "127.0.0.1:8001",
    fps: Annotated[float, typer.Option(help="Frames a second to segment.")] = 1.0,
    start: Annotated[float, typer.Option(help="Second to begin at.")] = 0.0,
    max_frames: Annotated[int | None, typer.Option(help="Stop after this many frames.")] = None,
    sound: Annotated[Path | None, typer.Option(help="A sound file in place of the clip's own track.")] = None,
    silent: Annotated[bool, typer.Option("--silent", help="Treat the clip as silent.")] = False,
    overlay: Annotated[bool, typer.Option(help="Write the overlay video and the contact sheet.")] = True,
    timeout: Annotated[float, typer.Option(help="Seconds for each clip of T frames.")] = 300.0,
    points: Annotated[
        str | None,
        typer.Option(help='Clicks in pixels of the input: "120,200,+;30,40,-"; + on the object, - beside it.'),
    ] = None,
    box: Annotated[str | None, typer.Option(help="Box around the object, x0,y0,x1,y1 in pixels of the input.")] = None,
    mask: Annotated[Path | None, typer.Option(help="Picture of the input's size: all but its background.")] = None,
    frame: Annotated[
        int | None, typer.Option(help="Frame of points, box or mask, from 0; default: the one that is decoded first.")
    ] = None,
    audio: Annotated[bool, typer.Option("--audio/--no-audio", help="Go by the sound too, beside the prompts.")] = True,
    combine: Annotated[
        str, typer.Option(help=f"Sound and prompts combine by: {' | '.join(COMBINATIONS)}")
    ] = COMBINATIONS[0],
) -> None:
    """Segment the sounding objects of a clip, or what you mark in it, through a running server."""
    from auralsam2_client.calls.client import Client
    from auralsam2_client.calls.segmenting import segment_clips
    from auralsam2_client.media.prompt_options import read_prompts
    from service.commands.segment_source import open_source
    from service.results.outputs import write_run

    try:
        with ExitStack() as stack:
            prompts = read_prompts(points, box, mask, frame)
            source = stack.enter_context(
                open_source(
                    clip,
                    whole=prompts is not None or not audio,
                    fps=fps,
                    start_s=start,
                    max_frames=max_frames,
                    silent=silent,
                    sound_path=sound,
                )
            )
            client = stack.enter_context(Client(url, timeout_s=timeout, retries=2))
            segmented = segment_clips(
                client,
                source.of_length(client.num_frames),
                prompts=prompts,
                use_audio=audio,
                combination=combine,
                timeout_s=timeout,
            )
            stack.enter_context(closing(segmented))
            bar = stack.enter_context(progress_bar("segmenting"))
            model = f"{client.model}, {client.image_size} px, clips of {client.num_frames} frames"
            run = source.run(model=model, precision={}, overlay=overlay, prompts=prompts)
            told = Told(bar, run.expected)
            paths = write_run(out, told.frames(segmented), run)
    except AuralServeError as error:
        fail(error)
    if told.num_repeated:
        note(
            f"note: the sound ends before the video: {told.num_repeated} of {len(told.lines)} frames"
            " heard the last 0.975 s again."
        )
    for line in told.lines:
        say(line)
    say("wrote " + ", ".join(str(path) for path in paths))


class Told:
    """What a person sees of a run: frames as they are written, and a line for each at the end."""

    def __init__(self, bar: Progress, expected: int | None) -> None:
        self.lines: list[str] = []
        self.num_repeated = 0
        self._bar, self._task = bar, bar.add_task("", total=expected)

    def frames(self, clips: "Iterable[SegmentedClip]") -> "Iterator[tuple[NDArray[np.uint8], FrameResult]]":
        """Give each frame and its answer. One counts as done when the next is asked for."""
        for clip in clips:
            self.num_repeated += clip.num_repeated_windows
            for picture, found in zip(clip.clip.frames, clip.results, strict=True):
                yield picture, found
                made_by = "" if found.mode == "audio" else f"  by {found.mode}"
                share, score = found.mask.mean(), found.object_score
                self.lines.append(
                    f"{found.time_s:7.2f} s  mask {share:6.1%} of the frame  object score {score:+.2f}{made_by}"
                )
                self._bar.update(self._task, completed=len(self.lines))
            del clip, picture, found
