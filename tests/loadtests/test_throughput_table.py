"""The paper's tables beside ours, and their picture."""

from pathlib import Path

import pytest
from PIL import Image

from loadtests.generator.modes import MODES
from loadtests.reports.picture import draw_table
from loadtests.throughput_table import PUBLISHED, SERVICE, TABLE_1, Timed, markdown, tables


def test_the_paper_asks_in_every_mode() -> None:
    assert {prompts for _, prompts, _ in TABLE_1} == set(MODES)


def test_the_table_has_every_row_of_the_paper_and_says_what_is_missing() -> None:
    fast, slow = (0.1, 0.2, 0.3), (0.4, 0.4, 0.4)
    found = tables(
        [Timed(SERVICE, "audio", "compact", 256, 5, fast), Timed(PUBLISHED, "audio", "compact", 256, 5, slow)]
    )
    row = next(row for row in found["table_1"] if row["method"] == SERVICE)
    assert (row["prompts"], row["paper_fps"]) == ("audio", 16.4)
    assert row["fps"]["median"] == pytest.approx(25)
    assert row["fps"]["p20"] < 25 < row["fps"]["p80"]
    assert row["ratio_to_published"] == pytest.approx(2)
    text = markdown(found, "conditions")
    assert "| GAVS | audio | 14.8 | | another method; not implemented here" in text
    assert "| SAM2 | box | 17.4 | | not measured: this build takes no prompts" in text
    assert sum(f"| {paper:.1f} |" in text for _, _, paper in TABLE_1) == len(TABLE_1)


def test_each_build_has_a_panel_of_its_own(tmp_path: Path) -> None:
    """The same methods in two builds are bars apart, not on top of each other."""
    seconds, heights = (0.1, 0.2, 0.3), []
    for builds in (["compact"], ["compact", "hiera_tiny"]):
        rows = [Timed(method, "audio", build, 256, 5, seconds) for build in builds for method in (SERVICE, PUBLISHED)]
        path = tmp_path / f"{len(builds)}.png"
        draw_table(tables(rows)["table_5"], "a caption " * 40, path)
        with Image.open(path) as picture:
            heights.append(picture.height)
    assert heights[1] > 1.5 * heights[0]
