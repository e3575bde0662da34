"""`auralsam2`: export, serve, segment, demo, doctor, and from `learning` train and evaluate.

`export`, `demo`, `train` and `evaluate` need the network; they load that room when they are called, so that a client
needs no torch.
"""

import os
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auralsam2_client.contract import COMBINATIONS
from auralsam2_client.errors import AuralServeError, ConfigError
from auralsam2_client.version import __version__
from service.commands import learning
from service.commands.terminal import console, errors, fail, progress_bar, quieten

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BUILDS = Path("build")
DEFAULT_BUILD = BUILDS / "compact-256-t5"
EXPORTERS = ("torch", "onnxscript", "onnx_ir", "onnxruntime", "openvino", "nncf")
"""Loggers of what an export calls: they warn of their own business, a person reads what the gate says."""

app = typer.Typer(
    help="Audio-visual segmentation: a clip with sound goes in, masks of the sounding objects come out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
BuildOption = Annotated[Path, typer.Option("--build", help="Build folder, written by `auralsam2 export`.")]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Folder for the results; made if missing.")]


def _say_version(wanted: bool) -> None:
    if wanted:
        console.print(f"auralsam2 {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say it.")] = False,
) -> None:
    """Take what stands before the verb."""


@app.command()
def export(
    preset: Annotated[
        str, typer.Option(help="compact | hiera_tiny | hiera_small | hiera_base_plus | hiera_large")
    ] = "compact",
    image_size: Annotated[int | None, typer.Option(help="1024, 512, 256 or 224 px; default: the preset's own.")] = None,
    num_frames: Annotated[int, typer.Option(help="Clip length T, 1 to 16.")] = 5,
    checkpoint: Annotated[
        str | None, typer.Option(help="File, or hf://yyliu01/AuralSAM2/ckpts/auralsam2_avs_v1m.pth")
    ] = None,
    sam2_checkpoint: Annotated[
        str | None, typer.Option(help="SAM2's own weights, where the checkpoint holds the fuser alone.")
    ] = None,
    conditioning_frame: Annotated[int, typer.Option(help="Frame decoded first: 0 for AVSBench, T/2 for Ref-AVS.")] = 0,
    read_out: Annotated[str, typer.Option(help="first | iou | iou_occlusion")] = "iou_occlusion",
    target: Annotated[
        str,
        typer.Option(
            help="cpu: the embedded server | onnx-gpu, tensorrt: a GPU server | tensorrt-rtx: engines for --capability"
        ),
    ] = "cpu",
    engine: Annotated[str, typer.Option(help="Engine on a CPU: openvino | onnxruntime")] = "openvino",
    precision: Annotated[
        str,
        typer.Option(
            help="auto | float32 | bfloat16 (openvino, engines) | int8 (openvino) | float16 (engines, their default)"
        ),
    ] = "auto",
    fusion: Annotated[str, typer.Option(help="In an engine: native operators | plugin, the fused kernels")] = "native",
    capability: Annotated[
        list[str] | None, typer.Option(help="Card of a tensorrt-rtx engine, e.g. 8.9; several by comma or repeated.")
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Compare float32, float16 and bfloat16; writes precision_report.md.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Build folder; default: build/<name>.")] = None,
) -> None:
    """Turn weights into a model repository that the server loads."""
    try:
        build = _export(
            out,
            preset=preset,
            image_size=image_size,
            num_frames=num_frames,
            checkpoint=checkpoint,
            sam2_checkpoint=sam2_checkpoint,
            conditioning_frame=conditioning_frame,
            read_out=read_out,
            target=target,
            engine=engine,
            precision=precision,
            fusion=fusion,
            capability=capability or [],
            report=report,
        )
    except AuralServeError as error:
        fail(error)
    if target == "tensorrt-rtx":
        console.print(
            f"engines are in {build / 'engines'}, each with its manifest; the graphs that made them in graphs/"
        )
    else:
        console.print(f"serve it with: auralsam2 serve --build {build}")


@app.command()
def engines(build: BuildOption = DEFAULT_BUILD) -> None:
    """Make the engines of a build fit the card of this machine; those that do are kept."""
    try:
        _renew_engines(build)
    except AuralServeError as error:
        fail(error)


def _renew_engines(build: Path) -> None:
    try:
        from export.engines.filling import renew_engines
        from export.errors import ExportError
        from model_repository.stage_runtime.engine import EngineError
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"building engines needs the package {error.name!r}, which is not installed. Install what the network needs"
            " with: make setup"
        ) from error
    try:
        renew_engines(build, console.print)
    except (ExportError, EngineError) as error:
        raise ConfigError(str(error)) from error
    except OSError as error:
        raise ConfigError(
            f"the engines cannot be written: {error}. Free space, or mount the build writable."
        ) from error


