"""The commands that make what is served: `export` a build, `engines` for the card of this machine."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from auralsam2_client.errors import AuralServeError, ConfigError
from service.commands.options import BUILDS, DEFAULT_BUILD, BuildOption
from service.commands.terminal import fail, quieten, say

EXPORTERS = ("torch", "onnxscript", "onnx_ir", "onnxruntime", "openvino", "nncf")
"""Loggers of what an export calls: they warn of their own business, a person reads what the gate says."""


def export(
    preset: Annotated[
        str, typer.Option(help="compact | hiera_tiny | hiera_small | hiera_base_plus | hiera_large")
    ] = "compact",
    method: Annotated[
        str, typer.Option(help="auralsam2 | gavs | sama_avs: whose weights, and what brings the sound into SAM2.")
    ] = "auralsam2",
    classes: Annotated[
        bool, typer.Option("--classes", help="Name what is in the masks too; on a CPU, of method auralsam2.")
    ] = False,
    class_head: Annotated[
        str | None, typer.Option(help="Class head, trained on the checkpoint's masks; default: the one shipped.")
    ] = None,
    text: Annotated[
        bool,
        typer.Option(
            "--text", help="Take text beside the sound, on a CPU; the checkpoint holds fuser and text encoder."
        ),
    ] = False,
    image_size: Annotated[int | None, typer.Option(help="1024, 512, 256 or 224 px; default: the preset's own.")] = None,
    num_frames: Annotated[int, typer.Option(help="Clip length T, 1 to 16.")] = 5,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            help="File, or hf://yyliu01/AuralSAM2/ckpts/auralsam2_avs_v1m.pth;"
            " default: the weights shipped with the preset, or untrained ones."
        ),
    ] = None,
    sam2_checkpoint: Annotated[
        str | None,
        typer.Option(
            help="SAM2's own weights, where the checkpoint holds the fuser alone; default: those in the checkpoint."
        ),
    ] = None,
    conditioning_frame: Annotated[
        int | None,
        typer.Option(help="Frame decoded first; default: 0 as for AVSBench, with --text T/2 as for Ref-AVS."),
    ] = None,
    read_out: Annotated[str, typer.Option(help="first | iou | iou_occlusion")] = "iou_occlusion",
    target: Annotated[
        str,
        typer.Option(
            help="cpu: the embedded server | cuda: PyTorch on this machine's card | onnx-gpu, tensorrt: a GPU server"
            " | tensorrt-rtx: engines for --capability"
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
        list[str] | None,
        typer.Option(
            help="Card of a tensorrt-rtx engine, e.g. 8.9; several by comma or repeated; default: this machine's card."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="Of target cuda: cuda | cpu, the same stages without a card.")] = "cuda",
    layout: Annotated[
        str, typer.Option(help="Of target cuda: one-process | ensemble, a process for each stage.")
    ] = "one-process",
    report: Annotated[
        bool, typer.Option("--report", help="Compare float32, float16 and bfloat16; writes precision_report.md.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Build folder; default: build/<name>.")] = None,
) -> None:
    """Turn weights into a model repository that the server loads."""
    try:
        build = make_build(
            out,
            preset=preset,
            method=method,
            classes=classes,
            class_head=class_head,
            text=text,
            image_size=image_size,
            num_frames=num_frames,
            checkpoint=checkpoint,
            sam2_checkpoint=sam2_checkpoint,
            conditioning_frame=conditioning_frame,
            read_out=read_out,
            target=target,
            engine=engine,
            precision=precision,
            device=device,
            layout=layout,
            fusion=fusion,
            capability=capability or [],
            report=report,
        )
    except AuralServeError as error:
        fail(error)
    if target == "tensorrt-rtx":
        say(f"engines are in {build / 'engines'}, each with its manifest; the graphs that made them in graphs/")
    else:
        say(f"serve it with: auralsam2 serve --build {build}")


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
        renew_engines(build, say)
    except (ExportError, EngineError) as error:
        raise ConfigError(str(error)) from error
    except OSError as error:
        raise ConfigError(
            f"the engines cannot be written: {error}. Free space, or mount the build writable."
        ) from error


def make_build(out: Path | None, *, capability: Sequence[str] = (), **settings: object) -> Path:
    """Run the export room and return the build folder, `out` or build/<name>.

    Args:
        settings: of `export.settings.ExportSettings`, by name.
    Raises: ConfigError in place of the room's own errors.
    """
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
            return build_repository(wanted, out or BUILDS / wanted.name, say)
    except (NetworkError, ExportError, EngineError) as error:
        raise ConfigError(str(error)) from error
    except OSError as error:
        raise ConfigError(f"the build cannot be written: {error}. Free space or choose another --out.") from error
