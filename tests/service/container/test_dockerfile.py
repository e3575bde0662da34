"""What the images guarantee: the rules of dockerfile.py, each seen to fail, a linter, and nothing secret."""

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.service.container.dockerfile import read_dockerfile, violations
from tests.service.container.tools import tool

ROOT = Path(__file__).resolve().parents[3]
ENTRYPOINT = ROOT / "service" / "container" / "entrypoint.sh"
TEXT = (ROOT / "Dockerfile").read_text()


def test_the_images_keep_every_promise() -> None:
    assert {stage.name for stage in read_dockerfile(TEXT).runtimes} == {"cpu", "gpu"}
    assert violations(TEXT) == []


@pytest.mark.parametrize(
    ("pattern", "worse", "message"),
    [
        (r"(?m)^USER .*$", "USER root", "it runs as root"),
        (r"(?m)^USER .*$", "USER 2000:2000", "is not made for 2000:2000"),
        (r"(?m)^USER .*$", "RUN pip install torch\nUSER 1000:1000", "it installs packages"),
        (r'"nginx(-light)?=', '"curl=1 nginx=', "it installs packages"),
        (r"apt-get update", "true", "it has no front door"),
        (r"(?m)^VOLUME .*$", "", "not one of the volumes"),
        (r"(?m)^STOPSIGNAL .*$", "STOPSIGNAL SIGINT", "docker stop does not send SIGTERM"),
        (r"(?m)^EXPOSE .*$", "EXPOSE 8001 8002", "not gRPC alone"),
        (r"service\.container\.healthcheck", "service.container.health", "not a module of the image"),
        (r"--timeout=\d+s", "--timeout=1s", "less than twice"),
        (r"--chmod=0555 ", "", "its entry point is not"),
        (r"AURALSAM2_CACHE_DIR", "AURALSAM2_CACHE_FOLDER", "AURALSAM2_CACHE_FOLDER is no setting"),
        (r"AURALSAM2_TRITONSERVER=\S+", "X=1", "the installed server is named"),
        (r"image\.revision=", "image.rev=", "label revision is missing"),
        (r"(?m)^ARG TRITON_VERSION=.*$", "ARG TRITON_VERSION=26.06", "a server with known holes, 26.06"),
        (r"(?m)^ARG PYTHON_VERSION=.*$", "ARG PYTHON_VERSION=latest", "whose release is not named"),
        (r"\$\{PYTHON_DIGEST:\+@\$\{PYTHON_DIGEST\}\}", "", "which no digest can pin"),
        (r"FROM python(\S+) AS cpu\n", r"FROM debian\1 AS cpu\n", "which begins from another base"),
    ],
)
def test_a_broken_promise_is_found(pattern: str, worse: str, message: str) -> None:
    text, count = re.subn(pattern, worse, TEXT)
    assert count
    assert any(message in line for line in violations(text)), violations(text)


def test_hadolint_has_nothing_to_say() -> None:
    done = tool("hadolint", "--no-color", "--failure-threshold", "style", str(ROOT / "Dockerfile"))
    assert (done.returncode, done.stdout) == (0, "")
    # No rule is ignored, so none has to be explained.
    assert "hadolint ignore" not in TEXT
    assert not list(ROOT.glob(".hadolint*"))
    done = tool("hadolint", "--no-color", "-", given=re.sub(r"(?m)^USER .*$", "USER root", TEXT))
    assert done.returncode == 1
    assert "DL3002" in done.stdout


def test_no_secret_and_no_other_host() -> None:
    for path in (ROOT / "Dockerfile", ROOT / "compose.yaml", ENTRYPOINT):
        hosts = set(re.findall(r"\b(?:[a-z0-9-]+\.)+(?:io|org|com|net|ai|dev|co)\b(?=[/:])", path.read_text()))
        assert hosts <= {"nvcr.io"}, path
        assert not re.search(r"(?i)(password|token|api_?key)\s*[:=]\s*\S", path.read_text()), path


def test_what_the_dockerfile_copies_reaches_the_builder() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    copies = [rest.split() for stage in read_dockerfile(TEXT).stages.values() for rest in stage.all("COPY")]
    sources = {
        word.split("/")[0]
        for words in copies
        if not words[0].startswith("--from=")
        for word in words[:-1]
        if not word.startswith("--")
    }
    assert sources == allowed
    assert all((ROOT / source).exists() for source in sources)
    assert not {"tests", "build", "runs", "out", ".git", ".venv"} & sources
    assert any(fnmatch("service/__pycache__", rule) for rule in rules if rule.startswith("**"))
