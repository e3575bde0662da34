"""The gate of engines: each, on the GPU that is to serve it, against its own graph, and the chain against the network.

Fused attention has been silently wrong on some cards; so an engine enters a repository only after its masks were
compared. What it is compared with is in the build: graphs that passed the gate on a CPU, and the golden clip with the
network's answer.
"""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from auralsam2_client.contract import CLIP, ENSEMBLE
from export.engines.engine_graphs import load_on_cpu
from export.engines.engine_runner import LoadedEngine
from export.gates.parity import MASK_AGREEMENT, OutputParity, check, compare
from export.graphs.chain import run_clip
from export.reports import Report

MASKS = "MASK_LOGITS"


def pass_engine_gate(
    graphs: Mapping[str, Path],
    load: Callable[[str], LoadedEngine],
    golden: Path,
    precision: str,
    report: Report,
) -> dict[str, tuple[OutputParity, ...]]:
    """Compare every engine with its graph on a CPU, then the chain of engines with the network's golden answer.

    Args:
        graphs: by stage, in the order of the chain; as `write_engine_graphs` left them.
        load: makes a stage's engine ready on the GPU; one at a time, so that one stage's memory is enough.
        golden: the build's golden.npz.
    Returns: what was measured, by stage; the last stage holds the chain's masks too.
    Raises: ParityError for the first engine that misses its budget.
    """
    with np.load(golden) as archive:
        clip = {name: archive[name] for name in CLIP}
        wanted_masks = archive[MASKS]
    wire, chain = dict(clip), dict(clip)
    measured: dict[str, tuple[OutputParity, ...]] = {}
    last = list(graphs)[-1]
    for name, graph in graphs.items():
        with tempfile.TemporaryDirectory(dir=golden.parent) as folder:
            truth = load_on_cpu(graph, precision, Path(folder))
            wanted = run_clip(truth, wire)
        with load(name) as engine:
            found = run_clip(engine, wire)
            chain |= run_clip(engine, chain)
        own = tuple(compare(name, output, found[output], value) for output, value in wanted.items())
        for parity in own:
            check(parity, precision, last_stage=name == last, compared="engine vs its graph")
        worst = max(own, key=lambda parity: parity.relative_rms)
        report(f"checked    {name:13} engine against graph: {worst.output} relative RMS {worst.relative_rms:.1e}")
        measured[name], wire = own, wire | wanted
    whole = compare(ENSEMBLE, MASKS, chain[MASKS], wanted_masks)
    check(whole, precision, last_stage=True, compared="engines vs PyTorch")
    report(
        f"checked    chain of engines: masks agree on {whole.mask_agreement:.3%} of the pixels"
        f" (at least {MASK_AGREEMENT[precision]:.1%})"
    )
    measured[last] = (*measured[last], whole)
    return measured
