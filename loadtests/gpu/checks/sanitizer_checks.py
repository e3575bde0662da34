"""The kernels' small checks under NVIDIA's compute-sanitizer: accesses out of bounds, races, missing barriers."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from auralsam2_client.new_file import write_new
from loadtests.gpu.checks.check import Check, LeftOutError, Place

TOOLS = ("memcheck", "racecheck", "synccheck")
FOUND = 9
"""The exit code that we ask for where the tool finds something: no other failure has it."""
LIMIT_S = 900.0
MARK, BANNER = "========= ", "COMPUTE-SANITIZER"
USUAL_HOME = Path("/usr/local/cuda")


def find_sanitizer(environ: Mapping[str, str] = os.environ) -> str | None:
    """Find compute-sanitizer: on PATH, in CUDA_HOME, or where CUDA is usually installed."""
    homes = [Path(environ[name]) for name in ("CUDA_HOME", "CUDA_PATH") if environ.get(name)]
    folders = [*environ.get("PATH", "").split(os.pathsep), *(str(home / "bin") for home in (*homes, USUAL_HOME))]
    return shutil.which("compute-sanitizer", path=os.pathsep.join(folders))


def sanitizer_checks() -> list[Check]:
    """List a check for each of the tools."""
    return [Check(f"compute-sanitizer, {tool}", "sanitizer", partial(run_sanitizer, tool)) for tool in TOOLS]


def run_sanitizer(tool: str, place: Place, *, environ: Mapping[str, str] = os.environ) -> None:
    """Make the small checks of the kernels under one tool.

    Raises: AssertionError with its last words where it finds something or a check fails; LeftOutError without it.
    """
    program = find_sanitizer(environ)
    if program is None:
        raise LeftOutError("compute-sanitizer is not on PATH and not in CUDA_HOME; it comes with the CUDA toolkit")
    words = [program, "--tool", tool, "--error-exitcode", str(FOUND)]
    words += [sys.executable, "-m", "loadtests.gpu.checks", "--only", "kernels", "--small"]
    done = subprocess.run(
        [*words, "--device", place.device],
        # Each tensor gets an allocation of its own: within PyTorch's pool a kernel that goes too far meets a neighbour.
        env={**environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    log = place.folder / f"sanitizer-{tool}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    write_new(log, done.stdout + done.stderr)
    lines = [line.strip() for line in log.read_text().splitlines() if line.strip()]
    told = next((line for line in lines if line.startswith(MARK) and BANNER not in line), "no word")
    assert done.returncode != FOUND, f"{tool} found something: {told} ({log.name} has all of it)"
    assert done.returncode == 0, f"the checks under {tool} ended with {done.returncode}: {told}"
