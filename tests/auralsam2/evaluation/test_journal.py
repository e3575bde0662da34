"""An evaluation that is interrupted goes on where it was, and its figures are those of one that was not."""

import os
from pathlib import Path

import numpy as np
import pytest

from auralsam2.data.samples import Sample, Unread
from auralsam2.errors import DataError, NetworkError
from auralsam2.evaluation.journal import FileJournal, identify
from auralsam2.evaluation.predictions import Prediction
from auralsam2.evaluation.protocol import PROJECT_AVSBENCH, RELEASED_AVSBENCH, RELEASED_REF_AVS, Protocol
from auralsam2.evaluation.scoring import LeftOut, SplitReport, evaluate

NUM_CLIPS = 7
ABOUT = {"weights": "a", "seed": 0}


class Model:
    """Answers by noise that the clip's name seeds, counts what it is asked, and may stop as a person stops a run."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.asked: list[str] = []
        self.stop_at = stop_at

    def __call__(self, sample: Sample) -> Prediction:
        if len(self.asked) == self.stop_at:
            raise KeyboardInterrupt
        self.asked.append(sample.name)
        rng = np.random.default_rng(int(sample.name))
        shapes = ((3, 3, 4, 4), (3, 3), (3,))
        return Prediction(*(rng.standard_normal(shape).astype(np.float32) for shape in shapes))


class DataSet:
    """Clips of three frames, some of which show nothing; the numbers in `broken` cannot be read."""

    def __init__(self, *broken: int) -> None:
        self.broken = set(broken)
        self.read: list[int] = []

    def clips(self) -> list[Unread]:
        return [Unread(str(number), lambda number=number: self._clip(number)) for number in range(NUM_CLIPS)]  # type: ignore[misc]

    def _clip(self, number: int) -> Sample:
        self.read.append(number)
        if number in self.broken:
            raise DataError(f"clip {number} is broken")
        masks = np.random.default_rng(100 + number).uniform(size=(3, 20, 12)) < 0.3
        masks[number % 3 :: 3] = False
        windows = np.zeros((3, 15600, 2), np.float32)
        return Sample(str(number), np.zeros((3, 20, 12, 3), np.uint8), windows, masks)


def judge(data: DataSet, model: Model, protocol: Protocol, journal: FileJournal | None = None) -> SplitReport:
    return evaluate("a", data.clips(), model, protocol=protocol, journal=journal)


PROTOCOLS = (PROJECT_AVSBENCH, RELEASED_AVSBENCH, RELEASED_REF_AVS)


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=["project", "released", "ref_avs"])
@pytest.mark.parametrize("stop_at", [0, 1, 3, 4])
@pytest.mark.parametrize("broken", [(), (0, 2)])
def test_a_run_that_was_stopped_gives_the_figures_of_one_that_was_not(
    tmp_path: Path, protocol: Protocol, stop_at: int, broken: tuple[int, ...]
) -> None:
    whole = judge(DataSet(*broken), Model(), protocol)
    out = tmp_path / "figures.json"
    with pytest.raises(KeyboardInterrupt):
        judge(DataSet(*broken), Model(stop_at), protocol, FileJournal(out, ABOUT))
    journal = FileJournal(out, ABOUT)
    assert journal.num_clips == stop_at - stop_at % protocol.clips_per_batch
    model, data = Model(), DataSet(*broken)
    assert judge(data, model, protocol, journal) == whole
    assert len(model.asked) == NUM_CLIPS - len(broken) - journal.num_clips
    # What was scored is not even read; what could not be is tried again.
    assert len(data.read) == NUM_CLIPS - journal.num_clips
    journal.remove()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("protocol", [RELEASED_AVSBENCH, RELEASED_REF_AVS], ids=["1", "4"])
@pytest.mark.parametrize(("before", "now"), [((1, 3), (3,)), ((6,), ()), ((0,), ())])
def test_a_clip_that_was_mended_in_between_counts(
    tmp_path: Path, protocol: Protocol, before: tuple[int, ...], now: tuple[int, ...]
) -> None:
    out = tmp_path / "figures.json"
    judge(DataSet(*before), Model(), protocol, FileJournal(out, ABOUT))
    model = Model()
    assert judge(DataSet(*now), model, protocol, FileJournal(out, ABOUT)) == judge(DataSet(*now), Model(), protocol)
    if protocol.clips_per_batch == 1:
        assert model.asked == [str(number) for number in before if number not in now]
    again = Model()
    judge(DataSet(*now), again, protocol, FileJournal(out, ABOUT))
    assert again.asked == []


@pytest.mark.parametrize("cut", [1, 40, 1000])
def test_a_line_that_a_kill_left_half_written_is_dropped(tmp_path: Path, cut: int) -> None:
    out = tmp_path / "figures.json"
    whole = judge(DataSet(), Model(), RELEASED_AVSBENCH, FileJournal(out, ABOUT))
    (path,) = tmp_path.iterdir()
    os.truncate(path, path.stat().st_size - cut)
    journal = FileJournal(out, ABOUT)
    assert journal.num_clips < NUM_CLIPS
    assert judge(DataSet(), Model(), RELEASED_AVSBENCH, journal) == whole
    assert FileJournal(out, ABOUT).num_clips == NUM_CLIPS


def test_another_run_has_another_file_and_a_foreign_one_is_not_believed(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    judge(DataSet(), Model(), RELEASED_AVSBENCH, FileJournal(out, ABOUT))
    other = FileJournal(out, ABOUT | {"seed": 1})
    assert other.num_clips == 0
    (path,) = tmp_path.iterdir()
    path.rename(other.path)
    assert FileJournal(out, ABOUT | {"seed": 1}).num_clips == 0


def test_a_file_that_was_written_again_is_another(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"1")
    os.utime(path, ns=(0, 10**9))
    first = identify(path)
    assert identify(path) == first
    os.utime(path, ns=(0, 2 * 10**9))
    assert identify(path) != first


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    journal = FileJournal(tmp_path / "file" / "figures.json", ABOUT)
    with pytest.raises(NetworkError, match=r"figures\.json\..*\.partial cannot be written"):
        judge(DataSet(), Model(), RELEASED_AVSBENCH, journal)


def test_clips_that_cannot_be_read_are_left_out_as_if_they_were_not_listed() -> None:
    told: list[LeftOut] = []
    data = DataSet(0, 4)
    report = evaluate("a", data.clips(), Model(), protocol=RELEASED_REF_AVS, on_left_out=told.append)
    assert report.left_out == (LeftOut("0", "clip 0 is broken"), LeftOut("4", "clip 4 is broken")) == tuple(told)
    assert report.num_clips == NUM_CLIPS - 2
    listed = [clip for clip in DataSet().clips() if clip.name not in "04"]
    alone = evaluate("a", listed, Model(), protocol=RELEASED_REF_AVS)
    assert report.scores == alone.scores
    assert list(report.as_json()["left_out"]) == [
        {"clip": "0", "fault": "clip 0 is broken"},
        {"clip": "4", "fault": "clip 4 is broken"},
    ]


def test_no_clip_that_can_be_read() -> None:
    with pytest.raises(DataError, match=r"split 'a': none of its 7 clips can be used\. 0: clip 0 is broken"):
        judge(DataSet(*range(NUM_CLIPS)), Model(), RELEASED_AVSBENCH)
