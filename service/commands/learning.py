"""The commands about weights: `train` makes them, `evaluate` judges them, in process or through the server."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auralsam2_client.errors import AuralServeError, BadInput, ConfigError
from auralsam2_client.new_file import write_new
from service.commands.options import DEFAULT_BUILD
from service.commands.served_predictor import serve_predictor
from service.commands.tables import figures_table
from service.commands.terminal import CLIPS_LEFT_OUT, console, errors, fail, progress_bar

if TYPE_CHECKING:
    from auralsam2.evaluation.predictions import Predictor
    from auralsam2.evaluation.protocol import Protocol
    from auralsam2.evaluation.scoring import LeftOut


@contextmanager
def _network_room() -> Iterator[None]:
    """Errors of the network room as this room's; what is not installed as a ConfigError."""
    try:
        from auralsam2.errors import DataError, NetworkError
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"this command needs the package {error.name!r}, which is not installed. Install what the network needs"
            " with: make setup"
        ) from error
    try:
        yield
    except DataError as error:
        raise BadInput(str(error)) from error
    except NetworkError as error:
        raise ConfigError(str(error)) from error


def train(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for checkpoint, weights and log; a checkpoint in it is resumed.")
    ] = Path("runs/compact"),
    recipe: Annotated[
        str,
        typer.Option(
            help="released | paper | project: losses, optimiser, augmentation and what stays frozen. `compact`, which"
            " starts from nothing pretrained, needs --recipe project; the others then run, and learn little."
        ),
    ] = "released",
    preset: Annotated[str, typer.Option(help="compact | hiera_*: the fuser, on a frozen SAM2 and VGGish")] = "compact",
    image_size: Annotated[int | None, typer.Option(help="1024, 512, 256 or 224 px; default: the preset's own.")] = None,
    num_frames: Annotated[int, typer.Option(help="Clip length T, 1 to 16.")] = 5,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps of the whole schedule.")] = None,
    pretraining: Annotated[
        bool, typer.Option(help="--no-pretraining: `compact` meets shapes and timbres only in pairs.")
    ] = True,
    stop_at: Annotated[int | None, typer.Option(help="Stop after this step of the schedule, to resume later.")] = None,
    clips_per_step: Annotated[int | None, typer.Option(help="Clips whose gradients make one step.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Highest learning rate; it decays polynomially; default: the recipe's.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights, clips and samples.")] = 0,
    audio: Annotated[bool, typer.Option(help="--no-audio trains on silence, to see what sound is worth.")] = True,
    audio_contrast: Annotated[bool, typer.Option(help="--no-audio-contrast trains without AudioCon.")] = True,
    workers: Annotated[int | None, typer.Option(help="Processes that share a step's clips.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of each worker.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder in AVSBench's layout; default: the procedural world.")
    ] = None,
    subset: Annotated[str, typer.Option(help="v1s | v1m | v2, with --data.")] = "v1m",
    checkpoint: Annotated[str | None, typer.Option(help="Released or own weights to start from.")] = None,
    sam2_checkpoint: Annotated[str | None, typer.Option(help="SAM2's weights, for hiera_* presets.")] = None,
    vggish_checkpoint: Annotated[str | None, typer.Option(help="VGGish's weights, for hiera_* presets.")] = None,
) -> None:
    """Train AuralSAM2 by a recipe; after an interruption the same command goes on."""
    given = {
        "steps": steps,
        "clips_per_step": clips_per_step,
        "learning_rate": learning_rate,
        "workers": workers,
        "threads": threads,
        "data": None if data is None else str(data),
        "pretraining_image_steps": None if pretraining else 0,
        "pretraining_sound_steps": None if pretraining else 0,
    }
    try:
        with _network_room(), progress_bar("training") as bar:
            from auralsam2.training.recipes import describe_recipe, settings_for
            from auralsam2.training.run.loop import Progress
            from auralsam2.training.run.trainer import train as run
            from auralsam2.training.start.starting import Weights

            settings = settings_for(
                recipe,
                preset=preset,
                image_size=image_size,
                num_frames=num_frames,
                seed=seed,
                audio=audio,
                audio_contrast=audio_contrast,
                subset=subset,
                **{name: value for name, value in given.items() if value is not None},
            )
            console.print(", ".join(f"{name} {value}" for name, value in describe_recipe(settings).items()))
            if settings.from_scratch and checkpoint is None and recipe != "project":
                console.print(f"{preset} starts from nothing pretrained: --recipe project is made for that.")
            end = settings.steps if stop_at is None else min(stop_at, settings.steps)
            task = bar.add_task("", total=end)
            speaker = _Speaker(end)

            def report(progress: Progress) -> None:
                bar.update(task, completed=progress.step)
                speaker.add(progress)

            start = Weights(checkpoint, sam2_checkpoint, vggish_checkpoint)
            weights = run(settings, out, start, stop_at, report, speaker.pretraining)
    except AuralServeError as error:
        fail(error)
    except OSError as error:
        fail(ConfigError(f"the run cannot be written: {error}. Free space or choose another --out."))
    console.print(f"wrote {weights}; judge it with: auralsam2 evaluate --checkpoint {weights}")


