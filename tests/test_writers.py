"""What writes files in folders that a person names: through `auralsam2_client.new_file`, which follows no link.

Read from the sources, so that a writer that is added does it too.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("auralsam2", "auralsam2_client", "export", "loadtests", "service")
WRITERS = ("write_text", "write_bytes", "savefig", "copyfile", "copy2", "copytree")
# Other places, and why no link is followed there.
ELSEWHERE = {
    "export/": "a build grows in a folder that the export itself makes, exclusively",
    "loadtests/wire/instant_build.py": "a build in a temporary folder of its own",
    "loadtests/gpu/": "files of a job are removed first and opened as new",
    "service/door/front_door.py": "a temporary folder of its own",
    "service/server/serving.py": "a log at the very path that the caller gives",
    "service/monitoring/dashboard.py": "rewrites a file of the checkout",
}
# As the place is called that `new_file` gives.
PARTIAL = "partial"


def writers(path: Path) -> Iterator[str]:
    """Calls that write to a path, and not to the one that `new_file` gives."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            modes = [each.value for each in node.args if isinstance(each, ast.Constant) and name == "open"]
            opens = any(isinstance(mode, str) and mode[:1] in ("w", "a") for mode in modes)
            if (name in WRITERS or opens) and PARTIAL not in ast.unparse(node):
                yield f"{path.relative_to(ROOT).as_posix()}:{node.lineno}: {ast.unparse(node)[:80]}"


def test_writers_in_folders_of_a_persons_go_by_new_file() -> None:
    paths = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
    found = [line for path in paths for line in writers(path)]
    assert [line for line in found if not line.startswith(tuple(ELSEWHERE))] == []
    # It finds writers, and every place that is left out has one.
    assert [place for place in ELSEWHERE if not any(line.startswith(place) for line in found)] == []
