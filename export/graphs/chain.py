"""A clip through graphs in this process, one after the other: what gates, reports and benches hold against the service.

Needs no torch, so that what a bench measures of a process is the graphs' own.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from auralsam2_client.contract import ADAPTERS, FRAMES
from model_repository.stage_runtime.engine import Array, Engine


def split_calls(engine: Engine, wire: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
    """Split a clip into the inputs of each call of a graph: one for a whole clip, T for a graph of one frame.

    Args:
        wire: the tensors of the clip by name, the leading axis that of the clip; those that the graph takes are read.
    Yields: views, cut along the leading axis as the graph's shapes ask for.
    """
    first, shape = next(iter(engine.input_shapes.items()))
    for call in range(len(wire[first]) // shape[0]):
        yield {name: wire[name][call * shape[0] : (call + 1) * shape[0]] for name, shape in engine.input_shapes.items()}


def run_clip(engine: Engine, wire: Mapping[str, Array]) -> dict[str, Array]:
    """Run a clip through one graph, in as many calls as it takes.

    Args:
        wire: as for `split_calls`.
    Returns: the graph's outputs for the whole clip, by name, newly allocated.
    """
    answers = [{name: _own(value) for name, value in engine(inputs).items()} for inputs in split_calls(engine, wire)]
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}


def _own(value: Any) -> Array:
    """Copy an answer, whose memory the engine's next call writes: an array of numpy, or a tensor of some device."""
    return np.array(value if isinstance(value, np.ndarray) else value.cpu().numpy())


def run_chain(engines: Mapping[str, Engine], clip: Mapping[str, Array]) -> dict[str, Array]:
    """Run a clip through graphs in their order, each given what is there by then.

    Args:
        clip: FRAMES uint8 [T, S, S, 3] and AUDIO float32 [T, 15600, 2].
    Returns: both, and the outputs of every graph.
    """
    wire = dict(clip)
    if any(ADAPTERS in engine.input_shapes for engine in engines.values()):
        wire[ADAPTERS] = np.ones(len(clip[FRAMES]), np.float32)
    for engine in engines.values():
        wire |= run_clip(engine, wire)
    return wire
