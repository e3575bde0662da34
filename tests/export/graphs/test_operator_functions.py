"""Calls of fused operators become nodes with bodies; the file runs in both engines and agrees with PyTorch."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.checker
import onnx_ir as ir
import pytest
import torch
import torch.nn.functional as F
from onnx_ir import Model
from torch import Tensor, nn

from export.errors import ExportError
from export.graphs.onnx_graph import OPSET, _tidy, to_onnx
from export.graphs.operator_functions import FusedOperator, add_functions, inline
from model_repository.stage_runtime.engine import Engine, EngineError, load_engine

NAMESPACE = "test_operator_functions"


def attend_in_torch(query: Tensor, key: Tensor, value: Tensor, num_negated: int) -> Tensor:
    key = torch.cat([-key[:, :num_negated], key[:, num_negated:]], dim=1)
    return F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None])[:, 0]


@torch.library.custom_op(f"{NAMESPACE}::attend", mutates_args=())
def attend(query: Tensor, key: Tensor, value: Tensor, num_negated: int) -> Tensor:
    return attend_in_torch(query, key, value, num_negated)


@attend.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, num_negated: int) -> Tensor:
    return query.new_empty(*query.shape[:2], value.shape[2])


def project_in_torch(
    x: Tensor,
    bias: Tensor | None,
    weight: Tensor,
    scale: float = 0.5,
    activation: str = "gelu",
    reverse: bool = False,
    shift: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    y = F.linear(x, weight, bias) * scale
    y = y.flip(-1) if reverse else y
    y = y if shift is None else y + shift
    return (F.gelu(y) if activation == "gelu" else y), y.sum(-1)


project = torch.library.custom_op(f"{NAMESPACE}::project", project_in_torch, mutates_args=())


@project.register_fake
def _(
    x: Tensor,
    bias: Tensor | None,
    weight: Tensor,
    scale: float = 0.5,
    activation: str = "gelu",
    reverse: bool = False,
    shift: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    y = x.new_empty(*x.shape[:-1], weight.shape[0])
    return y, y.new_empty(y.shape[:-1])


ATTEND = FusedOperator(attend._opoverload, "Attend", attend_in_torch)
PROJECT = FusedOperator(project._opoverload, "Project", project_in_torch)
OPERATORS = (ATTEND, PROJECT)


class Toy(nn.Module):
    """Attends twice at equal shapes and once at others; projects with and without what is optional."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(8, 8)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        once = attend(query, key, value, 2)
        twice = attend(once + query, 2 * key, value, 2)
        longer = attend(twice, torch.cat([key, query], 1), torch.cat([value, query], 1), 2)
        other = attend(longer, 2 * key, value, 3)
        hidden, first = project(other, self.linear.bias, self.linear.weight)
        out, second = project(hidden, None, self.linear.weight, 0.25, "none", reverse=True, shift=self.linear.bias)
        return out, first + second


INPUTS = ("QUERY", "KEY", "VALUE")
OUTPUTS = ("OUT", "SUM")


@pytest.fixture(scope="module")
def arguments() -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(2, length, 8, generator=generator) for length in (4, 6, 6))


def export_module(
    module: nn.Module, arguments: tuple[Tensor, ...], inputs: Sequence[str], outputs: Sequence[str]
) -> Model:
    return to_onnx(module.eval().requires_grad_(False), arguments, inputs, outputs, OPERATORS)


def export_toy(arguments: tuple[Tensor, ...]) -> Model:
    model = export_module(Toy(), arguments, INPUTS, OUTPUTS)
    add_functions(model, OPERATORS, export_module)
    return model


def save(model: Model, path: Path) -> Path:
    ir.save(model, path)
    return path


def write_both_forms(arguments: tuple[Tensor, ...], folder: Path) -> dict[str, Path]:
    model = export_toy(arguments)
    fused = save(model, folder / "fused.onnx")
    inline(model)
    _tidy(model)
    return {"fused": fused, "inlined": save(model, folder / "inlined.onnx")}


