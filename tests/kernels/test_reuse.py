"""What the count of traffic takes for granted: what a launch reads again is still in the second-level cache.

Whole buffers do not fit, so for each kernel the bytes between two readings of the same place are bounded here, at
1024 px, and held against the cache of every card.
"""

import pytest
import torch

pytest.importorskip("triton", reason="the kernels are written for the triton package")

from kernels.catalogue import plans
from kernels.launching.cards import CARDS, Card
from kernels.launching.launch import Launch, Plan
from kernels.tuning import blocks_of

FUSIONS = ("fusion, released, 64 x 64", "fusion, paper, 64 x 64")
MEMORY, DEPTHWISE = "memory attention, 64 x 64", "depth-wise GELU, 64 x 64"
SMALLEST = min(CARDS, key=lambda card: card.cache_bytes)
every_card = pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
every_type = pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)


def shipped(card: Card, dtype: torch.dtype) -> dict[str, Plan]:
    return plans(dtype, blocks_of(dtype, f"sm_{card.capability}", card.capability))


def launch_of(plan: Plan, name: str) -> Launch:
    (found,) = (launch for launch in plan.launches if launch.name == name)
    return found


def test_the_cards_and_buffers_are_those_that_the_count_names() -> None:
    """A buffer of every launch does not fit the smallest cache, so the count may not argue that it does."""
    largest = max(
        buffer.num_bytes for plan in shipped(SMALLEST, torch.float16).values() for buffer in plan.buffers.values()
    )
    assert (SMALLEST.name, SMALLEST.cache_bytes >> 20) == ("A10", 6)
    words = " ".join((Plan.traffic.__doc__ or "").split())
    assert f"the largest is {largest / 1e6:.0f} MB in 16 bits" in words
    assert f"the smallest cache {SMALLEST.cache_bytes >> 20} MB" in words
    assert largest > SMALLEST.cache_bytes


@every_card
@every_type
def test_weights_that_every_program_reads_fit(card: Card, dtype: torch.dtype) -> None:
    made = shipped(card, dtype)
    shared = ("visual_in", "sound_in", "frame_out", "mixing", "scores", "folded", "projected")
    sizes = [made[name].buffers[key].num_bytes for name in FUSIONS for key in shared if key in made[name].buffers]
    assert len(sizes) >= 8
    assert sum(sizes) < card.cache_bytes


@every_card
@every_type
def test_a_row_of_strips_fits(card: Card, dtype: torch.dtype) -> None:
    """The strip below reads two rows of a strip again, after one row of strips was read and written."""
    plan = shipped(card, dtype)[DEPTHWISE]
    sizes = launch_of(plan, "depthwise_gelu").constants
    between = 2 * int(sizes["ROWS"]) * int(sizes["SIDE"]) * int(sizes["F"]) * dtype.itemsize
    assert between < card.cache_bytes


@every_card
@every_type
def test_a_slice_of_the_memory_fits_and_its_readers_run_together(card: Card, dtype: torch.dtype) -> None:
    plan = shipped(card, dtype)[MEMORY]
    attend = launch_of(plan, "attend_memory")
    width = plan.buffers["rotated"].shape[1] + plan.buffers["value"].shape[1]
    assert attend.integers["slice_keys"] * width * dtype.itemsize < card.cache_bytes
    # Programs are numbered by blocks of queries first, so those that share a slice start side by side.
    assert attend.grid[0] <= card.num_multiprocessors


@every_type
def test_tables_of_angles_are_read_again_on_the_smallest_card_alone(dtype: torch.dtype) -> None:
    """One frame's rows are read, turned and written before the tables are read for the next frame."""
    plan = shipped(SMALLEST, dtype)[MEMORY]
    rotate = launch_of(plan, "rotate_memory")
    num_queries, width = plan.buffers["query"].shape
    tables = plan.buffers["cos"].num_bytes + plan.buffers["sin"].num_bytes
    between = tables + 2 * num_queries * width * dtype.itemsize
    assert [card.name for card in CARDS if card.cache_bytes < between] == [SMALLEST.name]
    # What the count leaves out there, and that products bind the operator all the same.
    again = rotate.integers["num_rotated"] // num_queries * tables
    assert again == 7 * 4096 * 256 * 4
    counted = sum(plan.traffic().values())
    products = 2.0 * num_queries * rotate.integers["num_keys"] * (width + plan.buffers["value"].shape[1])
    if dtype == torch.float16:
        assert (counted + again) / SMALLEST.bandwidth < 0.5 * products / SMALLEST.half_flop
