"""`auralsam2 evaluate`: figures in a table and a file, the server against the network, faults."""

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from auralsam2 import AuralSAM2
from auralsam2.data.samples import Sample
from auralsam2.evaluation import in_process as in_process_room
from auralsam2.evaluation.predictions import Prediction, Predictor
from auralsam2.model.parity_weights import parity_state
from service.commands.cli import app

# The figures through the server may differ from the network's own by this much.
MAX_DIFFERENCE = 0.002
CLIPS = 4


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def figures(path: Path) -> dict[tuple[str, str], dict[str, float]]:
    record = json.loads(path.read_text())
    return {(split["split"], name): score for split in record["splits"] for name, score in split["scores"].items()}


@pytest.fixture(scope="module")
def in_process(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], dict[str, float]]:
    path = tmp_path_factory.mktemp("figures") / "in_process.json"
    result = run("evaluate", "--protocol", "project", "--clips", str(CLIPS), "-o", path)
    assert result.exit_code == 0, result.output
    for word in ("single", "multi", "unseen", "first", "iou_occlusion *", "M_J", "M_F", "shipped weights"):
        assert word in result.output
    title = " ".join(result.output.split("┏")[0].split())
    assert "in process, float32" in title
    assert "protocol: project, precision: float32" in title
    record = json.loads(path.read_text())
    assert record["protocol"]["name"] == "project"
    assert all((s["protocol"], s["headline"]) == ("project", "iou_occlusion") for s in record["splits"])
    return figures(path)


def test_every_split_and_read_out_has_its_figures(in_process: dict[tuple[str, str], dict[str, float]]) -> None:
    wanted = {(s, r) for s in ("single", "multi", "unseen") for r in ("first", "iou", "iou_occlusion")}
    assert set(in_process) == wanted
    assert all(0 <= score["mean_jaccard"] <= 1 and 0 <= score["mean_f_score"] <= 1 for score in in_process.values())


def test_the_server_gives_the_networks_figures(
    served_compact: Any, in_process: dict[tuple[str, str], dict[str, float]], tmp_path: Path
) -> None:
    url = served_compact.config.grpc_url
    arguments = ["--through-server", "--url", url, "--protocol", "project", "--clips", str(CLIPS)]
    result = run("evaluate", *arguments, "-o", tmp_path / "served.json")
    assert result.exit_code == 0, result.output
    # The protocol's float32 is the network's in process; what the server computes in, its build decides.
    protocol = json.loads((tmp_path / "served.json").read_text())["protocol"]
    assert protocol["precision"] == protocol["conditioning"] == "of the build"
    served = figures(tmp_path / "served.json")
    for key, score in in_process.items():
        assert served[key]["mean_jaccard"] == pytest.approx(score["mean_jaccard"], abs=MAX_DIFFERENCE), key
        assert served[key]["mean_f_score"] == pytest.approx(score["mean_f_score"], abs=MAX_DIFFERENCE), key


def test_a_server_is_started_on_a_build_where_no_url_is_given(compact_build: Path, tmp_path: Path) -> None:
    out = tmp_path / "served.json"
    result = run(
        "evaluate", "--through-server", "--build", compact_build, "--split", "multi", "--clips", "1", "-o", out
    )
    assert result.exit_code == 0, result.output
    assert json.loads(out.read_text())["model"] == f"server on {compact_build}"


def test_without_a_card_cuda_is_refused_before_a_clip_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = run("evaluate", "--device", "cuda", "-o", tmp_path / "r.json")
    assert result.exit_code == 3
    assert "sees no card" in result.output
    assert "or take --device cpu" in result.output
    assert not (tmp_path / "r.json").exists()


