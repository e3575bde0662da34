"""`python -m loadtests.cpu`: the bench of a CPU. Each case is written when it is done, and not measured again."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from auralsam2_client.errors import AuralServeError
from auralsam2_client.new_file import write_new
from loadtests.cases.case import Case
from loadtests.cpu.builds import build_of, say
from loadtests.cpu.measure import measure
from loadtests.cpu.report import draw_waterfall, machine, markdown

CASES = (
    "compact:256:5",
    "hiera_base_plus:224:5",
    "hiera_base_plus:512:5",
    "hiera_base_plus:1024:5",
    "hiera_base_plus:512:10",
    "hiera_large:224:5",
    "hiera_large:512:5",
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.cpu", description=__doc__)
    parser.add_argument(
        "--cases", nargs="+", default=CASES, metavar="PRESET:SIZE:FRAMES", help="what is measured; default: %(default)s"
    )
    parser.add_argument("--repeats", type=int, default=5, help="calls of each case; default: %(default)s")
    parser.add_argument(
        "--precision", default="auto", help="precision of the exports: auto | float32 | bfloat16; default: %(default)s"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("out/bench-cpu"), help="folder for the report; default: %(default)s"
    )
    parser.add_argument("--fresh", action="store_true", help="measure again the cases that are in --out already")
    parser.add_argument("--compiled", action="store_true", help="also torch.compile, which takes minutes a case")
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    found, records = machine(), list[dict[str, Any]]()
    try:
        for case in map(Case.parse, given.cases):
            path = given.out / f"{case.name}-{given.precision}.json"
            if given.fresh or not path.is_file():
                say(f"case       {case.name}")
                record = measure(case, build_of(case, given.precision), given.repeats, say, given.compiled)
                write_new(path, json.dumps(record | {"machine": found}, indent=1) + "\n")
            records.append(json.loads(path.read_text()))
    except (AuralServeError, ValueError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    text = markdown(records, found)
    write_new(given.out / "table.md", text)
    draw_waterfall(records, found, given.out / "waterfall.png")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
