"""The command `demo`: from nothing to masks in one go, on a clip that the project makes."""

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auralsam2_client.errors import AuralServeError, ConfigError
from service.commands.building import make_build
from service.commands.options import DEFAULT_BUILD, OutOption
from service.commands.terminal import console, fail, say

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def demo(
    out: OutOption = Path("out"),
    build: Annotated[Path | None, typer.Option(help="A build to use; default: `compact`, exported now if new.")] = None,
) -> None:
    """Export `compact`, serve it, segment a clip that the project makes, show where the time goes, stop."""
    from service.commands.demo import run_demo
    from service.commands.tables import demo_table

    try:
        chosen = build or DEFAULT_BUILD
        if build is None and not _is_current(chosen):
            make_build(chosen, preset="compact")
        clip, truth = _write_showpiece(out)
        result = run_demo(chosen, clip, out, say)
        verdict = _judge(result.masks, truth)
    except AuralServeError as error:
        fail(error)
    console.print(demo_table(result))
    say(result.weights)
    say(verdict)
    say("look at: " + ", ".join(str(path) for path in result.files))


def _write_showpiece(out: Path) -> "tuple[Path, NDArray[np.bool_]]":
    """Write the demo's clip as a video file; return its path, and which pixels sound at each full second."""
    from auralsam2.data.world.showpiece import FRAMES_PER_SECOND, showpiece
    from auralsam2.network.log_mel import SAMPLE_RATE
    from service.results.overlay import write_video

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{out} cannot be made: {error}. Choose another --out.") from error
    piece = showpiece()
    pictures = ((picture, 1) for picture in piece.pictures)
    return write_video(out / "demo.mp4", pictures, Fraction(FRAMES_PER_SECOND), piece.sound, SAMPLE_RATE), piece.truth


def _judge(masks: "NDArray[np.bool_]", truth: "NDArray[np.bool_]") -> str:
    """Say how well the masks fit what sounds, frame by frame."""
    from auralsam2.evaluation.quality import jaccard

    if masks.shape != truth.shape:
        return f"masks are {list(masks.shape)}, the truth {list(truth.shape)}: not compared."
    values = jaccard(masks, truth)
    each = ", ".join(f"{value:.2f}" for value in values)
    return f"Jaccard index of what lit up with what sounds, second by second: {each}; mean {values.mean():.2f}"


def _is_current(build: Path) -> bool:
    """Tell whether a build is there, whole, of this version's form and of the weights that are shipped now."""
    from export.settings import ExportSettings
    from service.builds.golden import Golden
    from service.builds.manifest import read_manifest, verify_files

    try:
        manifest = read_manifest(build)
        verify_files(build, manifest)
        Golden.load(build)
    except ConfigError:
        return False
    return manifest.weights == ExportSettings("compact").weights_sentence
