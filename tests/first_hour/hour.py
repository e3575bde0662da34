"""What the steps of the hour share: a checkout, commands run in it as a person types them, and what they said."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

LONGEST_S = 3600.0
# What a library says of itself where nobody explained it.
UNEXPLAINED = ("Traceback (most recent call last)", "[StatusCode.", "InferenceServerException")


class Failed(Exception):
    """A step did not go as the pages say."""


class LeftOut(Exception):
    """A step needs what this machine has not."""


@dataclass(frozen=True)
class Said:
    """What a command said, both streams in their order, and its exit code."""

    code: int
    text: str

    def expect(self, *words: str, code: int = 0) -> "Said":
        """Check the code and that these words came. Raises: Failed, with the end of what was said."""
        found = " ".join(self.text.split())
        missing = [each for each in words if each not in found]
        strange = [each for each in UNEXPLAINED if each in self.text]
        if self.code != code or missing or strange:
            raise Failed(
                f"code {self.code} ({code} expected); not said: {missing}; unexplained: {strange}; it ended:"
                f" {self.text[-1500:]}"
            )
        return self


@dataclass
class Hour:
    """Where the hour is played."""

    out: Path
    checkout: Path
    seed: int = 0
    steps_done: list[str] = field(default_factory=list)

    @property
    def random(self) -> random.Random:
        """Give numbers that follow from the seed."""
        return random.Random(self.seed)

    def program(self, name: str) -> str:
        """Tell where a program of the checkout's environment is."""
        return str(self.checkout / ".venv" / "bin" / name)

    def run(self, *command: str, cwd: Path | None = None, more: Mapping[str, str] | None = None) -> Said:
        """Run a command to its end, in the checkout unless told otherwise."""
        done = subprocess.run(
            command,
            cwd=cwd or self.checkout,
            env=environment(more),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LONGEST_S,
            check=False,
        )
        return Said(done.returncode, done.stdout)

    @contextmanager
    def running(self, *command: str, until: str, within_s: float = 300.0) -> Iterator[Path]:
        """Run a command beside the block, once it said `until`; end it with Ctrl-C. Yields: what it says, a file.

        Raises: Failed where it ends by itself before, or does not say it in time.
        """
        log = self.out / f"{Path(command[0]).name}-{len(list(self.out.glob('*.log')))}.log"
        with log.open("w") as file:
            process = subprocess.Popen(
                command,
                cwd=self.checkout,
                env=environment(),
                stdout=file,
                stderr=file,
                start_new_session=True,
                # Started in the background, a shell has it ignored.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )
        try:
            deadline = time.monotonic() + within_s
            while until not in log.read_text():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise Failed(f"{' '.join(command)} did not say {until!r}; it said: {log.read_text()[-1500:]}")
                time.sleep(0.2)
            yield log
        finally:
            if process.poll() is None:
                # To all of them, as a terminal does.
                os.killpg(process.pid, signal.SIGINT)
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()

    def kill_after(self, command: Sequence[str], seconds: float) -> bool:
        """Start a command and kill it so many seconds later; tell whether it was still running."""
        process = subprocess.Popen(
            command,
            cwd=self.checkout,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True
        return False


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Make the environment of somebody new: this one, without what belongs to another checkout."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("AURALSAM2_", "PYTHON", "VIRTUAL"))
    }
    return {**kept, **(more or {})}