class _Speaker:
    """A line every so many steps: mean losses since the last, and the time that is left."""

    EVERY = 25

    def __init__(self, end: int) -> None:
        self.end = end
        self.sums: dict[str, float] = {}
        self.seconds: list[float] = []

    def pretraining(self, what: str, step: int, steps: int, loss: float) -> None:
        if step % self.EVERY == 0 or step == steps:
            console.print(f"pretraining on {what}, step {step}/{steps}  loss {loss:.3f}")

    def add(self, progress: Any) -> None:
        for name, value in progress.losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.seconds.append(progress.step_s)
        if progress.step % self.EVERY and progress.step != self.end:
            return
        count = len(self.seconds)
        mean_s = sum(self.seconds) / count
        means = "  ".join(f"{name} {value / count:.3f}" for name, value in self.sums.items())
        left_min = (self.end - progress.step) * mean_s / 60
        console.print(f"step {progress.step}/{self.end}  {means}  {mean_s:.2f} s a step, {left_min:.0f} min left")
        self.sums.clear()
        self.seconds.clear()


def evaluate(
    data: Annotated[Path | None, typer.Option(help="Folder of the data set; default: the procedural world.")] = None,
    layout: Annotated[str, typer.Option(help="Layout of --data: avsbench | ref-avs")] = "avsbench",
    split: Annotated[
        list[str] | None, typer.Option(help="single, multi, unseen | v1s, v1m, v2 | seen, unseen, null; default: all.")
    ] = None,
    clips: Annotated[
        int | None, typer.Option(help="Clips of each split; default: 200 procedural ones, all others.")
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="released: figures as the published scripts make them | project")
    ] = "released",
    precision: Annotated[
        str | None, typer.Option(help="bfloat16 | float32, in process; default: the protocol's.")
    ] = None,
    sound: Annotated[str, typer.Option(help="own | other: of another clip | silent")] = "own",
    seed: Annotated[int, typer.Option(help="Seed of the procedural clips.")] = 0,
    preset: Annotated[str, typer.Option(help="Network, in process.")] = "compact",
    image_size: Annotated[int | None, typer.Option(help="px, in process; default: the preset's own.")] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="Weights, in process; default: those shipped with `compact`.")
    ] = None,
    sam2_checkpoint: Annotated[str | None, typer.Option(help="SAM2's own, where the checkpoint lacks it.")] = None,
    through_server: Annotated[
        bool, typer.Option("--through-server", help="Ask a server instead: --url, or one started now on --build.")
    ] = False,
    url: Annotated[str | None, typer.Option(help="host:port of a running server's gRPC.")] = None,
    build: Annotated[Path, typer.Option(help="Build to serve, where no --url is given.")] = DEFAULT_BUILD,
    out: Annotated[Path, typer.Option("--out", "-o", help="The figures as JSON.")] = Path("out/evaluation.json"),
) -> None:
    """Score masks with M_J and M_F (Ref-AVS: S), the three read-outs side by side.

    A clip that is not whole is named and left out; the exit code is then 7. After an interruption the same command goes
    on.
    """
    try:
        if through_server and precision is not None:
            raise BadInput("--precision is for the network in this process; a server computes in that of its build.")
        with _network_room(), ExitStack() as stack:
            from auralsam2.evaluation.journal import FileJournal
            from auralsam2.evaluation.predictions import with_sound
            from auralsam2.evaluation.protocol import protocol_of
            from auralsam2.evaluation.scoring import SplitReport
            from auralsam2.evaluation.scoring import evaluate as score
            from auralsam2.evaluation.splits import open_splits

            layout_read = None if data is None else layout
            chosen = protocol_of(protocol, layout_read, precision)
            splits = {
                name: with_sound(samples, sound)  # type: ignore[arg-type]  # checked there
                for name, samples in open_splits(layout_read, data, split, clips, seed, protocol=chosen).items()
            }
            if through_server:
                predict, model, weights = stack.enter_context(serve_predictor(url, build))
            else:
                predict, model, weights = _in_process(preset, image_size, checkpoint, sam2_checkpoint, chosen)
            computed = "of the build" if through_server else chosen.precision
            # A server's graphs are fixed: what they decide is theirs, and sound is one example a frame.
            fixed = {"precision": computed, "conditioning": computed, "least_examples": None} if through_server else {}
            record = {"model": model, "sound": sound, "protocol": chosen.as_json() | fixed}
            place = None if data is None else str(data.resolve())
            about = record | {
                "weights": weights,
                "image_size": image_size,
                "data": place,
                "layout": layout,
                "seed": seed,
            }
            # What a running server serves, its address does not say, so nothing of it is kept.
            journal = None if weights is None else FileJournal(out, about)
            if journal is not None and journal.num_clips:
                errors.print(f"goes on: {journal.num_clips} clips were scored before ({journal.path})", markup=False)
            reports: list[SplitReport] = []
            for name, samples in splits.items():
                with progress_bar(name) as bar:
                    task = bar.add_task("", total=clips)
                    reports.append(
                        score(
                            name,
                            samples,
                            predict,
                            lambda done, bar=bar, task=task: bar.update(task, completed=done),  # type: ignore[misc]
                            protocol=chosen,
                            journal=journal,
                            on_left_out=_left_out_speaker(),
                        )
                    )
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            figures = record | {"splits": [report.as_json() for report in reports]}
            write_new(out, json.dumps(figures, indent=2) + "\n")
            if journal is not None:
                journal.remove()
        except OSError as error:
            raise ConfigError(f"{out} cannot be written: {error}. Choose another --out.") from error
    except AuralServeError as error:
        fail(error)
    title = f"{model}; sound: {sound}; protocol: {protocol}, precision: {computed}; *: the protocol's read-out"
    console.print(figures_table(reports, title))
    console.print(f"wrote {out}", markup=False)
    num_clips, num_left_out = sum(r.num_clips for r in reports), sum(len(r.left_out) for r in reports)
    if num_left_out:
        said = f"the figures are of {num_clips} clips; {num_left_out} were left out, {out} names each with its fault"
        errors.print(said, markup=False)
        raise typer.Exit(CLIPS_LEFT_OUT)


