"""The command `segment`: a clip goes through a running server, files with its masks come out."""

from pathlib import Path
from typing import Annotated

import typer

from auralsam2_client.contract import ANSWERS, COMBINATIONS
from auralsam2_client.errors import AuralServeError
from service.commands.options import OutOption
from service.commands.terminal import fail, note, progress_bar, say


def segment(
    clip: Annotated[str, typer.Argument(help="A video file, or a folder of frames with a WAV.")],
    out: OutOption = Path("out"),
    url: Annotated[str, typer.Option(help="host:port of the server's gRPC.")] = "127.0.0.1:8001",
    fps: Annotated[float, typer.Option(help="Frames a second to segment.")] = 1.0,
    start: Annotated[float, typer.Option(help="Second to begin at.")] = 0.0,
    max_frames: Annotated[int | None, typer.Option(help="Stop after this many frames.")] = None,
    sound: Annotated[Path | None, typer.Option(help="A file with sound in place of the clip's own track.")] = None,
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
        typer.Option(help='Clicks in pixels of the input: "120,200,+;30,40,-"; + on the object, - beside it.'),
    ] = None,
    box: Annotated[str | None, typer.Option(help="Box around the object, x0,y0,x1,y1 in pixels of the input.")] = None,
    mask: Annotated[Path | None, typer.Option(help="Picture of the input's size: all but its background.")] = None,
    frame: Annotated[
        int | None, typer.Option(help="Frame of points, box or mask, from 0; default: the one that is decoded first.")
    ] = None,
    audio: Annotated[bool, typer.Option("--audio/--no-audio", help="Go by the sound too, beside the prompts.")] = True,
    wire: Annotated[
        str,
        typer.Option(
            help="Frames go to the server as: auto | raw | jpeg | lossless. auto: JPEG where it changes little."
        ),
    ] = "auto",
    combine: Annotated[
        str, typer.Option(help=f"Sound and prompts combine by: {' | '.join(COMBINATIONS)}")
    ] = COMBINATIONS[0],
    answer: Annotated[
        str, typer.Option(help=f"Form of the masks on the wire: {' | '.join(ANSWERS)}; bits are coarser.")
    ] = "logits",
) -> None:
    """Segment the sounding objects of a clip, or what you mark in it, through a running server."""
    from auralsam2_client.calls.client import Client
    from auralsam2_client.calls.segmenting import segment_media
    from auralsam2_client.media.prompt_options import read_prompts
    from auralsam2_client.media.reader import read_media
    from service.results.outputs import write_outputs

    try:
        prompts = read_prompts(points, box, mask, frame)
        with progress_bar("reading   ") as bar:
            task = bar.add_task("", total=None)
            media = read_media(
                clip,
                fps=fps,
                start_s=start,
                max_frames=max_frames,
                silent=silent,
                sound_path=sound,
                audio_track=audio_track,
                video_track=video_track,
                strict=strict,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        for line in media.notes:
            note(f"note: {line}.")
        with Client(url, timeout_s=timeout, retries=2, wire=wire) as client, progress_bar("segmenting") as bar:
            task = bar.add_task("", total=len(media.frames))
            segmented = segment_media(
                client,
                media,
                prompts=prompts,
                use_audio=audio,
                combination=combine,
                answer=answer,
                timeout_s=timeout,
                progress=lambda done, total: bar.update(task, completed=done),
            )
            chosen_wire = client.chosen_wire()
            model = f"{client.model}, {client.image_size} px, clips of {client.num_frames} frames"
        paths = write_outputs(
            out, media, segmented, model=model, precision={}, wire=chosen_wire, overlay=overlay, prompts=prompts
        )
    except AuralServeError as error:
        fail(error)
    for line in segmented.notes:
        note(f"note: {line}.")
    for found in segmented.frames:
        share = found.mask.mean()
        made_by = "" if found.mode == "audio" else f"  by {found.mode}"
        say(f"{found.time_s:7.2f} s  mask {share:6.1%} of the frame  object score {found.object_score:+.2f}{made_by}")
    say("wrote " + ", ".join(str(path) for path in paths))
