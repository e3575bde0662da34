"""Builds that tests of several rooms read, each exported once: they stay in build/tests and serve the next run too.

Their folder is named by a digest of all that they are made from, so that a change to it makes new ones.
"""

import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from safetensors.torch import save_file

from auralsam2 import AuralSAM2, checkpoints
from auralsam2.model.shipped import shipped_weights
from auralsam2.model.with_text import VOCABULARY
from auralsam2.stages.clip_stages import Stage
from auralsam2.text.encoder import WordEncoder
from auralsam2.text.tokeniser import Tokeniser
from export.builds.graphs import stages_of
from export.builds.manifest import VERSIONED_PACKAGES, manifest
from export.builds.models import write_pytorch_models
from export.builds.repository import build_repository
from export.builds.triton_config import network_model
from export.graphs.onnx_graph import export_stage
from export.loading import load_model
from export.settings import ExportSettings
from model_repository.stage_runtime.pytorch.network import DESCRIPTION
from model_repository.stage_runtime.pytorch.network import WEIGHTS as NETWORK_WEIGHTS

REPOSITORY = Path(__file__).resolve().parent.parent
_ROOMS = ("auralsam2", "kernels", "export", "model_repository")
MAKERS = (*_ROOMS, "tests/builds.py", "tests/export/conftest.py", "tests/export/graphs_on_gpu.py")
"""What writes the builds, weights and templates included."""
NUM_KEPT = 3
"""Digests whose builds are kept, so that going from branch to branch and back exports nothing again."""

# 224 px: the 14 x 14 map, at which the released fusion's tokens straddle channels.
SMALL = ExportSettings(preset="compact", image_size=224, num_frames=2, precision="float32")
# The demo's network; the same on every CPU: what `auto` would choose is for tests of its own.
COMPACT = ExportSettings(preset="compact", precision="float32")
# A Hiera of SAM2 at a size that is used. Its weights are random, so no frame may be read out as empty.
TINY = ExportSettings(preset="hiera_tiny", image_size=512, num_frames=2, read_out="iou", precision="float32")
# Another method, whose adapters change what the frames are encoded to.
ADAPTED = replace(SMALL, method="gavs")
# What is in the masks has names.
WITH_CLASSES = replace(SMALL, classes=True)
# The same networks as stages that compute in PyTorch.
IN_PYTORCH = replace(COMPACT, target="cuda", device="cpu")
TINY_IN_PYTORCH = replace(TINY, target="cuda", device="cpu")


def built_once(settings: ExportSettings) -> Path:
    """A build as `auralsam2 export` writes it, to be read only: one for all workers, and for later runs."""
    build = _folder() / settings.name
    with FileLock(f"{build}.lock"):
        if not build.is_dir():
            for left_over in build.parent.glob(f".{build.name}.*"):  # by a run that was killed while it exported
                shutil.rmtree(left_over)
            build_repository(settings, build)
    return build


def reading() -> ExportSettings:
    """Settings of a build with text, of the shipped fuser and a text encoder that was taught nothing.

    Silence is no sound that the fuser knows, so no frame may be read out as empty.
    """
    path = _folder() / "reading.safetensors"
    with FileLock(f"{path}.lock"):
        if not path.is_file():
            write_reading_weights(path)
    return replace(SMALL, text=True, checkpoint=str(path), conditioning_frame=1, read_out="iou")


def write_reading_weights(path: Path) -> None:
    """Write what `training.after.text_tuning` does: fuser and text encoder, here as random as a seed makes them."""
    torch.manual_seed(7)
    model = AuralSAM2.from_preset(SMALL.preset, SMALL.size, text=True)
    shipped = shipped_weights(SMALL.preset)
    assert shipped is not None
    model.load_state_dict(checkpoints.read(str(shipped)), strict=False)
    words = Tokeniser()
    encoder = WordEncoder(words.num_words, model.preset.text_width)
    projection = model.aural_fuser.text_proj
    assert projection is not None
    with torch.no_grad():
        [*projection.parameters()][-2].mul_(100)  # so that masks tell one sentence from another
    state = {f"aural_fuser.{key}": value for key, value in model.aural_fuser.state_dict().items()}
    state |= {f"t_model.{key}": value for key, value in encoder.state_dict().items()}
    partial = path.with_suffix(".partial")
    save_file(state, partial, {VOCABULARY: " ".join(words.vocabulary), checkpoints.TRAINED_ON: "procedural world"})
    partial.replace(path)


