"""What the supervisor says of a server: that it answers and where, what failed, and what became of it."""

from collections.abc import Mapping

from service.builds.manifest import read_manifest
from service.logs.events import ERROR, Event
from service.server.config import ServerConfig
from service.server.launcher import Launcher
from service.supervision.restarts import LONGEST_PAUSE_S

_ADVICE = "Look at the log above, and run `auralsam2 doctor`"


def ready_event(config: ServerConfig, launcher: Launcher) -> Event:
    """Say that a launch is ready; the addresses of `config`, which callers reach, and the next command stand in it."""
    if launcher.first_digest:
        shown = f"the golden clip took {1e3 * launcher.golden_duration_s:.0f} ms, answer {launcher.first_digest[:12]}"
        shown += f"; paths asked: {', '.join(launcher.digests)}"
    else:
        shown = f"an earlier start has shown its answer, the golden clip follows in {config.canary_interval_s:g} s"
    pages = [config.metrics_url, *([config.exporter_url] if config.exporter_url else [])]
    command = f"auralsam2 segment CLIP --url {config.grpc_url}"
    manifest = read_manifest(config.build)
    fields = {
        "address": config.grpc_url,
        "metrics": pages,
        # What an earlier start has shown took its time then.
        "golden_ms": round(1e3 * launcher.golden_duration_s, 3) if launcher.first_digest else None,
        "golden_answer": launcher.first_digest,
        "golden_paths": list(launcher.digests),
        "build": manifest.name,
        "weights": manifest.weights,
        "trained_on": manifest.trained_on,
        "next": command,
    }
    where = f"ready on {config.grpc_url}; metrics on {' and '.join(pages)}"
    return Event("ready", f"{where}; {shown}. {manifest.weights} In another terminal: {command}", fields)


def restart_event(kind: str, cause: str, number: int, pause_s: float, stage: str) -> Event:
    """Say that the server is restarted after a pause, for the `number`th time of late; `stage` is the one at fault."""
    fields: dict[str, object] = {"kind": kind, "cause": cause, "pause_s": pause_s, "number": number}
    if stage:
        fields["stage"] = stage
    return Event("restart", f"restart {number} in {pause_s:g} s ({kind}): {cause}", fields, ERROR)


def restored_event(down_s: float, counts: Mapping[str, int]) -> Event:
    """Say that the server answers again, after `down_s`; `counts` are all restarts so far, by kind."""
    words = f"restored after {down_s:.1f} s; restarts so far: {dict(counts)}"
    return Event("restored", words, {"down_s": round(down_s, 3), "restarts": dict(counts)})


def gave_up_event(many: str, cause: str, counts: Mapping[str, int]) -> Event:
    """Say that the service ends, since it failed too often."""
    words = f"gave up: {many}. The last: {cause}. Counts: {dict(counts)}. {_ADVICE}, then start again."
    return Event("gave_up", words, {"cause": cause, "restarts": dict(counts)}, ERROR)


def degraded_event(many: str, cause: str) -> Event:
    """Say that the service goes on slowly, since it failed too often."""
    words = f"degraded: {many}, so that pauses grow up to {LONGEST_PAUSE_S:g} s. The last: {cause}. {_ADVICE}."
    return Event("degraded", words, {"cause": cause}, ERROR)
