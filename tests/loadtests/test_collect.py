"""The page of results is made of the kept files, and the page on speed quotes it."""

import re
from pathlib import Path

from loadtests.collect import RESULTS, page


def test_the_page_is_what_its_files_say() -> None:
    assert (RESULTS / "README.md").read_text() == page(RESULTS)


def test_the_page_on_speed_quotes_rows_as_they_were_measured(repository_root: Path) -> None:
    measured = page(RESULTS).splitlines()
    text = (repository_root / "docs" / "performance.md").read_text()
    (quoted,) = re.findall(r"<!-- rows of loadtests/results/README.md -->\n(.*?)<!-- end -->", text, re.DOTALL)
    rows = [line for line in quoted.splitlines() if line.startswith("|")]
    assert len(rows) > 5
    assert [row for row in rows if row not in measured] == []


def test_pictures_of_the_page_are_there() -> None:
    for name in re.findall(r"\]\((\w+\.png)\)", page(RESULTS)):
        assert (RESULTS / name).read_bytes().startswith(b"\x89PNG")
