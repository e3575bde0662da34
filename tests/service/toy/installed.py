"""Stand-ins for what a machine with GPUs has: the home of an installed server, and nvidia-smi.

The home is laid out as NVIDIA's image has it. Its program notes its arguments and becomes the embedded server, without
the flags that this older release does not know, so that what is served through it is served for real.
"""

import json
import os
import shutil
from pathlib import Path

from service.server.config import find_server_env
from service.server.runtime import assemble_backends, find_runtime
from tests.service.toy import build_folder as toy

VERSION = "2.75.0"
# What a newer release knows and the embedded one does not.
NEWER_FLAG = "--allow-client-shm"

PROGRAM = """#!/bin/bash
export LD_LIBRARY_PATH={libraries}:$LD_LIBRARY_PATH
if [[ $1 == --help ]]; then
    {tritonserver} --help
    printf '  {newer} <boolean>\\n\\tTells whether clients may name shared memory.\\n' >&2
    exit 1
fi
printf '%s\\n' "$@" > {home}/arguments
env > {home}/variables
# What a build for GPUs does not ask for, since its backends have no shared memory: the toy's Python stages do.
arguments=(--backend-config=python,shm-region-prefix-name="$AURALSAM2_LAUNCH")
for argument in "$@"; do
    [[ $argument == {newer}=* ]] || arguments+=("$argument")
done
exec {tritonserver} "${{arguments[@]}}"
"""

SMI = """#!/bin/sh
echo "$*" > "{log}"
{body}
"""


def write_home(home: Path, *others: str) -> Path:
    """A home with the python backend, and empty folders in place of others'."""
    runtime = find_runtime(find_server_env())
    home.mkdir(parents=True)
    assemble_backends(runtime, home)
    for name in others:
        (home / "backends" / name).mkdir()
    (home / "TRITON_VERSION").write_text(f"{VERSION}\n")
    (home / "lib").mkdir()
    program(
        home / "bin" / "tritonserver",
        PROGRAM.format(
            libraries=os.pathsep.join(map(str, runtime.library_dirs)),
            tritonserver=runtime.tritonserver,
            newer=NEWER_FLAG,
            home=home,
        ),
    )
    return home


def arguments(home: Path) -> list[str]:
    """What the server of a home was last started with."""
    return (home / "arguments").read_text().splitlines()


def variables(home: Path) -> dict[str, str]:
    """The environment that it was last started in."""
    return dict(line.split("=", 1) for line in (home / "variables").read_text().splitlines() if "=" in line)


def write_smi(folder: Path, *cards: str, status: int = 0) -> Path:
    """An nvidia-smi below `folder`/bin that prints a line for each card; returns that bin."""
    body = "\n".join([*(f"echo '{card}'" for card in cards), f"exit {status}"])
    program(folder / "bin" / "nvidia-smi", SMI.format(log=folder / "smi-arguments", body=body))
    return folder / "bin"


def card(index: int = 0, name: str = "NVIDIA L4", capability: str = "8.9", mebibytes: int | str = 23034) -> str:
    """A line of nvidia-smi, as service/builds/gpus.py asks for it."""
    return f"{index}, GPU-{index}aaaaaaa-0000-0000-0000-000000000000, {name}, {capability}, {mebibytes}"


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def write_gpu_build(build: Path, target: str) -> Path:
    """The toy build under the name of a GPU target; for tensorrt with an engine and its manifest beside each stage."""
    toy.write(build)
    if target == "tensorrt":
        for stage in toy.STAGES:
            write_engine(build / "models" / stage / "1" / "model.plan")
    toy.write_manifest(build, target=target)
    return build


def write_engine(engine: Path, **changed: object) -> None:
    """An engine of no use, and a manifest that says that it was made for an L4."""
    engine.write_bytes(b"engine")
    record: dict[str, object] = {
        "format": 1,
        "flavour": "tensorrt",
        "version": "11.2.1.2",
        "cuda": "13.3",
        "capabilities": [89],
        "gpu": "NVIDIA L4",
        "precision": "float16",
        "onnx_sha256": "0" * 64,
        "engine_sha256": "0" * 64,
        "engine_bytes": len(b"engine"),
        "build_seconds": 1.0,
        "parity": [],
    }
    engine.with_name(engine.name + ".json").write_text(json.dumps({**record, **changed}))


def name_engine_cache(build: Path, folder: Path) -> None:
    """Let the hiera stage keep ONNX Runtime's engines in `folder`."""
    config = build / "models" / "hiera" / "config.pbtxt"
    config.write_text(
        config.read_text()
        + "optimization { execution_accelerators { gpu_execution_accelerator: [ { name: "
        + f'"tensorrt" parameters {{ key: "trt_engine_cache_path" value: "{folder}" }} }} ] }} }}\n'
    )


def on_path(folder: Path) -> str:
    """PATH with a folder first."""
    return os.pathsep.join([str(folder), os.environ["PATH"]])


def without_smi() -> str:
    """PATH without any nvidia-smi."""
    folders = os.environ["PATH"].split(os.pathsep)
    return os.pathsep.join(folder for folder in folders if shutil.which("nvidia-smi", path=folder) is None)