def test_the_released_protocol_is_the_default_and_says_so(tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    arguments = ["evaluate", "--split", "multi", "--clips", "2", "-o", out]
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    title = " ".join(result.output.split("┏")[0].split())
    assert "in process, bfloat16" in title
    assert "protocol: released, precision: bfloat16" in title
    assert "iou *" in result.output
    rounded = json.loads(out.read_text())
    assert (rounded["protocol"]["name"], rounded["protocol"]["precision"]) == ("released", "bfloat16")
    assert [(s["protocol"], s["headline"]) for s in rounded["splits"]] == [("released", "iou")]
    result = run(*arguments, "--precision", "float32")
    assert result.exit_code == 0, result.output
    exact = json.loads(out.read_text())
    assert (exact["protocol"]["name"], exact["protocol"]["precision"]) == ("released", "float32")
    assert exact["model"].endswith("in process, float32")
    assert exact["device"] == "cpu"
    # Two computations, not one with two names.
    assert exact["splits"][0]["scores"] != rounded["splits"][0]["scores"]


def test_released_v2_pools_the_clips_of_all_subsets(folders: Any, tmp_path: Path) -> None:
    root = folders.write_avsbench(tmp_path / "avs", {"v1s": ["a"], "v1m": ["b"], "v2": ["c"]})
    for protocol, clips in (("released", 3), ("project", 1)):
        arguments = ["--data", root, "--split", "v2", "--protocol", protocol, "-o", tmp_path / "r.json"]
        result = run("evaluate", *arguments)
        assert result.exit_code == 0, result.output
        (split,) = json.loads((tmp_path / "r.json").read_text())["splits"]
        assert split["num_clips"] == clips, protocol


def test_a_folder_in_avsbench_layout(folders: Any, tmp_path: Path) -> None:
    root = folders.write_avsbench(tmp_path / "avs", {"v1s": ["a"], "v1m": ["b", "c"]})
    arguments = ["--data", root, "--split", "v1s", "--split", "v1m", "--sound", "silent", "-o", tmp_path / "r.json"]
    result = run("evaluate", *arguments)
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "r.json").read_text())
    assert [(s["split"], s["num_clips"], s["num_frames"]) for s in record["splits"]] == [("v1s", 1, 5), ("v1m", 2, 10)]
    assert record["sound"] == "silent"


def test_clips_of_another_length_than_the_servers(served_compact: Any, folders: Any, tmp_path: Path) -> None:
    folders.write_avsbench(tmp_path, {"v2": []})
    folders.write_clip(tmp_path / "v2" / "long", num_frames=10)
    with (tmp_path / "metadata.csv").open("a") as table:
        table.write("x,long,0,10,piano,test,v2\n")
    url = served_compact.config.grpc_url
    result = run("evaluate", "--data", tmp_path, "--split", "v2", "--through-server", "--url", url)
    assert result.exit_code == 2
    assert "10 frames, but the server takes clips of 5. Export a build with --num-frames 10" in result.output


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--data", "nowhere"], 2, "nowhere: no metadata.csv"),
        (["--layout", "coco", "--data", "nowhere"], 2, "layout 'coco' is unknown"),
        (["--split", "triple"], 2, "split 'triple' is unknown"),
        (["--clips", "0"], 2, "clips = 0"),
        (["--sound", "loud", "--clips", "2"], 2, "sound 'loud' is unknown"),
        (["--protocol", "paper"], 2, "protocol 'paper' is unknown; choose one of released, project"),
        (["--precision", "float16"], 2, "precision 'float16' is unknown; choose one of bfloat16, float32"),
        (["--through-server", "--precision", "float32"], 2, "--precision is for the network in this process"),
        (["--through-server", "--device", "auto"], 2, "--device is for the network in this process"),
        (["--device", "gpu"], 3, "device 'gpu' is unknown; choose one of cpu, cuda, auto"),
        (["--preset", "hiera_tiny"], 3, "no weights are shipped"),
        (["--checkpoint", "nowhere.pth"], 3, "nowhere.pth: no such file"),
    ],
)
def test_what_cannot_be_judged_is_named(arguments: list[str], code: int, words: str, tmp_path: Path) -> None:
    result = run("evaluate", *arguments, "-o", tmp_path / "r.json")
    assert result.exit_code == code, result.output
    assert words in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "r.json").exists()


def test_a_faulty_clip_is_named_with_its_file(folders: Any, tmp_path: Path) -> None:
    root = folders.write_avsbench(tmp_path, {"v1m": ["a"]})
    (root / "v1m" / "a" / "labels_rgb" / "2.png").write_bytes(b"broken")
    result = run("evaluate", "--data", root, "--split", "v1m", "-o", tmp_path / "r.json")
    assert result.exit_code == 2
    assert "labels_rgb/2.png cannot be read as an image: none of PNG, JPEG" in result.output
    assert "2.png: " not in result.output, "the file is named once in a sentence"


