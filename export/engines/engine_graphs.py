"""The graphs that engines are built from: those that passed the gate, cast to the engines' precision."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from export.precision.emulation import emulate
from export.precision.stage_casts import cast_stage
from export.reports import Report
from model_repository.stage_runtime.engine import Engine, load_engine

GRAPHS = "graphs"
FUSER = "aural_fuser"


def graph_path(build: Path, stage: str) -> Path:
    """Tell where a build keeps the graph that a stage's engine is built from, so that it can be built again."""
    return build / GRAPHS / f"{stage}.onnx"


def fused_graph_path(build: Path) -> Path:
    """Tell where the fuser's float32 graph with the fusion as one operator lies, in builds whose fusion is a plugin."""
    return build / GRAPHS / f"{FUSER}-fused.onnx"


def write_engine_graphs(wide: Mapping[str, Path], build: Path, precision: str, report: Report) -> dict[str, Path]:
    """Cast the float32 graphs `wide`, by stage, into the build. Inputs and outputs of each stay as they are."""
    graphs = {name: graph_path(build, name) for name in wide}
    for name, source in wide.items():
        graphs[name].parent.mkdir(parents=True, exist_ok=True)
        if precision == "float32":
            shutil.copy2(source, graphs[name])
            continue
        record = cast_stage(name, source, graphs[name], precision)
        report(f"cast       {name:13} {record.narrow} nodes {precision}, {record.wide} float32, {record.casts} casts")
    return graphs


def load_on_cpu(graph: Path, precision: str, folder: Path) -> Engine:
    """Load a graph of an engine on ONNX Runtime, rounded where the engine rounds.

    Args:
        folder: for the graph that emulates a narrow one; whoever calls removes it.
    """
    runnable = graph if precision == "float32" else emulate(graph, folder / f"{graph.stem}-emulated.onnx")
    return load_engine("onnxruntime", runnable, keep_memory=False)
