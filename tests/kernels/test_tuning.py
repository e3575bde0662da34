"""Tables of block sizes: complete, honest about where they come from, looked up without a search."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kernels import tuning
from kernels.catalogue import default_blocks, plans
from kernels.launching.errors import KernelError
from kernels.launching.launch import ELEMENT_NAMES, Blocks
from kernels.launching.occupancy import ARCHITECTURES
from kernels.tune import CANDIDATES, candidates


@pytest.mark.parametrize("capability", ARCHITECTURES)
def test_every_capability_has_a_table_for_every_kernel(capability: int) -> None:
    table = tuning.table_of(f"sm_{capability}", capability)
    for dtype, name in ELEMENT_NAMES.items():
        assert set(table.blocks[name]) == set(default_blocks(dtype, capability))
        for kernel, usual in default_blocks(dtype, capability).items():
            assert set(table.blocks[name][kernel].sizes) == set(usual.sizes)


@pytest.mark.parametrize("path", sorted(tuning.FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_a_table_that_no_card_measured_says_so(path: Path) -> None:
    source = json.loads(path.read_text())["source"]
    assert source.startswith("measured on the card") or (
        path.stem.startswith("sm_") and source.endswith("no card has measured it")
    )


@pytest.mark.parametrize("card", ["NVIDIA H200"])
def test_a_measured_table_is_shipped_whole_and_serves_its_card(card: str) -> None:
    """The name is the driver's own; another card of the same capability keeps the modelled table."""
    tuning.table_of.cache_clear()
    table = tuning.table_of(card, 90)
    assert table.gpu == card
    assert table.source.startswith("measured on the card")
    assert tuning.table_of("NVIDIA H100 80GB HBM3", 90).gpu == "sm_90"
    for dtype, name in ELEMENT_NAMES.items():
        assert set(table.blocks[name]) == set(default_blocks(dtype, 90))
        for made in plans(dtype, tuning.blocks_of(dtype, card, 90)).values():
            assert all(size > 0 for launch in made.launches for size in launch.grid)


def test_a_card_s_own_table_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "FOLDER", tmp_path)
    tuning.table_of.cache_clear()
    blocks = {name: {"kernel": Blocks({"BLOCK": size}, 4, 1)} for size, name in enumerate(ELEMENT_NAMES.values())}
    modelled = tuning.Table("sm_90", "model", blocks)
    measured = tuning.Table("NVIDIA H100 80GB HBM3", "measured", {"fp16": {"kernel": Blocks({"BLOCK": 64}, 8, 3)}})
    tuning.write(modelled, tmp_path)
    assert tuning.blocks_of(torch.float16, "NVIDIA H100 80GB HBM3", 90) == blocks["fp16"]
    assert tuning.write(measured, tmp_path).name == "nvidia_h100_80gb_hbm3.json"
    tuning.table_of.cache_clear()
    assert tuning.blocks_of(torch.float16, "NVIDIA H100 80GB HBM3", 90) == measured.blocks["fp16"]
    tuning.table_of.cache_clear()


def test_a_card_or_type_without_kernels_is_refused_by_name() -> None:
    with pytest.raises(KernelError, match=r"Tesla T4 \(compute capability 75\); tables exist for sm_100, .*tune"):
        tuning.blocks_of(torch.float16, "Tesla T4", 75)
    with pytest.raises(KernelError, match=r"fp32, fp16, bf16, not for torch\.float64"):
        tuning.blocks_of(torch.float64, "sm_90", 90)


@pytest.mark.parametrize("kernel", CANDIDATES)
def test_candidates_start_with_the_default_and_never_repeat(kernel: str) -> None:
    usual = default_blocks(torch.float16, 90)[kernel]
    tried = list(candidates(kernel, usual))
    assert tried[0] == usual
    assert len(tried) > 1
    assert all(tried.count(blocks) == 1 for blocks in tried)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card to tune on")
def test_tuning_without_a_card_says_what_can_be_done(repository_root: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "kernels.tune"], cwd=repository_root, capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert "name a --capability to choose by the model" in result.stderr
