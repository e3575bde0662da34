"""The command: figures to a file, three clips to a picture, and faults with a way out."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from auralsam2 import checkpoints
from auralsam2.classes.class_head import ClassHead
from auralsam2.classes.head_file import header_of, tensors_of
from auralsam2.evaluation.classes.__main__ import main
from auralsam2.model.shipped import sha256_of, shipped_weights
from auralsam2.presets import preset
from auralsam2.training.run_folder import save_weights
from auralsam2_client.media.stills.class_colours import class_colours
from tests.auralsam2.data.folders import write_avsbench


def write_head(path: Path, names: tuple[str, ...]) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = ClassHead(preset("compact"), len(names))
    weights = shipped_weights("compact")
    assert weights is not None
    return save_weights(path, tensors_of(head), header_of(names, sha256_of(weights)))


def test_an_avsbench_folder_is_judged_by_the_names_of_its_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_avsbench(tmp_path / "data", {"v2": ["one", "two"]})
    # What the folder's labels are drawn in, (0, 0, 64), is the colour of number 32.
    names = {"background": 0} | {f"thing {number}": number for number in range(1, 33)}
    (root / "label2idx.json").write_text(json.dumps(names))
    head = write_head(tmp_path / "head.safetensors", ("thing 32", "thing 4"))
    out = tmp_path / "out" / "classes.json"
    arguments = ["--classes", str(head), "--data", str(root), "--out", str(out), "--workers", "1"]
    main(arguments)
    record = json.loads(out.read_text())
    assert record["classes"] == ["thing 32", "thing 4"]
    (case,) = record["cases"]
    assert (case["split"], case["hearing"], case["score"]["num_frames"]) == ("v2", "own", 10)
    assert set(case["agreement"]) == {"v2/one", "v2/two"}
    assert "true classes" in capsys.readouterr().out
    picture = np.asarray(Image.open(out.with_suffix(".png")))
    # The legend shows the colour of the class that is in the truth.
    assert (picture[-20:] == class_colours(32)[31]).all(-1).any()


def test_a_case_that_the_file_holds_is_not_judged_again(tmp_path: Path) -> None:
    root = write_avsbench(tmp_path / "data", {"v1m": ["one"], "v2": ["two"]})
    names = {"background": 0} | {f"thing {number}": number for number in range(1, 33)}
    (root / "label2idx.json").write_text(json.dumps(names))
    head = write_head(tmp_path / "head.safetensors", ("thing 32",))
    out = tmp_path / "classes.json"
    arguments = ["--classes", str(head), "--data", str(root), "--out", str(out), "--workers", "1"]
    main([*arguments, "--splits", "v1m"])
    record = json.loads(out.read_text())
    record["cases"][0]["named_right"] = 0.123
    out.write_text(json.dumps(record))
    main([*arguments, "--splits", "v1m", "v2"])
    cases = json.loads(out.read_text())["cases"]
    assert [(case["split"], case["named_right"] == 0.123) for case in cases] == [("v1m", True), ("v2", False)]
    # Figures of another head are not these.
    write_head(head, ("thing 31",))
    main([*arguments, "--splits", "v1m"])
    cases = json.loads(out.read_text())["cases"]
    assert [(case["split"], case["named_right"] == 0.123) for case in cases] == [("v1m", False)]


def test_files_that_do_not_fit_are_named_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, out = shipped_weights("compact"), tmp_path / "classes.json"
    assert weights is not None
    for arguments, said in (
        (["--classes", str(weights)], "compact.safetensors holds no class head"),
        (["--splits", "many"], "split 'many' is unknown; choose of single, multi, unseen"),
        (["--data", str(tmp_path)], "no label2idx.json"),
        (["--picture", str(weights / "classes.png")], "cannot be written"),
    ):
        with pytest.raises(SystemExit) as caught:
            main([*arguments, "--out", str(out), "--workers", "1"])
        assert caught.value.code == 2
        assert said in capsys.readouterr().err
    assert not out.exists()


def test_the_figures_that_are_kept_are_of_the_shipped_head() -> None:
    weights = shipped_weights("compact")
    assert weights is not None
    record = json.loads(weights.with_name("compact-classes.figures.json").read_text())
    cases = {(case["split"], case["hearing"]): case for case in record["cases"]}
    assert {len(case["agreement"]) for case in cases.values()} == {200}
    assert record["class_head_sha256"] == sha256_of(weights.with_name("compact-classes.safetensors"))
    assert record["classes"] == json.loads(
        checkpoints.header(str(weights.with_name("compact-classes.safetensors")))["classes"]
    )
    for split, least, most_lost in (("single", 0.80, 0.01), ("multi", 0.75, 0.04), ("unseen", 0.50, 0.05)):
        case = cases[split, "own"]
        mean_iou = case["score"]["avsbench"]["mean_iou"]
        assert mean_iou >= least
        assert mean_iou >= case["true_classes"]["avsbench"]["mean_iou"] - most_lost, "names cost little"
        assert case["exchanged"]["avsbench"]["mean_iou_without_background"] < 0.05
    own = cases["multi", "own"]["score"]["avsbench"]["mean_iou"]
    assert cases["multi", "other"]["score"]["avsbench"]["mean_iou"] < own - 0.3
    assert cases["multi", "tokens hear another"]["score"]["avsbench"]["mean_iou"] < own
