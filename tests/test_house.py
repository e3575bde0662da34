"""The house, as its imports and files show it: who may import whom, no circle, no crowded folder, no long module.

Every import of every module is read from its source, so that also those count which run late (inside a function) or
never (under `if TYPE_CHECKING`).
"""

import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.house import Module, circle, folder_arrows, module_arrows, read_house

ROOT = Path(__file__).resolve().parent.parent

CONTRACT = "auralsam2_client.contract"
ENLARGING = "auralsam2_client.enlarging"
NEW_FILE = "auralsam2_client.new_file"
WORDS = "auralsam2_client.words"
# Rooms, from the lowest to the highest, and what each may import. A name with a dot opens one part of a room only.
ROOMS: dict[str, tuple[str, ...]] = {
    "kernels": (),
    "auralsam2_client": (),
    # Media and the errors that reading them raises: what is judged is read as what is sent.
    "auralsam2": ("kernels", CONTRACT, NEW_FILE, WORDS, "auralsam2_client.media", "auralsam2_client.errors"),
    "model_repository": (CONTRACT, ENLARGING, WORDS),
    "export": ("kernels", "auralsam2", "model_repository", CONTRACT, ENLARGING, WORDS, "auralsam2_client.media"),
    "service": ("auralsam2_client",),
    "loadtests": ("kernels", "auralsam2", "auralsam2_client", "model_repository", "export", "service"),
    "tests": ("kernels", "auralsam2", "auralsam2_client", "model_repository", "export", "service", "loadtests"),
}
# Only inside the commands that need them: the service starts without torch.
LATE = {"service": ("auralsam2", "model_repository", "export")}
# Parts that see more than their room: stages that compute in PyTorch are the network's own.
PARTS = {"model_repository.stage_runtime.pytorch": ("auralsam2",)}

# What is installed with the client alone. Its media are read by training and evaluation too, without a network.
CLIENT_NEEDS = {"numpy", "PIL", "av", "soxr", "soundfile", "pycocotools", "grpc", "grpc_health", "tritonclient"}
MEDIA_NEEDS = {"numpy", "PIL", "av", "soxr", "soundfile"}

MAX_MODULES = 15
MAX_LINES = 300
# A module that has a reason to be longer gives it in its docstring, in a sentence that begins so.
REASON = "Long because"


@pytest.fixture(scope="module")
def house() -> dict[str, Module]:
    found = read_house(ROOT, ROOMS)
    assert {module.room for module in found.values()} == set(ROOMS)
    return found


def opened(name: str, allowed: Iterable[str]) -> bool:
    return any(name == part or name.startswith(f"{part}.") for part in allowed)


def strangers(house: dict[str, Module]) -> list[str]:
    """Imports that the table of rooms does not allow."""
    return [
        f"{module.path} imports {name}{'' if at_once else ' (late)'}"
        for module in house.values()
        for name, at_once in sorted(module.imports)
        if name.partition(".")[0] in ROOMS
        and not opened(
            name,
            (
                module.room,
                *ROOMS[module.room],
                *(() if at_once else LATE.get(module.room, ())),
                *(room for part, rooms in PARTS.items() if opened(module.name, [part]) for room in rooms),
            ),
        )
    ]


def packages(house: dict[str, Module], part: str) -> set[str]:
    """Packages of others that a part of the house imports, the standard library left out."""
    tops = {
        name.partition(".")[0] for module in house.values() if opened(module.name, [part]) for name, _ in module.imports
    }
    return tops - set(ROOMS) - set(sys.stdlib_module_names)


