"""The gate of the class head's graph: read back from disk, on the golden clip's masks, against the network's own."""

from collections.abc import Mapping

import torch

from auralsam2.stages.clip_stages import Stage
from auralsam2_client.contract import CLASS_MAP
from export.errors import ParityError
from export.gates.parity import OutputParity, check, compare, run_network
from export.graphs.chain import run_clip
from export.reports import Report
from model_repository.stage_runtime.engine import Array, Engine

LEAST_AGREEMENT = {"float32": 0.999, "bfloat16": 0.98, "int8": 0.98}
"""Share of pixels with the same class, by precision."""


def pass_class_gate(
    stage: Stage, engine: Engine, wire: Mapping[str, Array], precision: str, report: Report
) -> list[OutputParity]:
    """Compare the graph with PyTorch on what the network made of a clip.

    Args:
        wire: the tensors that the head reads, among others.
    Raises: ParityError when scores or labels differ by more than the budget.
    """
    given = {spec.name: wire[spec.name] for spec in stage.inputs}
    wanted = run_network(stage, {name: torch.from_numpy(value) for name, value in given.items()})
    found = run_clip(engine, given)
    measured = [compare(stage.name, name, found[name], value.numpy()) for name, value in wanted.items()]
    agreement = float((found[CLASS_MAP] == wanted[CLASS_MAP].numpy()).mean())
    for parity in measured:
        if parity.output != CLASS_MAP:
            check(parity, precision, last_stage=True)
    if agreement < LEAST_AGREEMENT[precision]:
        raise ParityError(
            f"{stage.name}: {CLASS_MAP} agrees on {agreement:.4%} of the pixels, at least"
            f" {LEAST_AGREEMENT[precision]:.1%} asked for ({precision}). It was not put into the repository."
        )
    report(f"checked    {stage.name:13} labels agree on {agreement:.3%} of the pixels")
    return measured
