"""`python -m loadtests.chaos`: faults one after the other, in an order that a seed gives, under numbered requests."""

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from auralsam2_client.calls.client import Client
from auralsam2_client.errors import AuralServeError
from auralsam2_client.new_file import write_new
from loadtests.chaos import callers, machine, processes
from loadtests.chaos.around import Around
from loadtests.chaos.fault import Fault
from loadtests.chaos.load import OK, WRONG, Load, digest, longest_silence_s
from loadtests.chaos.report import holds, markdown
from loadtests.generator.clips import Clip, procedural

FAULTS: tuple[Fault, ...] = (*processes.FAULTS, *callers.FAULTS, *machine.FAULTS)
"""All that there are; a module with more of them adds its own here."""
# Until a fault shows, and until its traces are gone.
SETTLE_S = 3.0


def put_through(fault: Fault, around: Around, load: Load, clip: Clip, right: str) -> dict[str, Any]:
    """Hold one fault, wait until the service is back, and return what it cost. Raises: AuralServeError if it is not."""
    before = around.memory_bytes(), around.open_files()
    load.take()
    with fault.holds(around):
        time.sleep(fault.seconds)
    time.sleep(SETTLE_S)
    around.wait_until_ready()
    # A fault may show only now; whoever asks is answered once it is over.
    load.wait_for_answer()
    around.wait_until_ready()
    # A connection of its own: one that failed waits for seconds before it tries again.
    with Client(around.url, retries=5) as ask:
        same = digest(ask, clip) == right
    time.sleep(SETTLE_S)
    outcomes = load.take()
    return {
        "name": fault.name,
        "by_code": dict(Counter(outcome.code for outcome in outcomes)),
        "wrong": sum(outcome.code == WRONG for outcome in outcomes),
        "same_bytes": same,
        "silence_s": longest_silence_s(outcomes),
        "memory": [before[0], around.memory_bytes()],
        "files": [before[1], around.open_files()],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.chaos", description=__doc__)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("out/chaos"))
    parser.add_argument("--seconds", type=float, default=600.0, help="after which no other fault begins")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--callers", type=int, default=4)
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    until, chance, rows = time.monotonic() + given.seconds, random.Random(given.seed), list[dict[str, Any]]()
    try:
        with Around(given.build, given.out / "serve.log") as around:
            with Client(around.url) as ask:
                clips = procedural(ask.clip_shape(), 4, given.seed)
                right = digest(ask, clips[0])
            with Load(around.url, clips, given.callers) as load:
                time.sleep(SETTLE_S)
                while time.monotonic() < until:
                    for fault in chance.sample(FAULTS, len(FAULTS)):
                        if time.monotonic() < until:
                            rows.append(put_through(fault, around, load, clips[0], right))
                            row = rows[-1]
                            print(f"{'holds' if holds(row) else 'FAILS'}  {fault.name}: {row['by_code']}", flush=True)
    except AuralServeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    lost = load.lost()
    record = {
        "build": given.build.name,
        "seed": given.seed,
        "faults": rows,
        "num_sent": sum(sum(row["by_code"].values()) for row in rows),
        "num_answered": sum(row["by_code"].get(OK, 0) for row in rows),
        "num_lost": len(lost),
        "log_bytes": (given.out / "serve.log").stat().st_size,
    }
    write_new(given.out / "chaos.json", json.dumps(record, indent=1) + "\n")
    print(markdown(record))
    return 0 if not lost and all(map(holds, rows)) else 1


if __name__ == "__main__":
    sys.exit(main())
