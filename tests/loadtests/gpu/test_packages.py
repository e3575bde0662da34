"""What the bench and the checks of a card load: no package that a machine with PyTorch and sam2 may lack."""

import sys
from pathlib import Path

from tests.house import Module, read_house
from tests.test_house import ROOMS

# PyTorch, sam2 and what that imports; of the client, which only the rows and checks of the service load; of training,
# which only its checks do.
ALWAYS = {"torch", "triton", "numpy", "sam2", "hydra", "omegaconf", "PIL"}
OF_THE_CLIENT = {"tritonclient", "grpc", "google", "psutil"}
OF_TRAINING = {"safetensors", "soxr"}


def reached(house: dict[str, Module], start: str) -> set[str]:
    """Packages of others that are loaded at once with the modules of a part, through whatever they load at once."""
    waiting = [name for name in house if name.startswith(start)]
    seen, others = set(waiting), set[str]()
    while waiting:
        for name, at_once in house[waiting.pop()].imports:
            # A module brings the doors of the folders that it lies in.
            doors = [name.rsplit(".", depth)[0] for depth in range(name.count(".") + 1)]
            for part in doors if at_once else ():
                if part in house and part not in seen:
                    seen.add(part)
                    waiting.append(part)
            if at_once and name.partition(".")[0] not in ROOMS:
                others.add(name.partition(".")[0])
    return others - set(sys.stdlib_module_names)


def test_only_what_a_machine_with_a_card_has(repository_root: Path) -> None:
    house = read_house(repository_root, ROOMS)
    assert reached(house, "loadtests.gpu") <= ALWAYS | OF_THE_CLIENT | OF_TRAINING
    for part in ("__main__", "worker", "rows.network", "rows.operators", "rows.stages", "checks.kernel_checks"):
        assert reached(house, f"loadtests.gpu.{part}") <= ALWAYS, part


def test_a_package_behind_another_module_is_found(tmp_path: Path) -> None:
    for name, text in {
        "loadtests/gpu/card.py": "from kernels import low\ndef late() -> None:\n    import psutil\n",
        "kernels/low.py": "import matplotlib.figure\nimport json\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert reached(read_house(tmp_path, ROOMS), "loadtests.gpu") == {"matplotlib"}
