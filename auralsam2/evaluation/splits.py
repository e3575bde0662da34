"""The splits that can be judged on, by layout and name."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import get_args

from auralsam2.data import avsbench, ref_avs, world
from auralsam2.data.samples import Unread
from auralsam2.data.world import held_out
from auralsam2.errors import DataError
from auralsam2.evaluation.protocol import LAYOUTS, Protocol


def open_splits(
    layout: str | None,
    root: Path | None,
    names: list[str] | None,
    limit: int | None,
    seed: int = held_out.SEED,
    *,
    protocol: Protocol,
) -> dict[str, list[Unread]]:
    """Open the splits asked for, by name, in order; each clip is read when it is asked for.

    Args:
        layout: "avsbench" | "ref-avs"; None: the procedural world.
        root: the data set's folder.
        names: of the splits; None: all that the layout has.
        limit: clips of each split; None: all (procedural: 200).
        seed: of the procedural clips.
        protocol: how data sets are read.
    Raises: DataError for an unknown layout or split, a count below 1, or a data set that does not list a split.
    """
    if limit is not None and limit < 1:
        raise DataError(f"clips = {limit}; at least one is needed.")
    readers: dict[str, Callable[[], list[Unread]]]
    if layout is None:
        count = held_out.NUM_CLIPS if limit is None else limit
        readers = {s: partial(held_out.open_split, s, count, seed) for s in get_args(world.Split)}
    elif layout not in LAYOUTS or root is None:
        raise DataError(f"layout {layout!r} is unknown; choose one of {', '.join(LAYOUTS)}.")
    elif layout == "avsbench":
        read = partial(avsbench.open_split, pooled=protocol.pooled_v2, resampler=protocol.resampler)
        readers = {s: partial(read, root, s, "test", limit) for s in avsbench.SUBSETS}
    else:
        read = partial(ref_avs.open_split, resampler=protocol.resampler, least_examples=protocol.least_examples)
        readers = {s: partial(read, root, s, limit) for s in ref_avs.SPLITS}
    unknown = [name for name in names or () if name not in readers]
    if unknown:
        raise DataError(f"split {unknown[0]!r} is unknown; choose of {', '.join(readers)}.")
    return {name: readers[name]() for name in names or readers}
