"""What a step of the export is handed to tell, line by line, the person who waits for it."""

from collections.abc import Callable

Report = Callable[[str], None]
