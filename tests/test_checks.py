"""The checks before a commit are those of `make check`, with the tools that set-up installs."""

import re
import shlex

import yaml

from tests.conftest import REPOSITORY


def test_hooks_are_the_checks_and_fetch_nothing() -> None:
    (source,) = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())["repos"]
    assert source["repo"] == "local"
    assert all(hook["language"] == "system" for hook in source["hooks"])
    entries = [shlex.split(hook["entry"]) for hook in source["hooks"]]
    assert all(words[0].startswith(".venv/bin/") for words in entries)
    makefile = (REPOSITORY / "Makefile").read_text()
    (recipe,) = re.findall(r"(?m)^check:.*\n((?:\t.*\n)+)", makefile)
    checks = [shlex.split(line.replace("$(BIN)", ".venv/bin")) for line in recipe.splitlines()]
    # A hook names files and mends their format; the check names the whole tree and only looks.
    beside = {"--check", "--force-exclude", "."}
    assert [[word for word in words if word not in beside] for words in entries] == [
        [word for word in words if word not in beside] for words in checks
    ]