def _export(out: Path | None, *, capability: Sequence[str] = (), **settings: object) -> Path:
    """Run the export room. Its errors come back as ConfigError."""
    try:
        from auralsam2.errors import NetworkError
        from export.builds.repository import build_repository
        from export.engines.tensorrt import parse_capability
        from export.errors import ExportError
        from export.settings import ExportSettings
        from model_repository.stage_runtime.engine import EngineError
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"export needs the package {error.name!r}, which is not installed. Install what the network needs with:"
            " make setup"
        ) from error
    try:
        cards = tuple(parse_capability(part) for text in capability for part in text.split(","))
        wanted = ExportSettings(**settings, capabilities=cards)  # type: ignore[arg-type]  # checked in __post_init__
        with quieten(*EXPORTERS):
            return build_repository(wanted, out or BUILDS / wanted.name, console.print)
    except (NetworkError, ExportError, EngineError) as error:
        raise ConfigError(str(error)) from error
    except OSError as error:
        raise ConfigError(f"the build cannot be written: {error}. Free space or choose another --out.") from error


@app.command()
def serve(
    build: Annotated[Path | None, typer.Option(help=f"Build folder; default: {DEFAULT_BUILD}.")] = None,
    host: Annotated[str | None, typer.Option(help="Address for gRPC; default: 127.0.0.1.")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="gRPC, inference and health; default: 8001.")] = None,
    metrics_port: Annotated[int | None, typer.Option(help="Prometheus metrics; default: 8002.")] = None,
    exporter_port: Annotated[
        int | None, typer.Option(help="The supervisor's own metrics (memory, restarts, build); default: nowhere.")
    ] = None,
    server_env: Annotated[Path | None, typer.Option(help="Environment that holds the server; see `doctor`.")] = None,
    tritonserver: Annotated[
        Path | None,
        typer.Option(help="Home of NVIDIA's server, as /opt/tritonserver, which a GPU build needs; else the embedded."),
    ] = None,
    cache_dir: Annotated[
        Path | None, typer.Option(help="Where engines keep what they compiled; default: in the build.")
    ] = None,
) -> None:
    """Start the server and keep it alive, until Ctrl-C or SIGTERM.

    Each setting of the server can also be given as a variable AURALSAM2_<NAME>; an option wins over it.
    """
    from service.server.config import PREFIX, ServerConfig
    from service.server.supervisor import Supervisor

    options = {
        "build": build,
        "host": host,
        "grpc_port": grpc_port,
        "metrics_port": metrics_port,
        "exporter_port": exporter_port,
        "server_env": server_env,
        "tritonserver": tritonserver,
        "cache_dir": cache_dir,
    }
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if build is None and f"{PREFIX}BUILD" not in os.environ:
        given["build"] = DEFAULT_BUILD
    try:
        code = Supervisor(ServerConfig.from_environment(**given)).serve()
    except AuralServeError as error:
        fail(error)
    raise typer.Exit(code)


