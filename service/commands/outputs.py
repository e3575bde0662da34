"""What `segment` leaves in its folder: overlay video with the sound, contact sheet, PNG masks, result.json."""

from collections.abc import Mapping
from pathlib import Path

from auralsam2_client.calls.segmenting import SegmentedMedia
from auralsam2_client.masks import write_results
from auralsam2_client.media.reader import Media
from auralsam2_client.prompts import Prompts
from service.commands.overlay import caption_of, contact_sheet, write_overlay
from service.commands.prompt_drawing import draw_prompts

OVERLAY, SHEET = "overlay.mp4", "frames.png"


def write_outputs(
    out_dir: Path,
    media: Media,
    segmented: SegmentedMedia,
    *,
    model: str,
    precision: Mapping[str, str],
    overlay: bool = True,
    prompts: Prompts | None = None,
) -> list[Path]:
    """Write everything into `out_dir`, which is made if it is missing; return the paths, the JSON last.

    Prompts are drawn on their frame, if it is named.

    Raises: BadInput when a file cannot be written, ConfigError when this machine cannot encode H.264.
    """
    result = write_results(
        out_dir,
        segmented.frames,
        source=media.source,
        fps=media.fps,
        model=model,
        precision=precision,
        facts={**media.facts(), "notes": [*media.notes, *segmented.notes]},
    )
    paths: list[Path] = []
    if overlay:
        masks, frames = segmented.masks(), media.frames
        if prompts is not None and prompts.frame is not None:
            frames = frames.copy()
            frames[prompts.frame] = draw_prompts(frames[prompts.frame], prompts)
        captions = [caption_of(frame.time_s, frame.object_score) for frame in segmented.frames]
        start_s = float(media.times_s[0])
        paths.append(
            write_overlay(
                out_dir / OVERLAY,
                frames,
                masks,
                captions,
                media.fps,
                media.sound,
                sound_start_s=start_s,
                pixel_aspect=media.pixel_aspect,
            )
        )
        paths.append(contact_sheet(out_dir / SHEET, frames, masks, captions, pixel_aspect=media.pixel_aspect))
    return [*paths, result]