def test_clips_that_are_not_whole_are_named_and_left_out(folders: Any, tmp_path: Path) -> None:
    root = folders.write_avsbench(tmp_path, {"v1m": ["a", "b", "c", "d"]})
    (root / "v1m" / "a" / "labels_rgb" / "._0.png").write_bytes(b"\0\5\x16\7" + b"\0" * 90)
    folders.write_tone(root / "v1m" / "b" / "audio.wav", 3.4)
    shutil.rmtree(root / "v1m" / "d")
    (root / "metadata.csv").write_text((root / "metadata.csv").read_text().replace("x,c,", "x,../../outside,"))
    result = run("evaluate", "--data", root, "--split", "v1m", "--precision", "float32", "-o", tmp_path / "r.json")
    assert result.exit_code == 7, result.output
    for name in ("b", "../../outside", "d"):
        assert f"left out: v1m/{name}: " in result.output
    assert "the figures are of 1 clips; 3 were left out" in result.output
    (split,) = json.loads((tmp_path / "r.json").read_text())["splits"]
    assert split["num_clips"] == 1
    assert [clip["clip"] for clip in split["left_out"]] == ["v1m/b", "v1m/../../outside", "v1m/d"]
    assert "3.40 s of sound for 5 frames" in split["left_out"][0]["fault"]
    # The figures are those of a data set that lists the whole clip alone.
    alone = folders.write_avsbench(tmp_path / "alone", {"v1m": ["a"]})
    whole = run("evaluate", "--data", alone, "--split", "v1m", "--precision", "float32", "-o", tmp_path / "w.json")
    assert whole.exit_code == 0, whole.output
    assert json.loads((tmp_path / "w.json").read_text())["splits"][0]["scores"] == split["scores"]
    assert not list(tmp_path.glob("*.partial"))


def test_an_interrupted_evaluation_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def predictor(*_network: object) -> Predictor:
        def predict(sample: Sample) -> Prediction:
            if len(asked) == 2:
                raise KeyboardInterrupt
            asked.append(sample.name)
            draw = np.random.default_rng(len(sample.name)).standard_normal
            return Prediction(*(draw(shape).astype(np.float32) for shape in ((5, 3, 8, 8), (5, 3), (5,))))

        return predict

    monkeypatch.setattr(in_process_room, "network_predictor", predictor)
    arguments = ["evaluate", "--split", "multi", "--clips", "3", "-o", tmp_path / "r.json"]
    stopped = run(*arguments)
    assert stopped.exit_code == 130
    (journal,) = tmp_path.glob("r.json.*.partial")
    assert f"interrupted; the clips scored so far are kept in {journal}. Go on with:" in stopped.output
    command = ["auralsam2", "evaluate", "--split", "multi", "--clips", "3", "--out", str(tmp_path / "r.json")]
    assert sorted(shlex.split(stopped.output.splitlines()[-1])) == sorted(command)
    assert not (tmp_path / "r.json").exists()
    asked.clear()
    # Another seed is another run.
    assert "goes on" not in run(*arguments, "--seed", "1").output
    asked[:] = ["before"]
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert "goes on: 2 clips were scored before" in result.output
    assert asked == ["before", "multi-00002"]
    assert json.loads((tmp_path / "r.json").read_text())["splits"][0]["num_clips"] == 3
    # The other run's is left for it.
    assert len(list(tmp_path.glob("r.json.*.partial"))) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html><html>", "error: w.pth: an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "error: w.pth: a Git LFS pointer"),
        (None, "error: w.pth: v_model.no_mem_embed: 1 of 64 values are not finite (1 NaN)"),
    ],
)
def test_weights_that_are_none_give_no_figures(tmp_path: Path, content: bytes | None, words: str) -> None:
    path, out = tmp_path / "w.pth", tmp_path / "r.json"
    if content is None:
        value = torch.zeros(1, 1, 64)
        value[0, 0, 3] = torch.nan
        torch.save({"v_model.no_mem_embed": value}, path)
    else:
        path.write_bytes(content)
    result = run("evaluate", "--split", "single", "--clips", "1", "--checkpoint", path, "-o", out)
    assert result.exit_code == 3
    assert words in result.output
    assert len(result.output.splitlines()) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_checkpoint_of_another_preset(tmp_path: Path) -> None:
    path = tmp_path / "tiny.pth"
    torch.save(parity_state(AuralSAM2.from_preset("hiera_tiny", 224), 51), path)
    result = run("evaluate", "--checkpoint", path, "--clips", "1")
    assert result.exit_code == 3
    assert "Is it a checkpoint of another preset?" in result.output
