"""Play the first hour: `python -m tests.first_hour --out out/first-hour`. Ends with 1 where a step went wrong."""

import argparse
import json
import sys
import time
from pathlib import Path

from tests.first_hour.hour import Failed, Hour, LeftOut
from tests.first_hour.steps import OF_CLONING, STEPS


def main() -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.first_hour", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/first-hour"), help="default: %(default)s")
    parser.add_argument("--checkout", type=Path, help="one that is set up already; default: a new clone")
    parser.add_argument("--only", nargs="+", choices=STEPS, help="default: all steps")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills; default: %(default)s")
    given = parser.parse_args()
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    hour = Hour(out, (given.checkout or out / "checkout").resolve(), given.seed)
    wanted = given.only or [name for name in STEPS if given.checkout is None or name not in OF_CLONING]
    rows = []
    for name in wanted:
        started = time.monotonic()
        try:
            result, found = "ok", STEPS[name](hour)
        except LeftOut as reason:
            result, found = "left out", str(reason)
        except Failed as error:
            result, found = "FAILED", str(error)
        rows.append({"step": name, "result": result, "seconds": round(time.monotonic() - started, 1), "found": found})
        print(f"{name:13} {result:9} {rows[-1]['seconds']:7.1f} s  {found}", flush=True)
    (out / "first_hour.json").write_text(json.dumps(rows, indent=1) + "\n")
    return int(any(row["result"] == "FAILED" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
