"""Which torch is installed, read from its files and without it."""

import subprocess
import sys
from pathlib import Path

import pytest

from service.cards.torch_build import TorchBuild, installed_torch

VERSION = (
    "from typing import Optional\n\n__all__ = ['cuda']\n__version__ = '{version}'\ncuda: Optional[str] = {cuda!r}\n"
)


def written(folder: Path, text: str) -> Path:
    (folder / "version.py").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("version", "cuda", "pair"),
    [("2.13.0+cu130", "13.0", (13, 0)), ("2.13.0", "12.8", (12, 8)), ("2.13.0+cpu", None, None)],
)
def test_version_and_cuda_are_read(
    tmp_path: Path, version: str, cuda: str | None, pair: tuple[int, int] | None
) -> None:
    text = VERSION.format(version=version, cuda=cuda)
    assert installed_torch(written(tmp_path, text)) == TorchBuild(version, pair)


@pytest.mark.parametrize("text", ["", "__version__ = 3\n", "def (\n", "cuda = '13.0'\n"])
def test_what_says_no_version_is_no_torch(tmp_path: Path, text: str) -> None:
    assert installed_torch(written(tmp_path, text)) is None
    assert installed_torch(tmp_path / "away") is None


def test_it_agrees_with_the_torch_that_is_here_without_importing_it() -> None:
    code = (
        "import sys\nfrom service.cards.torch_build import installed_torch\nbuild = installed_torch()\n"
        "assert 'torch' not in sys.modules\n"
        "from torch import version\n"
        "assert build.version == version.__version__\n"
        "assert build.cuda == (None if version.cuda is None else tuple(map(int, version.cuda.split('.')[:2])))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