def in_both_layouts(settings: ExportSettings) -> dict[str, Path]:
    """Builds of one network by layout, to be read only. The first passed the gate; the other has the same weights."""
    first = built_once(settings)
    second = replace(settings, layout="ensemble")
    build = _folder() / second.name
    with FileLock(f"{build}.lock"):
        if not build.is_dir():
            partial = build.with_name(f".{build.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            weights = partial / "models" / network_model(second) / "1"
            shutil.copytree(first / "models" / network_model(settings) / "1", weights, ignore=_all_but_the_network)
            shutil.copy2(first / "golden.npz", partial)
            (partial / "cache").mkdir()
            sha256 = json.loads((weights / DESCRIPTION).read_text())["sha256"]
            write_pytorch_models(second, stages_of(second, load_model(second)), partial / "models", sha256)
            record = json.loads((first / "manifest.json").read_text())
            record |= manifest(second, partial, [], {}) | {"layout": second.layout}
            (partial / "manifest.json").write_text(json.dumps(record))
            partial.replace(build)
    return {settings.layout: first, second.layout: build}


def _all_but_the_network(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name not in (DESCRIPTION, NETWORK_WEIGHTS)]


def graph_of(build: Path, stage: str) -> Path:
    """A stage's graph in a build for a CPU."""
    return build / "models" / stage / "1" / "model.onnx"


def copy_to_serve(build: Path, folder: Path) -> Path:
    """A copy of a build, its files linked where they can be: a server leaves a cache and compiled Python in what it
    serves, and others read what export wrote and nothing else.
    """
    return Path(shutil.copytree(build, folder / build.name, copy_function=_link))


def served_once(build: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The copy of `build` that the servers of all workers of this run share, with the cache that they fill."""
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "served"
    folder.mkdir(exist_ok=True)
    with FileLock(f"{folder / build.name}.lock"):
        return folder / build.name if (folder / build.name).is_dir() else copy_to_serve(build, folder)


def exported_once(kind: str, stages: Iterable[Stage], *, inlined: bool = True) -> dict[str, Path]:
    """Graphs by stage, to be read only, one set of a `kind` for all workers, and for later runs."""
    folder, graphs = _folder() / kind, dict[str, Path]()
    with FileLock(f"{folder}.lock"):
        for stage in stages:
            path = graphs[stage.name] = folder / f"{stage.name}.onnx"
            if not path.is_file():
                # Under its own name once it is whole: a run may be stopped while it exports.
                export_stage(stage, path.with_suffix(".partial"), inlined=inlined).replace(path)
    return graphs


def digest_of(root: Path, makers: Iterable[str], versions: Iterable[str]) -> str:
    """Sixteen digits that tell apart what the builds are made from: files below `root`, by name and content."""
    digest = hashlib.sha256("\n".join(versions).encode())
    for path in sorted(path for maker in makers for path in _files(root / maker)):
        digest.update(f"\n{path.relative_to(root)} {hashlib.sha256(path.read_bytes()).hexdigest()}".encode())
    return digest.hexdigest()[:16]


def keep_newest(folder: Path, count: int) -> None:
    """Remove all folders within but the `count` that were made or asked for last."""
    for old in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns, reverse=True)[count:]:
        shutil.rmtree(old, ignore_errors=True)


def _files(maker: Path) -> Iterator[Path]:
    if maker.is_file():
        yield maker
    else:
        yield from (path for path in maker.rglob("*") if path.is_file() and path.suffix != ".pyc")


@cache
def _folder() -> Path:
    versions = [
        platform.python_version(),
        *(f"{name} {importlib.metadata.version(name)}" for name in VERSIONED_PACKAGES),
    ]
    parent = REPOSITORY / "build" / "tests"
    folder = parent / digest_of(REPOSITORY, MAKERS, versions)
    with FileLock(REPOSITORY / "build" / "tests.lock"):
        folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder)
        keep_newest(parent, NUM_KEPT)
    return folder


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # of another file system
        shutil.copy2(source, target)