@app.command()
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
    mask: Annotated[Path | None, typer.Option(help="Picture of the input's size, white on the object.")] = None,
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
    from auralsam2_client.calls.segmenting import segment_media
    from auralsam2_client.media.reader import read_media
    from auralsam2_client.prompt_options import read_prompts
    from service.commands.outputs import write_outputs

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
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        with Client(url, timeout_s=timeout, retries=2) as client, progress_bar("segmenting") as bar:
            task = bar.add_task("", total=len(media.frames))
            segmented = segment_media(
                client,
                media,
                prompts=prompts,
                use_audio=audio,
                combination=combine,
                timeout_s=timeout,
                progress=lambda done, total: bar.update(task, completed=done),
            )
            model = f"{client.model}, {client.image_size} px, clips of {client.num_frames} frames"
        paths = write_outputs(out, media, segmented, model=model, precision={}, overlay=overlay, prompts=prompts)
    except AuralServeError as error:
        fail(error)
    if segmented.num_repeated_windows:
        errors.print(
            f"note: the sound ends before the video: {segmented.num_repeated_windows} of {len(media.frames)} frames"
            " heard the last 0.975 s again.",
            style="yellow",
        )
    for found in segmented.frames:
        share = found.mask.mean()
        made_by = "" if found.mode == "audio" else f"  by {found.mode}"
        console.print(
            f"{found.time_s:7.2f} s  mask {share:6.1%} of the frame  object score {found.object_score:+.2f}{made_by}"
        )
    console.print("wrote " + ", ".join(str(path) for path in paths))


@app.command()
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
            _export(chosen, preset="compact")
        clip, truth = _write_showpiece(out)
        result = run_demo(chosen, clip, out, console.print)
        verdict = _verdict(result.masks, truth)
    except AuralServeError as error:
        fail(error)
    console.print(demo_table(result))
    console.print(result.weights)
    console.print(verdict)
    console.print("look at: " + ", ".join(str(path) for path in result.files))


def _write_showpiece(out: Path) -> "tuple[Path, NDArray[np.bool_]]":
    """The demo's clip as a video file, and which pixels sound at each full second."""
    from auralsam2.data.world.showpiece import FRAMES_PER_SECOND, showpiece
    from auralsam2.network.log_mel import SAMPLE_RATE
    from service.commands.overlay import write_video

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{out} cannot be made: {error}. Choose another --out.") from error
    piece = showpiece()
    pictures = ((picture, 1) for picture in piece.pictures)
    return write_video(out / "demo.mp4", pictures, Fraction(FRAMES_PER_SECOND), piece.sound, SAMPLE_RATE), piece.truth


def _verdict(masks: "NDArray[np.bool_]", truth: "NDArray[np.bool_]") -> str:
    """How well the masks fit what sounds, frame by frame."""
    from auralsam2.evaluation.quality import jaccard

    if masks.shape != truth.shape:
        return f"masks are {list(masks.shape)}, the truth {list(truth.shape)}: not compared."
    values = jaccard(masks, truth)
    each = ", ".join(f"{value:.2f}" for value in values)
    return f"Jaccard index of what lit up with what sounds, second by second: {each}; mean {values.mean():.2f}"


def _is_current(build: Path) -> bool:
    """Whether a build is there, whole, of this version's form and of the weights that are shipped now."""
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


@app.command()
def doctor(build: BuildOption = DEFAULT_BUILD) -> None:
    """Say what is missing on this machine, and the fix."""
    from service.commands.doctor import examine
    from service.commands.tables import doctor_table

    findings = examine(build)
    console.print(doctor_table(findings))
    if any(not finding.ok and not finding.needed_for for finding in findings):
        raise typer.Exit(1)


app.command()(learning.train)
app.command()(learning.evaluate)


def main() -> None:
    """Run the console script."""
    try:
        app()
    except BrokenPipeError:
        # Whoever read our output has gone; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
