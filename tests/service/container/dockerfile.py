"""Reads a Dockerfile into stages and holds them to what an image of this service must guarantee, in any wording."""

import importlib.util
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from service.container.healthcheck import PATIENCE_S
from service.server.config import PREFIX, ServerConfig

# Before it the server has holes that NVIDIA's bulletins describe.
OLDEST_SAFE_TRITON = (26, 7)
LABELS = ("title", "description", "licenses", "version", "revision", "source")
INSTALLERS = re.compile(r"\b(pip|apt-get|apt|conda|uv|curl|wget)\b")
# All that a runtime may install: the front door's packages, each with its release.
DOOR = re.compile(
    r'apt-get update && apt-get install -y --no-install-recommends "nginx(-light)?=1\.[0-9.*-]+"'
    r' "libnginx-mod-http-headers-more-filter=1:0\.[0-9.*-]+" && rm -rf /var/lib/apt/lists/\*'
)
# Of the entry point, not of the server.
ENTRY_SETTINGS = {"TARGET", "VOLUME", "RELEASE"}


@dataclass(frozen=True)
class Stage:
    """One stage: what it begins from, and its instructions in order, continued lines joined, comments left out."""

    name: str
    base: str
    instructions: tuple[tuple[str, str], ...]

    def all(self, keyword: str) -> list[str]:
        return [rest for word, rest in self.instructions if word == keyword]

    def last(self, keyword: str) -> str:
        return (self.all(keyword) or [""])[-1]

    def variables(self) -> dict[str, str]:
        return dict(pair.split("=", 1) for rest in self.all("ENV") for pair in rest.split() if "=" in pair)


@dataclass(frozen=True)
class Dockerfile:
    arguments: dict[str, str]
    """Defaults of the arguments before the first stage."""
    stages: dict[str, Stage]

    @property
    def runtimes(self) -> list[Stage]:
        """Stages that are images: no other stage copies from them."""
        builders = set(re.findall(r"--from=(\S+)", str([stage.instructions for stage in self.stages.values()])))
        return [stage for stage in self.stages.values() if stage.name not in builders]


def read_dockerfile(text: str) -> Dockerfile:
    """Parse the instructions of a Dockerfile; each stage must have a name."""
    joined = re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", text))
    lines = [line.split(None, 1) for line in joined.splitlines() if line.strip()]
    arguments: dict[str, str] = {}
    stages: dict[str, tuple[str, list[tuple[str, str]]]] = {}
    name = ""
    for word, rest in lines:
        if word == "FROM":
            base, name = re.split(r"\s+AS\s+", rest)
            stages[name] = (base, [])
        elif name:
            stages[name][1].append((word, " ".join(rest.split())))
        elif word == "ARG":
            key, _, default = rest.partition("=")
            arguments[key] = default
    return Dockerfile(arguments, {name: Stage(name, base, tuple(found)) for name, (base, found) in stages.items()})


def base_violations(file: Dockerfile) -> Iterator[str]:
    """Yield where a stage begins from something that moves, or from a server with known holes."""
    for stage in file.stages.values():
        names = re.findall(r"\$\{(\w+)", stage.base)
        tags = [file.arguments.get(name, "") for name in names if name.endswith("_VERSION")]
        if not any(re.match(r"\d+\.\d+", tag) for tag in tags):
            yield f"{stage.name} begins from {stage.base}, whose release is not named"
        if not any(name.endswith("_DIGEST") and f"@${{{name}}}" in stage.base for name in names):
            yield f"{stage.name} begins from {stage.base}, which no digest can pin"
        if "tritonserver" in stage.base and tuple(map(int, tags[0].split("."))) < OLDEST_SAFE_TRITON:
            yield f"{stage.name} begins from a server with known holes, {tags[0]}"