def _left_out_speaker() -> "Callable[[LeftOut], None]":
    """Names the clips of a split that are left out, the first of many, at once."""
    most, num_said = 20, 0

    def speak(clip: "LeftOut") -> None:
        nonlocal num_said
        num_said += 1
        if num_said <= most:
            errors.print(f"left out: {clip.clip}: {clip.fault}", markup=False)
        elif num_said == most + 1:
            errors.print("left out: more, which the file of figures names", markup=False)

    return speak


def _in_process(
    preset: str,
    image_size: int | None,
    checkpoint: str | None,
    sam2_checkpoint: str | None,
    protocol: "Protocol",
) -> "tuple[Predictor, str, list[Any]]":
    """Predictor, what it is in words, and what tells its weights from others."""
    from auralsam2 import checkpoints
    from auralsam2.evaluation.in_process import network_predictor
    from auralsam2.evaluation.journal import identify
    from auralsam2.evaluation.text import distilroberta
    from auralsam2.model.loading import load_network
    from auralsam2.model.shipped import shipped_weights

    model, weights = load_network(preset, image_size, checkpoint, sam2_checkpoint)
    text = distilroberta() if model.aural_fuser.text_proj is not None else None
    predict = network_predictor(model, protocol.conditioning_frame, text, protocol.precision)
    files = [checkpoints.fetch(name) for name in (checkpoint, sam2_checkpoint) if name is not None]
    shipped = shipped_weights(preset) if checkpoint is None else None
    identity = [identify(path) for path in (*files, shipped) if path is not None]
    return predict, f"{preset}, {weights}, in process, {protocol.precision}", identity
