"""`weights`: what is shipped with its true hash, what can be brought, what a file is."""

import hashlib
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
import typer.main
from safetensors.numpy import save_file
from typer.testing import CliRunner

from auralsam2 import checkpoints
from auralsam2.model.catalogue import BROUGHT, list_shipped
from auralsam2.model.shipped import shipped_weights
from auralsam2_client.contract import PROCEDURAL_WORLD
from service.commands.cli import app


def test_the_shipped_file_is_listed_as_it_is() -> None:
    result = CliRunner().invoke(app, ["weights"])
    path = shipped_weights("compact")
    assert path is not None
    assert result.exit_code == 0
    assert hashlib.sha256(path.read_bytes()).hexdigest() in result.output
    assert f"knows    {PROCEDURAL_WORLD}" in result.output
    for known in BROUGHT:
        assert known.name in result.output
        assert known.command in result.output


@pytest.mark.parametrize("known", [*BROUGHT, *list_shipped()], ids=lambda known: known.name)
def test_each_command_is_one_that_there_is(known: object) -> None:
    command: str = known.command  # type: ignore[attr-defined]
    program, verb, *words = shlex.split(command)
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert program == "auralsam2"
    options = {name for option in commands[verb].params for name in option.opts}
    assert {word for word in words if word.startswith("--")} <= options
    for word in words:
        if word.startswith(checkpoints.HUB_SCHEME):
            assert len(word.removeprefix(checkpoints.HUB_SCHEME).split("/")) >= 3


def test_a_file_is_described_by_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_file({"a": np.zeros(8, np.float32)}, path, metadata={checkpoints.TRAINED_ON: "my street"})
    result = CliRunner().invoke(app, ["weights", str(path)])
    assert result.exit_code == 0
    assert "knows    my street" in result.output
    assert hashlib.sha256(path.read_bytes()).hexdigest() in result.output


def test_what_is_no_file_of_weights_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "page.pth").write_text("<html>log in</html>")
    torch.save([1, 2, 3], tmp_path / "list.pth")
    for name in ("page.pth", "list.pth", "absent.pth"):
        result = CliRunner().invoke(app, ["weights", str(tmp_path / name)])
        assert result.exit_code == 3
        assert "error: " in result.output
