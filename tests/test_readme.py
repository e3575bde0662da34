"""Every code block of the README is run, or held against what the project really has."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from service.commands.cli import app

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def blocks(repository_root: Path) -> list[tuple[str, str]]:
    return BLOCK.findall((repository_root / "README.md").read_text())


# What each example prints, line by line.
PRINTED = (
    (r"\d s: \d+\.\d% of the frame, object score [+-]\d", 5),
    (r"audio(\+points)?(\+box)?: \d+\.\d% of the clip, predicted IoU \d\.\d\d", 4),
)


@pytest.mark.parametrize("index", range(len(PRINTED)))
def test_the_python_examples_run_as_they_stand(
    served_compact: Any, demo_clip: Path, blocks: list[tuple[str, str]], tmp_path: Path, index: int
) -> None:
    examples = [code for language, code in blocks if language == "python"]
    assert len(examples) == len(PRINTED)
    # Only the port differs: the test's server listens where there was room.
    code = examples[index].replace("127.0.0.1:8001", served_compact.config.grpc_url)
    shutil.copy(demo_clip, tmp_path / "my.mp4")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    line, count = PRINTED[index]
    assert len(re.findall(f"^{line}", done.stdout, re.MULTILINE)) == count, done.stdout


def test_every_shell_command_exists(blocks: list[tuple[str, str]], repository_root: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (repository_root / "Makefile").read_text(), re.MULTILINE))
    commands = get_command(app)
    seen = 0
    for language, code in blocks:
        if language != "bash":
            continue
        for line in code.splitlines():
            words = shlex.split(line, comments=True)
            seen += 1
            if words[0] == "make":
                assert words[1] in targets, line
            elif words[0] == "auralsam2":
                # The CLI knows the verb and each of its options.
                command = commands.commands[words[1]]  # type: ignore[attr-defined]
                options = {
                    name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)
                }
                assert {word for word in words if word.startswith("-")} <= options, line
            elif words[:3] == ["docker", "compose", "--profile"]:
                compose = yaml.safe_load((repository_root / "compose.yaml").read_text())
                assert any(words[3] in service.get("profiles", []) for service in compose["services"].values()), line
            else:
                assert words in ([".", ".venv/bin/activate"], ["tensorboard", "--logdir", "runs"]), line
    assert seen >= 8


def test_ci_calls_the_readmes_own_commands(repository_root: Path) -> None:
    script = (repository_root / ".ci" / "run").read_text()
    assert "make test" in script
    assert "make check" in script


def test_every_module_that_the_readme_names_exists(repository_root: Path) -> None:
    text = (repository_root / "README.md").read_text()
    names = re.findall(r"`((?:service|model_repository|auralsam2|auralsam2_client|export)/[\w./]*)`", text)
    assert len(names) >= 10
    for name in names:
        assert (repository_root / name).exists(), name
