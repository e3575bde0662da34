"""The command `demo`: from nothing to masks in one go, on a clip of the project's own, on a card where one is."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auralsam2_client.contract import FROM_PROCEDURAL_WORLD
from auralsam2_client.errors import AuralServeError, ConfigError
from service.cards.checks import lost_cards
from service.cards.demo_target import DemoTarget, target_for_demo
from service.cards.driver import Driver, installed_driver
from service.cards.torch_build import installed_torch
from service.commands.building import make_build
from service.commands.options import BUILDS, DEFAULT_BUILD, OutOption
from service.commands.terminal import console, fail, network_room, say

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from service.commands.demo import DemoResult


def demo(
    out: OutOption = Path("out"),
    build: Annotated[Path | None, typer.Option(help="A build to use; default: `compact`, exported now if new.")] = None,
) -> None:
    """Export `compact`, serve it, segment a clip that the project makes, show where the time goes, stop."""
    from service.commands.demo import run_demo
    from service.commands.tables import demo_table

    try:
        with network_room():
            driver = installed_driver()
            place = target_for_demo(driver.look(), installed_torch()) if build is None else DemoTarget("cpu", "")
            clip, truth = _write_showpiece(out)
            place, result = run_where_it_can(
                place, driver, lambda target: run_demo(build or _build_for(target), clip, out, _say)
            )
            verdict = _judge(result.masks, truth)
    except AuralServeError as error:
        fail(error)
    console.print(demo_table(result))
    _say(place.closing(result.precision, result.frames_per_second))
    say(result.weights)
    say(verdict)
    say("look at: " + ", ".join(str(path) for path in result.files))


def run_where_it_can(
    place: DemoTarget, driver: Driver, run: "Callable[[str], DemoResult]"
) -> "tuple[DemoTarget, DemoResult]":
    """Run the demo on the card if it is to be used; where it is refused or disappears, say so, and run on the CPU.

    Args:
        run: exports for a target, serves and measures.
    Returns: where it ran in the end, and what it measured.
    """
    _say(place.opening)
    try:
        return place, run(place.target)
    except ConfigError as error:
        if place.target == "cpu":
            raise
        place = place.fall_back(error)
    except AuralServeError:
        lost = lost_cards(place.cards, driver.look())
        if not lost:
            raise
        place = place.fall_back(lost[0])
    _say(place.opening)
    return place, run(place.target)


def _say(line: str) -> None:
    """Say what there is to say: of a build that a person named, nothing is known of the place."""
    if line:
        say(line)


def _build_for(target: str) -> Path:
    """The demo's build for a target, exported now if it is new."""
    if target == "cpu":
        return DEFAULT_BUILD if _is_current(DEFAULT_BUILD) else make_build(DEFAULT_BUILD, preset="compact")
    folder = BUILDS / f"{DEFAULT_BUILD.name}-{target}"
    return folder if _is_current(folder) else make_build(folder, preset="compact", target=target)


def _write_showpiece(out: Path) -> "tuple[Path, NDArray[np.bool_]]":
    """Write the demo's clip as a video file; return its path, and which pixels sound at each full second."""
    from auralsam2.data.world.showpiece import FRAMES_PER_SECOND, showpiece
    from auralsam2.network.log_mel import SAMPLE_RATE
    from service.results.video import write_video

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{out} cannot be made: {error}. Choose another --out.") from error
    piece = showpiece()
    pictures = ((picture, 1) for picture in piece.pictures)
    rate, made_by = Fraction(FRAMES_PER_SECOND), FROM_PROCEDURAL_WORLD
    path = write_video(out / "demo.mp4", pictures, rate, piece.sound, SAMPLE_RATE, comment=made_by)
    return path, piece.truth


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
