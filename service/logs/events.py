"""One event of a log: when, what, and its figures; as a line of JSON for machines, or of text for a person."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

SERVER, REQUEST = "server", "request"
"""Names of events that are not the supervisor's own: a line of the server's log, and an answered or refused request."""
INFO, WARNING, ERROR = "info", "warning", "error"
# Of a line of text. One of JSON has at most six times as many, should each have to be escaped.
MAX_MESSAGE = 8192


@dataclass(frozen=True)
class Event:
    """Something that happened. `fields` hold numbers, text, or mappings of them; their names are those of the JSON."""

    name: str
    message: str
    fields: Mapping[str, object] = field(default_factory=dict)
    level: str = INFO
    quiet: bool = False
    """For the file alone: nobody who watches a terminal misses it."""
    time_s: float = field(default_factory=time.time)

    @property
    def speaker(self) -> str:
        """Who says it: server, request, or supervisor."""
        return self.name if self.name in (SERVER, REQUEST) else "supervisor"


Tell = Callable[[Event], None]
"""Takes an event, from any thread."""
Sink = Callable[[str], None]
"""Takes a line without its end."""


def timestamp(time_s: float) -> str:
    """Write seconds of the epoch as RFC 3339 does, in UTC, with milliseconds."""
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def as_json(event: Event) -> str:
    """Write an event as one line of ASCII: whatever a caller chose, an id or a name, cannot make a line of its own."""
    head: dict[str, object] = {"time": timestamp(event.time_s), "level": event.level, "event": event.name}
    return json.dumps({**head, **event.fields, "message": event.message[:MAX_MESSAGE]}, default=str)


def as_text(event: Event) -> str:
    """Write an event as one line for a person."""
    return f"{timestamp(event.time_s)} {event.speaker}: {one_line(event.message[:MAX_MESSAGE])}"


def one_line(text: str) -> str:
    """Escape what would end a line or command a terminal."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def as_lines(sink: Sink) -> Tell:
    """Make of what takes lines something that takes events: those of the server bare, the others with their speaker."""

    def tell(event: Event) -> None:
        sink(event.message if event.speaker == SERVER else f"{event.speaker}: {event.message}")

    return tell
