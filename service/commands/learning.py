"""`auralsam2 evaluate`: how good weights are, in this process or through the server."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auralsam2_client.errors import AuralServeError, BadInput, ConfigError
from auralsam2_client.new_file import write_new
from service.commands.options import DEFAULT_BUILD, repeat_command
from service.commands.served_predictor import serve_predictor
from service.commands.tables import figures_table
from service.commands.terminal import (
    CLIPS_LEFT_OUT,
    console,
    end_interrupted,
    errors,
    fail,
    network_room,
    progress_bar,
)

if TYPE_CHECKING:
    from auralsam2.computing import Device
    from auralsam2.evaluation.predictions import Predictor
    from auralsam2.evaluation.protocol import Protocol
    from auralsam2.evaluation.scoring import LeftOut


def evaluate(
    context: typer.Context,
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
    device: Annotated[
        str, typer.Option(help="cpu | cuda | auto: cuda where PyTorch sees a card; of the network in this process.")
    ] = "cpu",
    sound: Annotated[str, typer.Option(help="own | other: of another clip | silent")] = "own",
    seed: Annotated[int, typer.Option(help="Seed of the procedural clips.")] = 0,
    preset: Annotated[str, typer.Option(help="Network, in process.")] = "compact",
    method: Annotated[
        str, typer.Option(help="auralsam2 | gavs | sama_avs: whose shipped weights; a --checkpoint tells its own.")
    ] = "auralsam2",
    image_size: Annotated[int | None, typer.Option(help="px, in process; default: the preset's own.")] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="Weights, in process; default: those shipped with `compact`.")
    ] = None,
    sam2_checkpoint: Annotated[
        str | None, typer.Option(help="SAM2's own, where the checkpoint lacks it; default: the checkpoint's.")
    ] = None,
    through_server: Annotated[
        bool, typer.Option("--through-server", help="Ask a server instead: --url, or one started now on --build.")
    ] = False,
    url: Annotated[
        str | None, typer.Option(help="host:port of a running server's gRPC; default: one is started.")
    ] = None,
    build: Annotated[Path, typer.Option(help="Build to serve, where no --url is given.")] = DEFAULT_BUILD,
    out: Annotated[Path, typer.Option("--out", "-o", help="The figures as JSON.")] = Path("out/evaluation.json"),
) -> None:
    """Score masks with M_J and M_F (Ref-AVS: S), the three read-outs side by side.

    A clip that is not whole is named and left out; the exit code is then 7. After an interruption the same command goes
    on.
    """
    kept = "no figures were kept"
    try:
        for name, given in (
            ("precision", precision is not None),
            ("device", device != "cpu"),
            ("method", method != "auralsam2"),
            ("checkpoint", checkpoint is not None),
        ):
            if through_server and given:
                raise BadInput(f"--{name} is for the network in this process; a server answers as its build says.")
        with network_room(), ExitStack() as stack:
            from auralsam2.computing import choose_device
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
                place = choose_device(device)
                predict, model, weights = _in_process(
                    preset, method, image_size, checkpoint, sam2_checkpoint, chosen, place
                )
            computed = "of the build" if through_server else chosen.precision
            # A server's graphs are fixed: what they decide is theirs, and sound is one example a frame.
            fixed = {"precision": computed, "conditioning": computed, "least_examples": None} if through_server else {}
            record = {
                "model": model,
                "device": "of the build" if through_server else place,
                "sound": sound,
                "protocol": chosen.as_json() | fixed,
            }
            about = record | {
                "weights": weights,
                "image_size": image_size,
                "data": None if data is None else str(data.resolve()),
                "layout": layout,
                "seed": seed,
            }
            # What a running server serves, its address does not say, so nothing of it is kept.
            journal = None if weights is None else FileJournal(out, about)
            if journal is not None:
                kept = f"the clips scored so far are kept in {journal.path}"
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
    except KeyboardInterrupt:
        end_interrupted(kept, repeat_command(context))
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
    method: str,
    image_size: int | None,
    checkpoint: str | None,
    sam2_checkpoint: str | None,
    protocol: "Protocol",
    device: "Device",
) -> "tuple[Predictor, str, list[Any]]":
    """Predictor, what it is in words, and what tells its weights from others."""
    from auralsam2 import checkpoints
    from auralsam2.computing import describe_device, open_device
    from auralsam2.evaluation.in_process import network_predictor
    from auralsam2.evaluation.journal import identify
    from auralsam2.evaluation.text import text_encoder
    from auralsam2.model.loading import load_network
    from auralsam2.model.shipped import shipped_weights
    from auralsam2_client.contract import AURALSAM2

    model, weights = load_network(preset, image_size, checkpoint, sam2_checkpoint, method)
    text = None
    if checkpoint is not None and model.reads_text:
        text = text_encoder(model.preset.text_width, checkpoint, device)
    predict = network_predictor(model, protocol.conditioning_frame, text, protocol.precision, device)
    files = [checkpoints.fetch(name) for name in (checkpoint, sam2_checkpoint) if name is not None]
    # Adapters lie on the SAM2 of AuralSAM2's own file.
    shipped = [shipped_weights(preset, each) for each in sorted({method, AURALSAM2})] if checkpoint is None else []
    identity = [identify(path) for path in (*files, *shipped) if path is not None]
    on_card = "" if device == "cpu" else f" on {describe_device(open_device(device))}"
    named = preset if model.method == AURALSAM2 else f"{preset} {model.method}"
    return predict, f"{named}, {weights}, in process{on_card}, {protocol.precision}", identity
