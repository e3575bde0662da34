"""The fusion of an engine as plugins: the fuser's graph, and the fused kernels that TensorRT compiles into the engine.

The other way, native operators, needs nothing of this. `with_plugins` writes the graph for one compute capability;
`register_plugins` tells TensorRT of the kernels before it parses that graph. The engine holds them: loading it takes no
Python.
"""

import tempfile
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import torch

from export.engines.fusion_cuts import OPERATOR, FusionSizes, cut_fusions, join_chain, tidy_joints
from export.errors import ExportError
from export.graphs.onnx_graph import _tidy
from export.graphs.operator_functions import inline
from kernels.fusion.reference import FusionForm
from kernels.launching.errors import KernelError
from kernels.plugins.chains import Chain, Compiler, build_chain, compile_plainly
from kernels.plugins.registration import register
from kernels.tuning import blocks_of

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
OLDEST_PARSER = (10, 9)
"""Of TensorRT: earlier ones read no compiled Python plugins from ONNX."""
WAY_OUT = "Native operators work: --fusion native."

Cast = Callable[[Path, Path], object]
"""Reads a float32 graph of standard operators, writes it in another precision; inputs and outputs stay as they are."""


@dataclass(frozen=True)
class PluginUse:
    """A chain of plugins that a graph needs: what an engine's manifest says of it, and what registers it."""

    operator: str
    plugins: tuple[str, ...]
    """Names, in the order in which the kernels run."""
    capability: int
    """Of the cards that the kernels were compiled for."""
    dtype: str
    shared_bytes: tuple[int, ...]
    """Shared memory of each plugin's kernel."""
    count: int
    """How many operators of the graph it stands for."""
    chain: Chain = field(repr=False, compare=False)

    def as_record(self) -> dict[str, Any]:
        """Describe all but the code, for JSON."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "chain"}


def with_plugins(
    source: Path,
    out: Path,
    capability: int,
    *,
    precision: str = "float16",
    large_shared_memory: bool = False,
    gpu: str | None = None,
    cast: Cast | None = None,
    compiler: Compiler = compile_plainly,
) -> tuple[PluginUse, ...]:
    """Write the graph at `source` to `out`, each audio_visual_fusion as a chain of plugin nodes.

    Args:
        source: a stage as `export_stage(..., inlined=False)` wrote it, in float32.
        capability: of the card that builds and runs the engine; the kernels are compiled for it.
        precision: of the kernels, "float16" | "bfloat16" | "float32"; their weights are stored in it.
        large_shared_memory: keep block sizes that need more than 48 KB, which TensorRT may fail to launch.
        gpu: the card's name, which may have block sizes of its own.
        cast: makes the rest of the graph narrow, e.g. `cast_stage` with its stage. None: it stays float32.
        compiler: for tests.
    Returns: the chains, to be registered before the file is parsed.
    Raises: ExportError for a graph without fusions, of open shapes or other types, and where no kernels exist or fit.
    """
    if precision not in DTYPES:
        raise ExportError(f"precision {precision!r}; plugins compute in {', '.join(DTYPES)}.")
    dtype = DTYPES[precision]
    model = ir.load(source)
    try:
        cuts = cut_fusions(model)
        inline(model)
        _tidy(model)
        if cast is not None:
            model = _cast(model, cast)
        chains: dict[FusionSizes, Chain] = {}
        for cut in cuts:
            if cut.sizes not in chains:
                chains[cut.sizes] = _chain(cut.sizes, dtype, capability, gpu, large_shared_memory, compiler)
            join_chain(model, cut, chains[cut.sizes], dtype)
    except ExportError as error:
        raise ExportError(f"{source.name}: {error}") from error
    tidy_joints(model)
    out.parent.mkdir(parents=True, exist_ok=True)
    ir.save(model, out)
    onnx.checker.check_model(str(out), full_check=True)
    return tuple(
        PluginUse(
            OPERATOR,
            tuple(kernel.name for kernel in chain.kernels),
            capability,
            precision,
            tuple(kernel.shared_bytes for kernel in chain.kernels),
            sum(cut.sizes == sizes for cut in cuts),
            chain,
        )
        for sizes, chain in chains.items()
    )


def _cast(model: ir.Model, cast: Cast) -> ir.Model:
    with tempfile.TemporaryDirectory() as folder:
        wide, narrow = Path(folder) / "wide.onnx", Path(folder) / "narrow.onnx"
        ir.save(model, wide)
        cast(wide, narrow)
        cast_model: ir.Model = ir.from_proto(onnx.shape_inference.infer_shapes(onnx.load(narrow)))
        return cast_model


def _chain(
    sizes: FusionSizes, dtype: torch.dtype, capability: int, gpu: str | None, large: bool, compiler: Compiler
) -> Chain:
    try:
        from kernels.plugins.plugin_operators import audio_visual_fusion, fitting_chain
    except ImportError as error:
        raise ExportError(f"plugins are compiled by the triton package ({error}). {WAY_OUT}") from error
    try:
        form = typing.cast("FusionForm", sizes.form)  # the plan refuses others
        fused = partial(audio_visual_fusion, form, sizes.num_pixels, sizes.width, sizes.inner)
        blocks = blocks_of(dtype, gpu or f"sm_{capability}", capability)
        if large:
            return build_chain(fused(blocks), dtype, capability, compiler=compiler)
        return fitting_chain(fused, dtype, capability, blocks, compiler=compiler)
    except KernelError as error:
        raise ExportError(f"{OPERATOR} as plugins for compute capability {capability}: {error} {WAY_OUT}") from error


def register_plugins(uses: Sequence[PluginUse]) -> None:
    """Make TensorRT know the plugins; it must before it parses the graph. Those that it knows stay as they are.

    Raises: ExportError without TensorRT 10.9 or newer, or for a plugin that it refuses.
    """
    try:
        for use in uses:
            # Large kernels are here only where `with_plugins` was asked for them.
            register(use.chain, large_shared_memory=True)
    except KernelError as error:
        raise ExportError(f"{error} {WAY_OUT}") from error
    import tensorrt

    found = str(tensorrt.__version__)
    if tuple(int(part) for part in found.split(".")[:2]) < OLDEST_PARSER:
        oldest = ".".join(map(str, OLDEST_PARSER))
        raise ExportError(f"TensorRT {found} reads no compiled plugins from ONNX; install {oldest} or newer. {WAY_OUT}")
