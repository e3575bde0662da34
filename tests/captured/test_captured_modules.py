"""What is captured as a CUDA graph touches no host: read from the source, so that it holds on machines without a card.

A captured clip is replayed without Python. A tensor that the host makes in a call is a copy from memory that may be
gone by then, and a number that the host reads back waits for the card; CUDA refuses to capture either, or replays old
numbers. `tests.auralsam2.model.test_devices` runs the same code and sees what arrives from elsewhere.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

CAPTURED = (
    "auralsam2/network/*.py",
    "auralsam2/prompted/*.py",
    "auralsam2/model/aural_sam2.py",
    "auralsam2/model/published.py",
    "kernels/*/pytorch.py",
    "kernels/*/plan.py",
    "kernels/fusion/reference.py",
    "kernels/fusion/weights.py",
    "kernels/launching/launch.py",
    "kernels/launching/prepared.py",
    "kernels/operators.py",
    "kernels/shown_operators.py",
    "auralsam2/stages/*.py",
    "model_repository/stage_runtime/pytorch/whole_clip.py",
)
"""Every module that a captured forward reaches. Whoever captures another one adds it."""

MADE_ONCE = {
    "auralsam2/network/log_mel.py": ("mel_matrix", "windowed_dft"),
    "auralsam2/network/positions.py": ("sine_2d", "first_position_1d", "rotary_tables", "pair_exchange"),
    "auralsam2/network/precision.py": ("_check",),
}
"""Functions that run when a network is made or turned to another type, never in a call: their tables become buffers."""

MAKERS = {"tensor", "as_tensor", "asarray", "from_numpy"}
FACTORIES = {
    "zeros",
    "ones",
    "full",
    "empty",
    "eye",
    "arange",
    "linspace",
    "logspace",
    "scalar_tensor",
    "rand",
    "randn",
}
READERS = {"item", "cpu", "numpy", "tolist", "synchronize", "pin_memory"}
NUMBERS, REDUCTIONS = {"bool", "float", "int"}, {"any", "all", "max", "min", "sum", "mean", "argmax"}
CONSTRUCTORS = {"__init__", "__post_init__"}


def reduces(node: ast.AST) -> bool:
    """Whether a method reduces a tensor somewhere in `node`."""
    return any(isinstance(part, ast.Attribute) and part.attr in REDUCTIONS for part in ast.walk(node))


def host_calls(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of each call below `node` that makes a tensor on the host or waits for the card."""
    for call in ast.walk(node):
        if not isinstance(call, ast.Call):
            continue
        if isinstance(call.func, ast.Name) and call.func.id in NUMBERS and any(map(reduces, call.args)):
            yield call.lineno, call.func.id
        if not isinstance(call.func, ast.Attribute):
            continue
        name, owner = call.func.attr, call.func.value
        keywords = {keyword.arg for keyword in call.keywords}
        of_torch = isinstance(owner, ast.Name) and owner.id == "torch"
        if of_torch and (name in MAKERS or (name in FACTORIES and "device" not in keywords)):
            yield call.lineno, f"torch.{name}"
        elif not of_torch and name in READERS:
            yield call.lineno, f".{name}"
        elif name == "to" and call.args and isinstance(call.args[0], ast.Constant):
            yield call.lineno, f".to({call.args[0].value!r})"


def functions(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    """Functions and methods by their qualified names; one inside another belongs to the outer one."""
    for node in body:
        if isinstance(node, ast.FunctionDef):
            yield f"{prefix}{node.name}", node
        elif isinstance(node, ast.ClassDef):
            yield from functions(node.body, f"{node.name}.")


def faults(source: str, made_once: tuple[str, ...] = ()) -> list[str]:
    return [
        f"{name}, line {line}: {call}"
        for name, function in functions(ast.parse(source).body)
        if name.rpartition(".")[2] not in CONSTRUCTORS and name not in made_once
        for line, call in host_calls(function)
    ]


def captured_modules() -> list[str]:
    return sorted({path.relative_to(ROOT).as_posix() for glob in CAPTURED for path in ROOT.glob(glob)})


@pytest.mark.parametrize("glob", CAPTURED)
def test_every_place_holds_modules(glob: str) -> None:
    assert list(ROOT.glob(glob))


@pytest.mark.parametrize("module", captured_modules())
def test_nothing_of_the_host_is_in_a_captured_module(module: str) -> None:
    assert faults((ROOT / module).read_text(encoding="utf-8"), MADE_ONCE.get(module, ())) == []


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in MADE_ONCE.items() for name in names])
def test_every_exception_is_needed(module: str, name: str) -> None:
    others = tuple(set(MADE_ONCE[module]) - {name})
    assert faults((ROOT / module).read_text(encoding="utf-8"), others)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("mean = torch.tensor(MEAN, device=x.device)", "torch.tensor"),
        ("mean = torch.as_tensor(MEAN)", "torch.as_tensor"),
        ("table = torch.arange(4).to(x.device)", "torch.arange"),
        ("bias = torch.where(x > 0, x, torch.zeros(()))", "torch.zeros"),
        ("y = torch.from_numpy(f(x.cpu().numpy()))", ".cpu"),
        ("best = x.argmax().item()", ".item"),
        ("y = [g(n) for n in x.tolist()]", ".tolist"),
        ("empty = not bool((x > 0).any())", "bool"),
        ("y = x.to('cpu')", ".to('cpu')"),
        ("torch.cuda.synchronize()", ".synchronize"),
    ],
)
def test_a_touch_of_the_host_is_seen(line: str, named: str) -> None:
    sources = [f"def f(x):\n    {line}", f"class A:\n    def forward(self, x):\n        def g(x):\n            {line}"]
    for source in sources:
        assert any(fault.endswith(named) for fault in faults(source))
    assert not faults(f"import torch\n{line}\nclass A:\n    def __init__(self, x):\n        {line}\n")
    assert not faults(sources[0], ("f",))


def test_what_is_filled_in_on_the_card_is_not_a_fault() -> None:
    assert not faults(
        "def f(x):\n    return torch.full((1,), 2.0, device=x.device) + x.new_zeros(3) + torch.cat([x, x])"
    )
