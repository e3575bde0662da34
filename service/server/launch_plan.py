"""What comes before a start: the build and this machine are proven to fit each other, and the server is chosen."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from auralsam2_client.contract import SESSION
from auralsam2_client.errors import ConfigError
from service.builds.engine_check import check_engine_caches, check_engines
from service.builds.golden import Golden
from service.builds.gpu_memory import plan_memory
from service.builds.gpus import require_gpus
from service.builds.manifest import Manifest, read_manifest, verify_files
from service.cards.checks import Need
from service.cards.driver import Card
from service.cards.in_use import CardsInUse, visible
from service.cards.visibility import VARIABLE as VISIBLE_DEVICES
from service.machine.shared_memory import check_shared_memory, needed_bytes
from service.server.config import PREFIX, ServerConfig
from service.server.flags import command_line, known_flags
from service.server.installed_server import EMBEDDED_BACKEND, installed_home, installed_program, installed_version
from service.server.runtime import embedded_program, environment, find_runtime, torch_path

# Inductor took two minutes for hiera_base_plus at 1024 px on a prototype with 16 cores; hiera_large, and fewer cores,
# take longer.
COMPILING_TIMEOUT_S = 1800.0


@dataclass(frozen=True)
class LaunchPlan:
    """A build that may be served, and how. `notes` are lines for the log."""

    config: ServerConfig
    manifest: Manifest
    golden: Golden
    memory_flags: tuple[str, ...]
    notes: tuple[str, ...]
    cards: tuple[Card, ...] = ()
    """Of a build that computes in PyTorch on a card; no other is shown to the server."""

    @property
    def ready_timeout_s(self) -> float:
        """Seconds until the server is ready at the latest; on cards, those of a compiler.

        Only the stages can tell whether compiled code in the cache is of this card and this PyTorch.
        """
        return max(self.config.ready_timeout_s, COMPILING_TIMEOUT_S) if self.cards else self.config.ready_timeout_s

    @property
    def python_stages(self) -> bool:
        """Names of the stages that run in Python processes."""
        return self.manifest.backend == "python"

    def command(self, folder: Path, mark: str) -> tuple[list[str], dict[str, str]]:
        """Build the server's command line and its variables.

        Args:
            folder: of this run; the embedded server's backends are laid out in it.
            mark: of this run.
        Raises: ConfigError naming the part of the server that is missing, or why it does not run.
        """
        config = self.config
        if config.tritonserver is None:
            runtime = find_runtime(config.server_env)
            program = embedded_program(runtime, folder)
        else:
            runtime = None
            program = installed_program(config.tritonserver, self.manifest.backend, config.server_env)
        variables = environment(program, config, mark, torch_path(runtime) if self.manifest.in_pytorch else "")
        if self.cards:
            variables[VISIBLE_DEVICES] = visible(self.cards)
            variables |= compiled_code(config.cache)
        known = known_flags(program, variables)
        flags = command_line(
            program, config, mark, known, python_stages=self.python_stages, memory_flags=self.memory_flags
        )
        return flags, variables


def plan_launch(config: ServerConfig, cards: CardsInUse | None = None) -> LaunchPlan:
    """Prove that a build can be served here. Cheap checks come before the hashes of gigabytes.

    `cards`: what is known of the machine's cards from earlier starts of this service.

    Raises: ConfigError naming what is missing or does not fit, and the way out.
    """
    manifest = read_manifest(config.build)
    home = installed_home(config, manifest)
    memory_flags: list[str] = []
    notes = []
    if home is not None:
        installed_program(home, manifest.backend, config.server_env)
        notes.append(f"serving with Triton Inference Server {installed_version(home)} of {home}")
    chosen: tuple[Card, ...] = ()
    if manifest.needs_gpu and manifest.in_pytorch:
        fit = (CardsInUse() if cards is None else cards).choose(Need(**manifest.card))
        # The server counts the cards that it is shown.
        chosen = fit.cards
        shown = [replace(card, index=index) for index, card in enumerate(chosen)]
        memory = plan_memory(config.models)
        memory_flags = memory.flags(shown)
        notes += [*fit.notes, f"serving on {', '.join(map(str, chosen))}: {memory}"]
    elif manifest.needs_gpu:
        gpus = require_gpus(manifest.target)
        if manifest.target == "tensorrt":
            check_engines(config.build, gpus)
        check_engine_caches(config.models)
        memory = plan_memory(config.models)
        memory_flags = memory.flags(gpus)
        notes.append(f"serving on {', '.join(map(str, gpus))}: {memory}")
    if manifest.backend == EMBEDDED_BACKEND:
        default, growth = config.shm_default_byte_size, config.shm_growth_byte_size
        check_shared_memory(needed_bytes(config.models, default, growth, on_cards=manifest.needs_gpu))
    verify_files(config.build, manifest)
    golden = Golden.load(config.build)
    if len(golden.requests) == 1 and (config.models / SESSION).is_dir():
        notes.append(
            f"Warning: {config.build.name} was exported before prompts and sessions had golden requests, so that they"
            " are proven by their hashes alone. Export it again: auralsam2 export."
        )
    if not config.is_loopback:
        holes = " and published security holes" if home is None else ""
        notes.append(
            f"Warning: gRPC listens on {config.host}, beyond this machine. This server release has no "
            f"authentication{holes}: let only a gateway of yours reach it."
        )
    return LaunchPlan(config, manifest, golden, tuple(memory_flags), tuple(notes), chosen)


def compiled_code(cache: Path) -> dict[str, str]:
    """Tell Inductor and Triton to keep what they compile with the build, as the variables that they read.

    The file that came with the build is of the first card and of the PyTorch that exported it. Everything else would go
    into the system's temporary folder, where it is gone after a restart, and into a home that may be missing.
    """
    if not os.access(cache, os.W_OK | os.X_OK):
        return {}
    return {"TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"), "TRITON_CACHE_DIR": str(cache / "triton")}


def make_cache(config: ServerConfig, sink: Callable[[str], None]) -> None:
    """Make the folder in which engines keep what they compiled. Raises: ConfigError when it cannot be made."""
    way_out = f"Name a folder that this user can write with --cache-dir or {PREFIX}CACHE_DIR."
    try:
        config.cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{config.cache} cannot be made ({error.strerror}); engines keep there what they compiled. {way_out}"
        ) from error
    if not os.access(config.cache, os.W_OK | os.X_OK):
        sink(f"Warning: {config.cache} cannot be written, so that every start compiles again. {way_out}")