def crowded(house: dict[str, Module]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for module in house.values():
        if not module.is_door:
            counts[module.folder] = counts.get(module.folder, 0) + 1
    return {folder: count for folder, count in counts.items() if count > MAX_MODULES}


def long(house: dict[str, Module]) -> dict[str, int]:
    return {
        module.path.as_posix(): module.num_lines
        for module in house.values()
        if module.num_lines > MAX_LINES and REASON not in module.docstring
    }


def test_a_room_imports_what_the_table_allows(house: dict[str, Module]) -> None:
    assert strangers(house) == []


def test_modules_form_no_circle(house: dict[str, Module]) -> None:
    assert circle(module_arrows(house)) == []


def test_folders_form_no_circle(house: dict[str, Module]) -> None:
    assert circle(folder_arrows(house)) == []


def test_the_client_needs_no_torch_no_server_and_no_terminal(house: dict[str, Module]) -> None:
    assert packages(house, "auralsam2_client") <= CLIENT_NEEDS
    assert packages(house, "auralsam2_client.media") <= MEDIA_NEEDS


def test_no_folder_is_crowded(house: dict[str, Module]) -> None:
    assert crowded(house) == {}


def test_no_module_is_long_without_a_reason(house: dict[str, Module]) -> None:
    assert long(house) == {}


# The rules themselves, on a small house: each can fail.


def build(root: Path, files: dict[str, str]) -> dict[str, Module]:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return read_house(root, ROOMS)


def test_a_forbidden_import_is_seen_wherever_it_stands(tmp_path: Path) -> None:
    found = build(
        tmp_path,
        {
            "kernels/low.py": "import torch\n",
            "auralsam2_client/media/sound.py": "",
            "auralsam2_client/calls/wire.py": "def call():\n    from service.server import config\n",
            "auralsam2/data/clip.py": "from auralsam2_client.media.sound import windows\n",
            "auralsam2/data/far.py": "from auralsam2_client.calls import wire\n",
            "service/server/config.py": "from auralsam2.data import clip\n",
            "service/late.py": "def run():\n    from auralsam2.data import clip\n    import tests\n",
        },
    )
    assert strangers(found) == [
        "auralsam2/data/far.py imports auralsam2_client.calls.wire",
        "auralsam2_client/calls/wire.py imports service.server.config (late)",
        "service/late.py imports tests (late)",
        "service/server/config.py imports auralsam2.data.clip",
    ]
    assert packages(found, "kernels") == {"torch"}


@pytest.mark.parametrize(
    "back",
    [
        "from service.one.a import x",
        "import service.one.a",
        "from service.one import a",
        "from ..one import a",
        "from ..one.a import x",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from service.one.a import x",
        "async def late():\n    if True:\n        from service.one import a",
    ],
)
def test_a_circle_is_seen_in_every_form(tmp_path: Path, back: str) -> None:
    files = {"service/one/a.py": "from service.two import b\n", "service/two/b.py": ""}
    assert circle(module_arrows(build(tmp_path, files))) == []
    found = build(tmp_path, files | {"service/two/b.py": f"{back}\n"})
    assert set(circle(module_arrows(found))) == {"service.one.a", "service.two.b"}
    assert set(circle(folder_arrows(found))) == {"service/one", "service/two"}


def test_a_circle_of_folders_needs_none_of_modules(tmp_path: Path) -> None:
    files = {"a.py": "from service.two import c", "b.py": ""}
    found = build(
        tmp_path,
        {f"service/one/{name}": text for name, text in files.items()}
        | {"service/two/c.py": "", "service/two/d.py": "from service.one import b"},
    )
    assert circle(module_arrows(found)) == []
    assert set(circle(folder_arrows(found))) == {"service/one", "service/two"}


def test_a_crowded_folder_and_a_long_module_are_seen(tmp_path: Path) -> None:
    files = {f"kernels/m{index}.py": "" for index in range(MAX_MODULES)} | {"kernels/__init__.py": ""}
    assert crowded(build(tmp_path, files)) == {}
    assert crowded(build(tmp_path, {"kernels/one_more.py": ""})) == {"kernels": MAX_MODULES + 1}
    lines = '"""Words."""\n' + "pass\n" * (MAX_LINES - 1)
    assert long(build(tmp_path, {"service/full.py": lines})) == {}
    assert long(build(tmp_path, {"service/full.py": lines + "pass\n"})) == {"service/full.py": MAX_LINES + 1}
    explained = lines.replace("Words.", f"{REASON} one table fills it.") + "pass\n"
    assert long(build(tmp_path, {"service/full.py": explained})) == {}
