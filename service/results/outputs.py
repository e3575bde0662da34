"""What `segment` leaves in its folder: overlay video with the sound, contact sheet, PNG masks, result.json."""

from collections.abc import Mapping
from pathlib import Path

from auralsam2_client.calls.segmenting import SegmentedMedia
from auralsam2_client.masks import write_results
from auralsam2_client.media.reader import Media
from auralsam2_client.prompts import Prompts
from auralsam2_client.run_files import OVERLAY, SHEET
from service.results.out_folder import results_into
from service.results.overlay import caption_of, contact_sheet, write_overlay
from service.results.prompt_drawing import draw_prompts


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
    frame, if it is named.

    Raises: BadInput when a file cannot be written, ConfigError when this machine cannot encode H.264. Nothing is
        written or removed then.
    """
    with results_into(out_dir) as folder:
        beside = _draw(folder, media, segmented, prompts) if overlay else []
        result = write_results(
            folder,
            segmented.frames,
            source=media.source,
            fps=media.fps,
            model=model,
            precision=precision,
            wire=wire,
            files=media.files,
            facts={**media.facts(), "notes": [*media.notes, *segmented.notes]},
            beside=[path.name for path in beside],
        )
    return [out_dir / path.name for path in (*beside, result)]


def _draw(folder: Path, media: Media, segmented: SegmentedMedia, prompts: Prompts | None) -> list[Path]:
    masks, frames = [frame.mask for frame in segmented.frames], list(media.frames)
    if prompts is not None and prompts.frame is not None:
        frames[prompts.frame] = draw_prompts(frames[prompts.frame], prompts)
    captions = [caption_of(frame.time_s, frame.object_score) for frame in segmented.frames]
    start_s = float(media.times_s[0])
    return [
        write_overlay(
            folder / OVERLAY,
            frames,
            masks,
            captions,
            media.fps,
            media.sound,
            sound_start_s=start_s,
            pixel_aspect=media.pixel_aspect,
        ),
        contact_sheet(folder / SHEET, frames, masks, captions, pixel_aspect=media.pixel_aspect),
    ]
