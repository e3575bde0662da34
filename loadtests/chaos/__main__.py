"""`python -m loadtests.chaos`: faults one after the other, in an order that a seed gives, under numbered requests.

Requests go by sound, by marks and in sessions. Faults are played on a service without a front door, and behind one.
"""

import argparse
import json
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from auralsam2_client.calls.client import Client
from auralsam2_client.errors import AuralServeError
from auralsam2_client.new_file import write_new
from loadtests.chaos import at_the_door, callers, machine, processes
from loadtests.chaos.around import Around
from loadtests.chaos.fault import Fault
from loadtests.chaos.load import OK, WRONG, Load, digest, longest_silence_s
from loadtests.chaos.report import all_holds, holds, markdown
from loadtests.generator.clips import Clip, procedural
from service.door.nginx import INSTALL, find_nginx

DOORS = ("off", "on")
_ANYWHERE = (*processes.FAULTS, *callers.FAULTS)
FAULTS: Mapping[str, tuple[Fault, ...]] = {
    "off": (*_ANYWHERE, *machine.FAULTS, machine.PORT_TAKEN),
    "on": (*_ANYWHERE, *machine.FAULTS, *at_the_door.FAULTS),
}
"""By the kind of door; behind one the server has no port that another program could take."""
# Until a fault shows, and until its traces are gone.
SETTLE_S = 3.0


def put_through(fault: Fault, around: Around, load: Load, clip: Clip, right: str) -> dict[str, Any]:
    """Hold one fault, wait until the service is back, and return what it cost. Raises: AuralServeError if it is not."""
    before = around.memory_bytes(), around.open_files()
    load.take()
    since_s = time.monotonic()
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
        "least_answered": fault.least_answered,
        "by_code": dict(Counter(outcome.code for outcome in outcomes)),
        "wrong": sum(outcome.code == WRONG for outcome in outcomes),
        "same_bytes": same,
        "silence_s": longest_silence_s(outcomes, since_s),
        "memory": [before[0], around.memory_bytes()],
        "files": [before[1], around.open_files()],
    }


def play(around: Around, faults: Sequence[Fault], given: argparse.Namespace, chance: random.Random) -> dict[str, Any]:
    """Put faults through until the time is over, in turns that `chance` orders; return the record of it."""
    rows, until, broken = list[dict[str, Any]](), time.monotonic() + given.seconds, ""
    with Client(around.url) as ask:
        clips = procedural(ask.clip_shape(), 4, given.seed)
        right = digest(ask, clips[0])
    with Load(around.url, clips, given.callers) as load:
        time.sleep(SETTLE_S)
        before = around.memory_bytes(), around.open_files()
        try:
            while time.monotonic() < until:
                for fault in chance.sample(faults, len(faults)):
                    if time.monotonic() < until:
                        rows.append(put_through(fault, around, load, clips[0], right))
                        row = rows[-1]
                        print(f"{'holds' if holds(row) else 'FAILS'}  {fault.name}: {row['by_code']}", flush=True)
            after = around.memory_bytes(), around.open_files()
        except AuralServeError as error:
            broken, after = str(error), (0.0, 0.0)
    rest = Counter(outcome.code for outcome in load.take())
    total = sum((Counter(row["by_code"]) for row in rows), rest)
    return {
        "door": around.door,
        "faults": rows,
        "num_sent": total.total(),
        "num_answered": total[OK],
        "num_wrong": total[WRONG],
        "num_lost": len(load.lost()),
        "memory": [before[0], after[0]],
        "files": [before[1], after[1]],
        "broken": broken,
    }


def stop(number: int, frame: FrameType | None) -> None:
    """End by an exception, so that the service is ended too."""
    raise SystemExit(128 + number)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code, 1 where anything did not hold."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.chaos", description=__doc__)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument(
        "--out", type=Path, default=Path("out/chaos"), help="folder for the report; default: %(default)s"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=300.0,
        help="for each kind of door, after which no fault begins; default: %(default)s",
    )
    parser.add_argument("--door", nargs="+", choices=DOORS, default=DOORS, help="without one, behind it; default: both")
    parser.add_argument("--seed", type=int, default=0, help="of the faults; default: %(default)s")
    parser.add_argument("--callers", type=int, default=4, help="callers at a time; default: %(default)s")
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, stop)
    runs, log_bytes = list[dict[str, Any]](), 0
    for door in given.door:
        if door == "on" and find_nginx() is None:
            print(f"nothing is played at a front door: nginx is missing ({INSTALL})", file=sys.stderr)
            continue
        try:
            with Around(given.build, given.out / f"serve-door-{door}.log", door) as around:
                runs.append(play(around, FAULTS[door], given, random.Random(given.seed)))
        except AuralServeError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        runs[-1]["left"] = around.leftovers()
        log_bytes += around.log.stat().st_size
    record = {"build": given.build.name, "seed": given.seed, "runs": runs, "log_bytes": log_bytes}
    write_new(given.out / "chaos.json", json.dumps(record, indent=1) + "\n")
    print(markdown(record))
    return 0 if all_holds(record) else 1


if __name__ == "__main__":
    sys.exit(main())
