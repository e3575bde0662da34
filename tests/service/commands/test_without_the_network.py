"""Commands on a machine that has the client and the service, but not what the network needs: one sentence each."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

VERBS = ("export", "engines", "weights", "demo", "train", "evaluate")
# One process for all: packages that an import may not find, then each command as a person calls it.
SCRIPT = """
import importlib.abc, json, sys
from pathlib import Path
hidden, out = set(sys.argv[1].split(",")), sys.argv[2]

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from typer.testing import CliRunner
from service.commands.cli import app
more = {"demo": ["--out", out], "train": ["--out", out], "export": ["--out", out + "/build"]}
found = {}
for verb in %r:
    result = CliRunner().invoke(app, [verb, *more.get(verb, [])])
    found[verb] = [result.exit_code, result.output, repr(result.exception)]
print(json.dumps(found))
"""


@pytest.mark.parametrize("hidden", ["torch,sam2", "sam2"])
def test_what_is_missing_is_named_with_the_way_to_get_it(hidden: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT % (VERBS,), hidden, str(tmp_path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=tmp_path)
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found) == set(VERBS)
    named = hidden.partition(",")[0]
    for verb, (code, words, error) in found.items():
        if code == 0:
            # Nothing of the network was needed.
            assert verb == "weights"
            continue
        assert code == 3, (verb, words, error)
        assert "make setup" in words or "auralsam2 export" in words, (verb, words)
        assert named in words or verb == "engines", (verb, words)
