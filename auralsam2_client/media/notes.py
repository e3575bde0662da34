"""What was missing, damaged or filled up in a clip: counted while it is read, said in one line each."""

from dataclasses import dataclass, field

from auralsam2_client.errors import BadInput


@dataclass
class Notes:
    """Collects the lines of one reading.

    The rule for pictures and sound alike: what a player would show is read; what was missing or damaged is counted and
    said; `--strict` refuses it. What is whole and was filled up is said too, and refused by nobody.
    """

    name: str
    lines: list[str] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)

    def add(self, line: str) -> None:
        """Keep a line about something that is not damage."""
        self.lines.append(line)

    def add_damage(self, line: str) -> None:
        """Keep a line about something that was missing or damaged."""
        self.lines.append(line)
        self.damage.append(line)

    def merge(self, other: "Notes") -> None:
        """Take over the lines of another reading of the same file."""
        self.lines += other.lines
        self.damage += other.damage

    def check_whole(self) -> None:
        """Raise BadInput if anything was missing or damaged."""
        if self.damage:
            raise BadInput(
                f"{self.name} is not whole: {'; '.join(self.damage)}. Copy it again, or read what is there without "
                "--strict."
            )


def count_of(count: int, what: str) -> str:
    """Write a number with its noun: "1 packet", "3 packets"."""
    return f"{count} {what}{'' if count == 1 else 's'}"
