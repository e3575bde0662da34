"""The NVIDIA GPUs that an installed server will see, as nvidia-smi tells them. No CUDA library is loaded for it.

Builds for CUDA ask the driver itself (service/cards), since they need its version and free memory too.
"""

import csv
import os
import subprocess
from dataclasses import dataclass

from auralsam2_client.errors import ConfigError
from service.cards.visibility import VARIABLE, shown

_QUERY = "index,uuid,name,compute_cap,memory.total"


@dataclass(frozen=True)
class Gpu:
    """One card. `index` is CUDA's: a server is told of its cards by it."""

    index: int
    name: str
    capability: int | None  # 89 is 8.9; None: nvidia-smi does not say
    memory_bytes: int | None  # None: not said, as where CPU and GPU share their memory

    def __str__(self) -> str:
        capability = "" if self.capability is None else f" (compute capability {self.capability / 10:.1f})"
        return f"{self.name}{capability}"


def find_gpus() -> tuple[Gpu, ...]:
    """List the cards that CUDA shows a server started from here, as CUDA_VISIBLE_DEVICES allows; may be empty.

    The order is nvidia-smi's, which is CUDA's too with CUDA_DEVICE_ORDER=PCI_BUS_ID.
    """
    return _ask()[0]


def require_gpus(target: str) -> tuple[Gpu, ...]:
    """List the cards as `find_gpus` does. Raises: ConfigError with nvidia-smi's own words when there is none."""
    gpus, words = _ask()
    if not gpus:
        raise ConfigError(
            f"target {target} needs an NVIDIA GPU and none is seen: {words}. Start the container with --gpus all, or"
            " export with --target cpu."
        )
    return gpus


def _ask() -> tuple[tuple[Gpu, ...], str]:
    command = ["nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"]
    try:
        # Without persistence mode the driver is set up by this very call, which takes seconds.
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        return (), "nvidia-smi is not on PATH"
    except (OSError, subprocess.SubprocessError) as error:
        return (), f"nvidia-smi does not run ({error})"
    if answer.returncode != 0:
        words = (answer.stderr or answer.stdout).strip().splitlines()
        return (), f"nvidia-smi ends with {answer.returncode}{': ' + words[-1].rstrip('.') if words else ''}"
    rows = [[cell.strip() for cell in row] for row in csv.reader(answer.stdout.splitlines())]
    rows = [row for row in rows if len(row) == len(_QUERY.split(","))]
    chosen = os.environ.get(VARIABLE)
    visible = [rows[place] for place in shown([(row[0], row[1]) for row in rows], chosen)]
    if rows and not visible:
        return (), f"{VARIABLE}={chosen} hides all {len(rows)}"
    cards = (Gpu(index, row[2], _capability(row[3]), _mebibytes(row[4])) for index, row in enumerate(visible))
    return tuple(cards), "nvidia-smi lists no card"


def _capability(text: str) -> int | None:
    try:
        return round(10 * float(text))
    except ValueError:
        return None


def _mebibytes(text: str) -> int | None:
    try:
        return int(text) << 20
    except ValueError:
        return None