def runtime_violations(stage: Stage, bases: dict[str, Stage]) -> Iterator[str]:
    """Yield what an image of this service must guarantee and `stage` does not."""
    user, _, group = stage.last("USER").partition(":")
    if not (user.isdigit() and group.isdigit() and int(user) and int(group)):
        yield f"it runs as {user or 'root'}:{group}, not as a number that an orchestrator sees is not root"
    runs = stage.all("RUN")
    yield from (f"it installs packages: {run}" for run in runs if INSTALLERS.search(run) and not DOOR.fullmatch(run))
    if not any(DOOR.fullmatch(run) for run in runs):
        yield "it has no front door: nginx is not installed"
    volumes = stage.last("VOLUME").split()
    for folder in volumes:
        owners = [re.findall(r"--(?:owner|group)=(\d+)", run) for run in runs if folder in run.split()]
        if owners != [[user, group]]:
            yield f"{folder} is not made for {user}:{group}, from which a volume takes its owner"
    variables = stage.variables()
    for key in (f"{PREFIX}VOLUME", f"{PREFIX}CACHE_DIR"):
        if variables.get(key) not in volumes:
            yield f"{key} is {variables.get(key)}, not one of the volumes {volumes}"
    fields = {name.upper() for name in ServerConfig.__dataclass_fields__} | ENTRY_SETTINGS
    unknown = {key for key in variables if key.startswith(PREFIX)} - {PREFIX + name for name in fields}
    yield from (f"{key} is no setting" for key in sorted(unknown))
    if (f"{PREFIX}TRITONSERVER" in variables) != ("tritonserver" in stage.base):
        yield "the installed server is named where there is none, or not where there is one"
    copies = [rest.split() for rest in stage.all("COPY")]
    own = [words for words in copies if not words[0].startswith("--from=")]
    programs = [Path(words[-1]) for words in own if words[-2].endswith("entrypoint.sh") and "--chmod=0555" in words]
    if len(own) != 1 or [path.name for path in programs] != json.loads(stage.last("ENTRYPOINT") or "[]"):
        yield "its entry point is not the one file that it takes from the repository, read-only and executable"
    sources = {words[0].removeprefix("--from=") for words in copies} & set(bases)
    if any(bases[source].base != stage.base for source in sources):
        yield f"it copies from {sources}, which begins from another base: libraries may not fit"
    search = variables.get("PATH", "").split(":")[0]
    if not any(search.startswith(words[-1]) for words in copies):
        yield f"PATH begins with {search}, which is not copied"
    if stage.last("STOPSIGNAL") != "SIGTERM":
        yield "docker stop does not send SIGTERM, on which clips under way are finished"
    if stage.all("EXPOSE") != [str(ServerConfig.grpc_port)]:
        yield f"it exposes {stage.all('EXPOSE')}, not gRPC alone"
    yield from health_violations(stage.last("HEALTHCHECK"))
    labels = " ".join(stage.all("LABEL"))
    yield from (f"label {name} is missing" for name in LABELS if f"org.opencontainers.image.{name}=" not in labels)


def health_violations(check: str) -> Iterator[str]:
    """Yield what is wrong with a HEALTHCHECK: it must run the module, and give it the time that it takes."""
    options, _, command = check.partition("CMD ")
    words = json.loads(command) if command.startswith("[") else []
    if words[:2] != ["python", "-m"] or importlib.util.find_spec(words[2]) is None:
        yield f"its health check is {command or 'missing'}, not a module of the image"
    timeout = re.search(r"--timeout=(\d+)s", options)
    if timeout is None or timedelta(seconds=int(timeout[1])) < timedelta(seconds=2 * PATIENCE_S):
        yield f"its health check has {options}, less than twice the {PATIENCE_S} s that the module waits"


def violations(text: str) -> list[str]:
    """List all that a Dockerfile lacks, each line with its stage; empty for one that keeps every promise."""
    file = read_dockerfile(text)
    found = list(base_violations(file))
    for stage in file.runtimes:
        found += [f"{stage.name}: {line}" for line in runtime_violations(stage, file.stages)]
    return found
