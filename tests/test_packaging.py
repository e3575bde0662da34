"""What is installed where: the wheel holds the client alone, a checkout is linked, versions are locked with hashes."""

import email
import importlib.util
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from auralsam2_client.version import __version__
from tests.conftest import REPOSITORY

REQUIREMENTS = REPOSITORY / "requirements"
LOCKED = ("build", "checkout", "image", "server")
ROOMS = ("auralsam2", "auralsam2_client", "export", "kernels", "loadtests", "model_repository", "service", "tests")
PINNED = re.compile(r"^([\w.-]+)(?:\[[\w,-]+\])?==(\S+)")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built as `pip install .` builds it, without a network, from a copy that holds every room."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, copy)
    shutil.copytree(REQUIREMENTS, copy / "requirements")
    for room in ROOMS:
        files = shutil.ignore_patterns("__pycache__", "*.npz", "*.safetensors", "*.png", "*.json")
        shutil.copytree(REPOSITORY / room, copy / room, ignore=files)
    # What an earlier build of another state may have left.
    (copy / "build" / "lib" / "service").mkdir(parents=True)
    (copy / "build" / "lib" / "service" / "old.py").touch()
    command = [sys.executable, "-m", "pip", "wheel", "--no-index", "--no-build-isolation", "--no-deps", "-w", str(out)]
    done = subprocess.run([*command, str(copy)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = out.iterdir()
    return zipfile.ZipFile(path)


def metadata(wheel: zipfile.ZipFile) -> email.message.Message:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return email.message_from_bytes(wheel.read(name))


def requirements(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_the_wheel_holds_the_client_alone(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert tops == {"auralsam2_client", f"auralsam2_client-{__version__}.dist-info"}
    sources = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "auralsam2_client").rglob("*.py")}
    assert sources <= set(wheel.namelist())
    assert "auralsam2_client/py.typed" in wheel.namelist()


def test_the_wheel_asks_for_what_the_client_needs(wheel: zipfile.ZipFile) -> None:
    found = metadata(wheel)
    assert found["Name"] == "auralsam2-client"
    assert found["Version"] == __version__
    assert found.get_all("Requires-Dist") == requirements((REQUIREMENTS / "client.txt").read_text())
    assert found.get_all("Provides-Extra") is None


def test_the_client_needs_no_other_room(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    modules = [
        path.relative_to(tmp_path).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
        for path in (tmp_path / "auralsam2_client").rglob("*.py")
    ]
    # What is no client: the other rooms, and what only they need.
    away = {*ROOMS, "torch", "sam2", "onnx", "onnxruntime", "openvino", "typer", "rich", "psutil", "prometheus_client"}
    away -= {"auralsam2_client"}
    code = f"""
import importlib, sys
sys.path.insert(0, {str(tmp_path)!r})
class Away:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {away!r}:
            raise ImportError(f"{{name}} is no part of what a client installs")
sys.meta_path.insert(0, Away())
for name in {modules!r}:
    assert importlib.import_module(name).__file__.startswith({str(tmp_path)!r}), name
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def checkout() -> ModuleType:
    spec = importlib.util.spec_from_file_location("checkout", REQUIREMENTS / "checkout.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_checkout_is_linked_into_an_environment(checkout: ModuleType, tmp_path: Path) -> None:
    # Spaces, and longer than a line that names an interpreter may be.
    root = tmp_path / ("a long name " * 15).strip()
    commands = root / "service" / "commands"
    commands.mkdir(parents=True)
    (commands / "cli.py").write_text("import sys\ndef main():\n    print(__file__, *sys.argv[1:])\n    return 3\n")
    venv.create(root / "env", with_pip=False, symlinks=True)
    scripts = root / "env" / "bin"
    (site_packages,) = (root / "env" / "lib").glob("python3*/site-packages")
    (scripts / "auralsam2").write_text("what stood there before")
    for _ in range(2):
        checkout.link(root, site_packages, scripts, scripts / "python")
    # A folder of the same name, where the command is called, is not looked at.
    (tmp_path / "service" / "commands").mkdir(parents=True)
    (tmp_path / "service" / "commands" / "cli.py").write_text("raise SystemExit('the wrong one')")
    done = subprocess.run(
        [scripts / "auralsam2", "serve", "a b"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (3, f"{commands / 'cli.py'} serve a b\n"), done.stderr


def test_the_systems_python_is_left_alone(checkout: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkout, "link", lambda *places: pytest.fail("linked"))
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    with pytest.raises(SystemExit, match="belongs to no virtual environment"):
        checkout.main()


def pins(name: str) -> dict[str, set[str]]:
    """Version or versions of each package in a locked file."""
    found: dict[str, set[str]] = {}
    for line in requirements((REQUIREMENTS / "locked" / f"{name}.txt").read_text()):
        if match := PINNED.match(line):
            found.setdefault(match[1], set()).add(match[2])
    return found


@pytest.mark.parametrize("name", LOCKED)
def test_locked_files_pin_with_hashes_and_name_no_host(name: str) -> None:
    text = (REQUIREMENTS / "locked" / f"{name}.txt").read_text()
    entries = re.sub(r" \\\n\s+", " ", text)
    for line in requirements(entries):
        if not line.startswith(" "):
            assert PINNED.match(line), line
            assert " --hash=sha256:" in line, line
    assert not re.search(r"://|--(extra-)?index-url|--trusted-host|--find-links", text)


def test_the_lock_answers_the_requirements() -> None:
    def normal(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    locked = pins("checkout")
    # Not part of set-up: torch and sam2 stand apart, the others are for some machines, and the server.
    apart = {"torch.txt", "torch-cuda.txt", "sam2.txt", "tensorrt.txt", "server.txt", "tritonserver.txt"}
    asked = [
        normal(re.split(r"[\[<>=!~ ]", line)[0])
        for path in REQUIREMENTS.glob("*.txt")
        if path.name not in apart
        for line in requirements(path.read_text())
    ]
    assert len(asked) > 40
    assert [name for name in asked if name not in locked] == []
    assert "torch" not in locked
    for name in ("build", "image"):
        assert {package: locked.get(package) for package in pins(name)} == pins(name)
    # numpy 2 gives empty tensors in the embedded server.
    assert all(version.startswith("1.") for version in pins("server")["numpy"])
    for path in (REQUIREMENTS / "sam2.txt", REQUIREMENTS / "tritonserver.txt"):
        assert "--hash=sha256:" in path.read_text()


def test_the_image_says_the_version() -> None:
    assert set(re.findall(r"(?m)^ARG VERSION=(.*)$", (REPOSITORY / "Dockerfile").read_text())) == {__version__}
