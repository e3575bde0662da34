"""`auralsam2 train`: makes weights; stopped at any moment, the same command goes on."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from auralsam2_client.errors import AuralServeError, BadInput, ConfigError
from service.commands.options import repeat_command
from service.commands.terminal import console, end_interrupted, fail, network_room, progress_bar

if TYPE_CHECKING:
    from auralsam2.training.run.loop import Progress
    from auralsam2.training.settings import TrainSettings


def train(
    context: typer.Context,
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
    method: Annotated[
        str, typer.Option(help="auralsam2 | gavs | sama_avs: what brings the sound into SAM2.")
    ] = "auralsam2",
    preset: Annotated[str, typer.Option(help="compact | hiera_*: the fuser, on a frozen SAM2 and VGGish")] = "compact",
    image_size: Annotated[int | None, typer.Option(help="1024, 512, 256 or 224 px; default: the preset's own.")] = None,
    num_frames: Annotated[int, typer.Option(help="Clip length T, 1 to 16.")] = 5,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps of the whole schedule; default: 2400.")] = None,
    pretraining: Annotated[
        bool, typer.Option(help="--no-pretraining: `compact` meets shapes and timbres only in pairs.")
    ] = True,
    pretraining_steps: Annotated[
        int | None,
        typer.Option(
            help="Steps before the first, in which `compact` learns shapes and timbres apart; default: 950, and with"
            " fewer than 2400 --steps in proportion."
        ),
    ] = None,
    stop_at: Annotated[
        int | None, typer.Option(help="Stop after this step of the schedule, to resume later; default: its end.")
    ] = None,
    clips_per_step: Annotated[int | None, typer.Option(help="Clips whose gradients make one step; default: 2.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Highest learning rate; it decays polynomially; default: the recipe's.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights, clips and samples.")] = 0,
    audio: Annotated[bool, typer.Option(help="--no-audio trains on silence, to see what sound is worth.")] = True,
    audio_contrast: Annotated[bool, typer.Option(help="--no-audio-contrast trains without AudioCon.")] = True,
    workers: Annotated[
        int | None, typer.Option(help="Processes that share a step's clips; default: 2 on a CPU, 1 on a card.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of each worker; default: 1.")] = None,
    device: Annotated[
        str,
        typer.Option(
            help="cpu | cuda | auto: cuda where PyTorch sees a card. A run goes on on the device that it began on."
        ),
    ] = "cpu",
    precision: Annotated[
        str | None, typer.Option(help="bfloat16 (autocast) | float32; default: bfloat16 on cuda, float32 on cpu.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder in AVSBench's layout; default: the procedural world.")
    ] = None,
    subset: Annotated[str, typer.Option(help="v1s | v1m | v2, with --data.")] = "v1m",
    checkpoint: Annotated[
        str | None, typer.Option(help="Released or own weights to start from; default: none.")
    ] = None,
    sam2_checkpoint: Annotated[
        str | None, typer.Option(help="SAM2's weights, for hiera_* presets; default: none.")
    ] = None,
    vggish_checkpoint: Annotated[
        str | None, typer.Option(help="VGGish's weights, for hiera_* presets; default: none.")
    ] = None,
) -> None:
    """Train AuralSAM2 by a recipe.

    Ctrl-C saves a checkpoint at once, and says where it is; then the exit code is 130. The same command goes on, also
    after a kill, in the pretraining too.
    """
    given = {
        "steps": steps,
        "clips_per_step": clips_per_step,
        "learning_rate": learning_rate,
        "workers": workers,
        "threads": threads,
        "data": None if data is None else str(data),
        "precision": precision,
    }
    kept = "what was saved before, if anything, is whole"
    stop = _Stop()
    try:
        if not pretraining and pretraining_steps:
            raise BadInput(f"--no-pretraining and --pretraining-steps {pretraining_steps}; give one of the two.")
        with network_room(), progress_bar("training") as bar, stop.heard():
            from auralsam2.computing import choose_device, describe_device, open_device
            from auralsam2.training.recipes import describe_recipe, settings_for
            from auralsam2.training.run.interruption import TrainingInterrupted
            from auralsam2.training.run.trainer import train as run
            from auralsam2.training.run_folder import CHECKPOINT
            from auralsam2.training.settings import share_pretraining
            from auralsam2.training.start.starting import Weights, pretrains

            total = pretraining_steps if pretraining else 0
            place = choose_device(device)
            settings = settings_for(
                recipe,
                method=method,
                preset=preset,
                image_size=image_size,
                num_frames=num_frames,
                seed=seed,
                audio=audio,
                audio_contrast=audio_contrast,
                subset=subset,
                device=place,
                **({} if total is None else share_pretraining(total)),
                **{name: value for name, value in given.items() if value is not None},
            )
            console.print(", ".join(f"{name} {value}" for name, value in describe_recipe(settings).items()))
            if settings.from_scratch and checkpoint is None and recipe != "project":
                console.print(f"{preset} starts from nothing pretrained: --recipe project is made for that.")
            start = Weights(checkpoint, sam2_checkpoint, vggish_checkpoint)
            console.print(f"device {describe_device(open_device(place))}, precision {settings.forward_precision}")
            checkpoint_file = out / CHECKPOINT
            if pretrains(settings, start) and not checkpoint_file.exists():
                console.print(_pretraining_line(settings, total is None))
            end = settings.steps if stop_at is None else min(stop_at, settings.steps)
            task = bar.add_task("", total=end)
            speaker = _Speaker(end)

            def report(progress: "Progress") -> None:
                bar.update(task, completed=progress.step)
                speaker.add(progress)

            def on_found(done: str) -> None:
                console.print(f"goes on from {done} ({checkpoint_file})")

            try:
                weights = run(settings, out, start, stop_at, report, speaker.pretraining, on_found=on_found)
            except TrainingInterrupted as halt:
                kept = f"{halt.done} is saved in {halt.checkpoint}"
                raise
    except AuralServeError as error:
        fail(error)
    except OSError as error:
        fail(ConfigError(f"the run cannot be written: {error}. Free space or choose another --out."))
    except KeyboardInterrupt:
        end_interrupted(kept, repeat_command(context), 128 + stop.signal)
    console.print(f"wrote {weights}; judge it with: auralsam2 evaluate --checkpoint {weights}")


def _pretraining_line(settings: "TrainSettings", in_proportion: bool) -> str:
    """What comes before the first step, and why so much."""
    from auralsam2.training.settings import FULL_STEPS

    image_steps, sound_steps = settings.pretraining_steps
    line = f"pretraining first, in steps: sounds {sound_steps}, pictures {image_steps}"
    if in_proportion and settings.steps < FULL_STEPS:
        line += f" (in proportion to --steps {settings.steps}; --pretraining-steps decides for itself)"
    return line


class _Stop:
    """Which signal ends the run: SIGTERM, which a container or a batch system sends, is heard as Ctrl-C is."""

    def __init__(self) -> None:
        self.signal = signal.SIGINT

    @contextmanager
    def heard(self) -> Iterator[None]:
        before = signal.signal(signal.SIGTERM, self._on_signal)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        raise KeyboardInterrupt


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

    def add(self, progress: "Progress") -> None:
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
