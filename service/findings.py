"""What a look at this machine found: one row of the doctor's table."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One row of the doctor's table.

    `needed_for` is empty when every command needs it; then `ok` False means that nothing can be served.
    """

    name: str
    ok: bool
    found: str
    fix: str = ""
    needed_for: str = ""
