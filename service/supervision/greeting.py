"""What a server says once it answers: where it is, how that was shown, and what to do next."""

from service.logs.events import Event
from service.server.launcher import Launcher


def ready_event(launcher: Launcher) -> Event:
    """Say that a launch is ready; its addresses and the next command stand in the line itself."""
    config = launcher.config
    if launcher.first_digest:
        shown = f"the golden clip took {1e3 * launcher.golden_duration_s:.0f} ms, answer {launcher.first_digest[:12]}"
    else:
        shown = f"an earlier start has shown its answer, the golden clip follows in {config.canary_interval_s:g} s"
    pages = [config.metrics_url, *([config.exporter_url] if config.exporter_url else [])]
    command = f"auralsam2 segment CLIP --url {config.grpc_url}"
    fields = {
        "address": config.grpc_url,
        "metrics": pages,
        "golden_ms": round(1e3 * launcher.golden_duration_s, 3),
        "golden_answer": launcher.first_digest,
        "next": command,
    }
    where = f"ready on {config.grpc_url}; metrics on {' and '.join(pages)}"
    return Event("ready", f"{where}; {shown}. In another terminal: {command}", fields)