@pytest.fixture(scope="module")
def forms(arguments: tuple[Tensor, ...], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_both_forms(arguments, tmp_path_factory.mktemp("forms"))


@pytest.fixture
def fused(forms: dict[str, Path]) -> Path:
    return forms["fused"]


@pytest.fixture
def inlined(forms: dict[str, Path]) -> Path:
    return forms["inlined"]


def assert_agrees(engine: Engine, arguments: tuple[Tensor, ...]) -> None:
    found = engine(dict(zip(INPUTS, (argument.numpy() for argument in arguments), strict=True)))
    with torch.no_grad():
        wanted = Toy()(*arguments)
    for name, tensor in zip(OUTPUTS, wanted, strict=True):
        np.testing.assert_allclose(found[name], tensor.numpy(), rtol=0, atol=2e-6)


def test_each_call_is_one_node_with_its_attributes(fused: Path) -> None:
    nodes = [node for node in onnx.load(fused).graph.node if node.domain]
    assert {node.domain for node in nodes} == {NAMESPACE}
    found = [
        (node.op_type, node.overload, {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute})
        for node in nodes
    ]
    assert found == [
        ("Attend", "", {"num_negated": 2}),
        ("Attend", "", {"num_negated": 2}),
        ("Attend", "2", {"num_negated": 2}),
        ("Attend", "3", {"num_negated": 3}),
        ("Project", "", {"scale": 0.5, "activation": b"gelu", "reverse": 0}),
        ("Project", "2", {"scale": 0.25, "activation": b"none", "reverse": 1}),
    ]
    assert [list(node.input).index("") for node in nodes if "" in node.input] == [1]


def test_bodies_are_functions_of_standard_operators_of_our_opset(fused: Path) -> None:
    functions = onnx.load(fused).functions
    assert [(f.domain, f.name, f.overload) for f in functions] == [
        (NAMESPACE, name, overload)
        for name, overload in [("Attend", ""), ("Attend", "2"), ("Attend", "3"), ("Project", ""), ("Project", "2")]
    ]
    for function in functions:
        assert [(entry.domain, entry.version) for entry in function.opset_import] == [("", OPSET)]
        assert {node.domain for node in function.node} == {""}
        assert {node.op_type for node in function.node} & {"Shape", "Size", "NonZero", "If", "Loop"} == set()
    assert list(functions[0].input) == ["query", "key", "value"]
    assert list(functions[0].attribute) == ["num_negated"]
    assert list(functions[4].input) == ["x", "bias", "weight", "shift"]
    assert list(functions[4].output) == ["output_0", "output_1"]


@pytest.mark.parametrize("form", ["fused", "inlined"])
def test_the_file_is_valid_and_every_value_has_a_fixed_shape(form: str, forms: dict[str, Path]) -> None:
    onnx.checker.check_model(str(forms[form]), full_check=True)
    graph = onnx.load(forms[form]).graph
    values = [*graph.value_info, *graph.output]
    shapes = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim] for value in values}
    assert all(all(shape) for shape in shapes.values())
    fused_outputs = {name for node in graph.node if node.domain for name in node.output}
    assert fused_outputs <= set(shapes)
    assert bool(fused_outputs) == (form == "fused")


@pytest.mark.parametrize("form", ["fused", "inlined"])
def test_onnx_runtime_runs_both_forms(form: str, arguments: tuple[Tensor, ...], forms: dict[str, Path]) -> None:
    assert_agrees(load_engine("onnxruntime", forms[form]), arguments)


def test_openvino_runs_the_inlined_form(inlined: Path, arguments: tuple[Tensor, ...]) -> None:
    assert_agrees(load_engine("openvino", inlined), arguments)


def test_openvino_still_refuses_functions(fused: Path) -> None:
    """When this fails, OpenVINO has learned to read them: `inline` may go."""
    with pytest.raises((EngineError, RuntimeError), match=rf"{NAMESPACE}\.Attend"):
        load_engine("openvino", fused)


def test_the_inlined_form_is_one_graph_of_standard_operators(inlined: Path) -> None:
    proto = onnx.load(inlined)
    assert not proto.functions
    assert {node.domain for node in proto.graph.node} == {""}
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", OPSET)]


def test_two_exports_are_the_same_bytes_and_tell_nothing_of_this_machine(
    forms: dict[str, Path], arguments: tuple[Tensor, ...], tmp_path: Path
) -> None:
    for form, path in write_both_forms(arguments, tmp_path).items():
        again = path.read_bytes()
        assert again == forms[form].read_bytes()
        assert b".py" not in again


def test_a_body_is_what_the_table_says(arguments: tuple[Tensor, ...], tmp_path: Path) -> None:
    """Two times the operator's numbers show that the engines compute the body, and not something of their own."""

    def doubled(*values: Any) -> Tensor:
        return 2 * attend_in_torch(*values)

    class Attention(nn.Module):
        def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return attend(query, key, value, 1)

    model = export_module(Attention(), arguments, INPUTS, ["OUT"])
    add_functions(model, [dataclasses.replace(ATTEND, body=doubled)], export_module)
    path = save(model, tmp_path / "model.onnx")
    feed: dict[str, npt.NDArray[Any]] = {name: each.numpy() for name, each in zip(INPUTS, arguments, strict=True)}
    found = load_engine("onnxruntime", path)(feed)["OUT"]
    np.testing.assert_allclose(found, 2 * attend_in_torch(*arguments, 1).numpy(), rtol=0, atol=2e-6)


def test_a_body_with_an_operator_of_another_domain_is_refused(arguments: tuple[Tensor, ...]) -> None:
    model = export_module(Toy(), arguments, INPUTS, OUTPUTS)
    with pytest.raises(ExportError, match=rf"Attend: the body has {NAMESPACE}::Attend; only standard"):
        add_functions(model, [dataclasses.replace(ATTEND, body=attend)], export_module)


def test_an_input_without_a_fixed_shape_is_refused(arguments: tuple[Tensor, ...]) -> None:
    model = export_module(Toy(), arguments, INPUTS, OUTPUTS)
    model.graph.inputs[1].shape = ir.Shape([2, "keys", 8])
    with pytest.raises(ExportError, match=r"Attend node_attend: key is .*keys.*fixed shape"):
        add_functions(model, OPERATORS, export_module)


def test_arguments_and_results_that_no_node_takes_are_refused() -> None:
    with pytest.raises(ExportError, match=r"aten\.cat\.default: tensors is a List\[Tensor\]; a node takes Tensor, "):
        FusedOperator(torch.ops.aten.cat.default, "Cat", torch.cat)
    with pytest.raises(ExportError, match=r"aten\.unbind\.int returns a List\[Tensor\]"):
        FusedOperator(torch.ops.aten.unbind.int, "Unbind", torch.unbind)
