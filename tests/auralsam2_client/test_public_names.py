"""What `import auralsam2_client` gives, and what it leaves alone."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import auralsam2_client

# Of the client's own requirements, these take long to import; of the others, no one who only asks a server has them.
SLOW = ("numpy", "PIL", "av", "soxr", "soundfile", "pycocotools", "grpc", "tritonclient")
STRANGE = ("torch", "triton", "typer", "rich", "psutil", "service", "auralsam2", "export", "model_repository")


def loaded(code: str) -> set[str]:
    """Top-level packages that a fresh interpreter holds after `code`."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_the_import_is_light() -> None:
    assert not loaded("import auralsam2_client") & {*SLOW, *STRANGE}


def test_media_are_read_without_a_network_and_arrays_sent_without_a_video_library() -> None:
    assert not loaded("from auralsam2_client import read_media, windows") & {"grpc", "tritonclient", *STRANGE}
    assert not loaded("from auralsam2_client import Client, Prompts") & {"av", "soundfile", *STRANGE}


def test_every_public_name_is_there_and_needs_neither_torch_nor_the_server() -> None:
    code = "import auralsam2_client as client\nfor name in dir(client):\n    getattr(client, name)"
    assert "tritonclient" in loaded(code)
    assert not loaded(code) & set(STRANGE)


def test_type_checkers_see_the_same_names() -> None:
    """The names under TYPE_CHECKING and those that are imported when asked for come from the same modules."""
    tree = ast.parse(Path(str(auralsam2_client.__file__)).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    shown = {
        alias.asname: (node.module, alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    given = {name: (f"auralsam2_client.{place}", name) for name, place in auralsam2_client._MODULE_OF.items()}
    assert shown == given
    assert set(shown) <= set(dir(auralsam2_client))


def test_an_unknown_name_is_refused_by_name() -> None:
    with pytest.raises(AttributeError, match=r"'Clinet'.*Client"):
        auralsam2_client.Clinet  # noqa: B018
    assert (Path(str(auralsam2_client.__file__)).with_name("py.typed")).is_file()
