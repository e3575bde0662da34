"""What tests of engines share: a machine with a card, builders that are stand-ins, and graphs small enough to see."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from export.engines import engine_runner, filling
from export.precision.emulation import emulate
from tests.export.engines.engine_stand_ins import ADA, FakeBuilder, FakeDriver, fake_package, fake_tensorrt, write_graph

if TYPE_CHECKING:
    from export.engines.fusion_plugins import PluginUse


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    """A machine with a card and TensorRT's runtime."""
    driver = FakeDriver()
    monkeypatch.setattr(engine_runner, "load_driver", lambda: driver)
    monkeypatch.setattr(filling, "load_runtime", lambda flavour: fake_package())
    return driver


@pytest.fixture
def engine_of(tmp_path: Path) -> Callable[[Path], bytes]:
    def make(graph: Path) -> bytes:
        return emulate(graph, tmp_path / "emulated" / graph.name).read_bytes()

    return make


@pytest.fixture
def builder(engine_of: Callable[[Path], bytes]) -> FakeBuilder:
    return fake_tensorrt(ADA, engine_of=engine_of)


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """Y = X W in float32, X [2, 8]."""
    return write_graph(tmp_path / "graph.onnx")


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Exported with the fusion kept."""
    # Only where a test asks for it: the kernels need Triton.
    import onnx_ir as ir
    import torch

    from export.graphs.onnx_graph import to_onnx
    from tests.export.engines.fusion_toys import KERNELS, toy, toy_inputs

    folder = tmp_path_factory.mktemp("toys")
    for form in KERNELS:
        arguments = tuple(torch.from_numpy(value) for value in toy_inputs(form).values())
        ir.save(to_onnx(toy(form), arguments, ["FRAMES", "AUDIO"], ["OUT", "SOUND"]), folder / f"{form}.onnx")
    return {form: folder / f"{form}.onnx" for form in KERNELS}


@pytest.fixture(scope="session")
def fuser(with_functions: dict[str, Path]) -> Path:
    return with_functions["aural_fuser"]


@pytest.fixture
def write_plugins(toys: dict[str, Path], tmp_path: Path) -> Callable[..., tuple[Path, "PluginUse"]]:
    """Write the graph of a toy with plugins, for kernels that are not compiled."""
    from export.engines.fusion_plugins import with_plugins
    from tests.export.engines.fusion_toys import CAPABILITY
    from tests.kernels.plugins.plugin_stand_ins import pretend_to_compile

    def write(form: str, precision: str = "float32", **options: Any) -> tuple[Path, "PluginUse"]:
        out = tmp_path / f"{form}-{precision}.onnx"
        options = {"compiler": pretend_to_compile} | options
        (use,) = with_plugins(toys[form], out, CAPABILITY, precision=precision, **options)
        return out, use

    return write
