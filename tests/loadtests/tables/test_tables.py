"""The paper's tables: every row of it, what was measured beside it, and a run that goes on where it was stopped."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from auralsam2.data.world.held_out import read_split
from auralsam2.model.loading import load_network
from auralsam2.model.published import Published
from auralsam2.network.log_mel import LogMel
from auralsam2.training.settings import FULL_STEPS
from auralsam2_client.calls.wire import ClipShape
from auralsam2_client.contract import METHODS
from export.errors import ParityError
from loadtests.generator.clips import procedural
from loadtests.generator.modes import MODES
from loadtests.tables import __main__ as command
from loadtests.tables import paper, picture, quality, report, sizes, speed
from loadtests.tables.parts import Part

AUDIO = {row.name: row for row in paper.TABLE_1 if row.prompts == "audio"}


def test_the_paper_has_thirteen_rows_and_asks_in_every_mode() -> None:
    assert len(paper.TABLE_1) == len({row.key for row in paper.TABLE_1}) == 13
    assert {row.prompts for row in paper.TABLE_1} == set(MODES)
    assert {row.method for row in paper.TABLE_1} == set(METHODS)
    assert AUDIO["GAVS"].fps / AUDIO["AuralSAM2"].fps == pytest.approx(0.90, abs=0.005)
    assert [row.key for row in sizes.BY_SOUND] == [paper.BESIDE]


def record(**found: Any) -> dict[str, Any]:
    empty = {
        "speed": {},
        "quality": {},
        "clips": 0,
        "seeds": {},
        "sizes": {},
        "sizes_speed": {},
        "training": {},
        "words": {},
    }
    return {"num_frames": 5, "split": "multi", "steps": 240, "caption": "On a machine.", **empty, **found}


def test_the_report_has_every_row_and_says_what_was_not_measured() -> None:
    seconds = {"AuralSAM2, audio": ((0.1, 0.1), (0.2, 0.2)), "GAVS, audio": ((0.2, 0.2), (0.4, 0.4))}
    measured = {key: {"service": list(here), "published": list(there)} for key, (here, there) in seconds.items()}
    scores = {"GAVS, audio": {"m_j": [0.75, 0.7, 0.8], "m_f": [0.85, 0.8, 0.9]}}
    text = report.markdown(record(speed=measured, quality=scores, clips=3))
    lines = {line.split(" | ")[0] + ", " + line.split(" | ")[1]: line for line in text.splitlines() if " | " in line}
    assert set(lines) >= {f"| {row.key}" for row in paper.TABLE_1}
    own = "25.0 (25.0-25.0) | 200 / 200 | 2.00 | 0.50 | 0.50 | 0.90 | 75.0 (70.0-80.0) | 85.0 (80.0-90.0) | 68.13"
    assert own in lines["| GAVS, audio"]
    assert "not measured" in lines["| SAM2, box"]
    assert "Table 4" not in text


def test_the_other_tables_stand_beside_the_papers() -> None:
    runs = {str(seed): {"m_j": 0.5 + 0.01 * seed, "m_f": 0.6} for seed in range(3)}
    cost = {"peak_bytes": 2e9, "seconds": {"one frame": [1.0], "whole clips": [2.0]}, "parameters_that_learn": 1e6}
    times = {AUDIO["AuralSAM2"].key: {"service": [0.5], "published": [1.0]}}
    text = report.markdown(
        record(
            seeds=runs,
            sizes={"256": {"m_j": 0.8, "m_f": 0.9}},
            sizes_speed={"compact-256-t5": times},
            training={"auralsam2": cost, "gavs": cost | {"seconds": {"one frame": [2.0], "whole clips": [4.0]}}},
        )
    )
    assert "| here | 3 | 51.00 +- 1.00 | 60.00 +- 0.00 |" in text
    assert "| paper | 5 | 71.98 +- 0.09 | 81.41 +- 0.07 |" in text
    assert "| 256 | 80.00 | 90.00 |" in text
    assert "| compact-256-t5 | 10.00 (10.00-10.00) | 500 / 500 | 2.00 |" in text
    hours = FULL_STEPS / 2 * 3 / 3600
    assert f"| auralsam2 | 1.0 | 2.00 | 1.00 / 2.00 | {hours:.2f} | 1.00 | 18.94 | 2.6 | 1.00 |" in text
    assert "| 2.00 | 19.14 | 2.9 | 1.12 |" in text


def test_figure_1_says_what_words_are_worth() -> None:
    means = {"clips": 9, "M_J": 0.5, "M_J interval": [0.4, 0.6], "M_F": 0.625, "empty": 0.1}
    groups = {"all": {"sound": means, "both": means}, "needed": {"sound": means | {"M_F": None}}}
    text = report.markdown(record(words={"seen": groups}))
    assert "| seen | all, 9 | sound | 50.0 (40.0-60.0) | 62.5 | 10% | 47.24 |" in text
    assert "| seen | all, 9 | both | 50.0 (40.0-60.0) | 62.5 | 10% | 56.16 |" in text
    assert "| seen | needed, 9 | sound | 50.0 (40.0-60.0) |  | 10% |  |" in text


def test_a_part_is_gone_on_with_and_another_set_up_begins_again(tmp_path: Path) -> None:
    Part(tmp_path, "speed", {"weights": ("a", 1)}).keep("row", [1.5])
    assert Part(tmp_path, "speed", {"weights": ("a", 1)}).found == {"row": [1.5]}
    assert Part(tmp_path, "speed", {"weights": ("b", 1)}).found == {}
    (tmp_path / "speed.json").write_text('{"about": {')
    assert Part(tmp_path, "speed", {"weights": ("a", 1)}).found == {}


def test_what_is_measured_already_starts_no_server(tmp_path: Path) -> None:
    part = Part(tmp_path, "speed", {})
    for row in paper.TABLE_1:
        part.keep(row.key, {"service": [1.0, 1.0], "published": [1.0, 1.0]})
    speed.measure(paper.TABLE_1, dict.fromkeys(METHODS, tmp_path / "no build"), 2, part, 60)


@pytest.mark.parametrize("prompts", MODES)
def test_the_published_form_is_asked_what_the_service_is_asked(prompts: str) -> None:
    (clip,) = procedural(ClipShape(2, 256), 1)
    found: Any = speed.in_published_form(Published(load_network("compact")[0]), MODES[prompts], clip)()
    parts = found if isinstance(found, tuple) and prompts.startswith("audio+") else (found,)
    assert len(parts) == (2 if prompts.startswith("audio+") else 1)
    sent = MODES[prompts].tensors(256)
    if prompts != "audio":
        prompt = speed.prompt_of(MODES[prompts], clip)
        assert prompt.frame == int(sent.get("PROMPT_FRAME", [0])[0])
        assert len(prompt.labels) == int((sent.get("POINT_LABELS", np.array([-1])) >= 0).sum())
        assert (prompt.mask is not None) == (prompts == "mask")


def test_every_row_is_answered_and_scored_on_one_clip(tmp_path: Path) -> None:
    networks = {method: load_network("compact", method=method)[0] for method in METHODS}
    sample = next(sample for sample in read_split("multi", 5) if sample.masks.any())
    with torch.inference_mode():
        found = quality.answers(paper.TABLE_1, networks, sample, LogMel(), np.random.default_rng(0))
    assert set(found) == {row.key for row in paper.TABLE_1}
    # SAM2's own result is one for all; adapters prompted alone see another picture.
    assert torch.equal(found["SAM2, points+box"], found["AuralSAM2, points+box"])
    assert not torch.equal(found["GAVS, points+box"], found["AuralSAM2, points+box"])
    scores = {key: quality.score(logits, sample.masks) for key, logits in found.items()}
    assert all(0 <= value <= 1 for score in scores.values() for value in score.values())
    means = quality.summary({"one": scores, "two": scores, "silent": None})
    assert means["GAVS, audio"]["m_j"] == pytest.approx([scores["GAVS, audio"]["m_j"]] * 3)


def test_a_perfect_mask_scores_one() -> None:
    truth = np.zeros((2, 16, 16), np.bool_)
    truth[0, 4:12, 4:12] = True
    logits = torch.where(torch.from_numpy(truth[:, ::4, ::4]), 20.0, -20.0)
    found = quality.score(logits, truth)
    assert found["m_j"] > 0.7
    empty = quality.score(torch.full((2, 4, 4), -20.0), truth)
    assert empty["m_j"] == pytest.approx(0.5), "a frame without object counts what was left empty"
    marks = quality.marks(truth[::-1], np.random.default_rng(1))
    assert {prompt.frame for prompt in marks.values()} == {1}, "the first frame in which anything sounds"
    assert set(marks) == {"points", "box", "points+box", "mask"}
    assert marks["box"].coords.tolist() == [[4, 4], [11, 11]]
    assert ((marks["points"].coords >= 4) & (marks["points"].coords < 12)).all()
    mask = marks["mask"].mask
    assert mask is not None
    assert (mask > 0).numpy().tolist() == truth[0, 2::4, 2::4].tolist()


def test_an_interval_holds_the_mean_and_narrows_with_clips() -> None:
    rng = np.random.default_rng(3)
    few, many = (quality.interval(rng.uniform(0, 1, count)) for count in (10, 1000))
    for mean, low, high in (few, many):
        assert low < mean < high
    assert many[2] - many[1] < few[2] - few[1]


def test_the_picture_has_a_place_for_every_row(tmp_path: Path) -> None:
    picture.draw({}, {}, "nothing yet", tmp_path / "tables.png")
    with Image.open(tmp_path / "tables.png") as drawn:
        assert drawn.width > 800


def test_an_export_that_does_not_pass_ends_the_command_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*given: object) -> Path:
        raise ParityError("hiera differs by 1.")

    monkeypatch.setattr(command, "build_repository", fail)
    where = ["--out", str(tmp_path / "out"), "--builds", str(tmp_path / "builds")]
    assert command.main([*where, "--only", "table 1"]) == 1
    assert "error: hiera differs by 1." in capsys.readouterr().err
