"""What a bench measures: one network, at one size, on clips of one length."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """Which network, at which size in px, on clips of how many frames."""

    preset: str
    image_size: int
    num_frames: int

    @classmethod
    def parse(cls, text: str) -> "Case":
        """Parse `preset:size:T`. Raises: ValueError that shows the form."""
        parts = text.split(":")
        if len(parts) != 3 or not all(part.isdecimal() for part in parts[1:]):
            raise ValueError(f"{text!r} is no case; write it as hiera_base_plus:1024:5 (preset:size:frames).")
        return cls(parts[0], int(parts[1]), int(parts[2]))

    @property
    def name(self) -> str:
        return f"{self.preset}-{self.image_size}-t{self.num_frames}"
