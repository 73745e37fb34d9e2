"""Keep finished runs as rows, and write the pages from all rows; see ``--help``. Not in the wheel.

python -m results collect runs/cifar10-lt --table cifar10-lt
python -m results write
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from purenoise.errors import PureNoiseError
from results import page, rows


def main(words: list[str] | None = None) -> int:
    """Collect or write; a user's mistake is one message and exit code 2."""
    parser = argparse.ArgumentParser(
        prog="python -m results",
        description="Tables of results are made from rows, one per run; none of their numbers is "
        "typed.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    collect = verbs.add_parser("collect", help="add finished runs to results/TABLE.csv")
    collect.add_argument("runs", nargs="+", metavar="RUNS", help="folders of runs, or above them")
    collect.add_argument("--table", required=True, help="name of the table, such as cifar10-lt")
    collect.add_argument("--folder", type=Path, default=rows.HERE, help=argparse.SUPPRESS)
    verbs.add_parser("write", help="write docs/results.md, tables and figure of the README")
    args = parser.parse_args(words)
    try:
        if args.verb == "collect":
            said = rows.collect(args.runs, args.table, args.folder)
            sys.stdout.write("".join(f"{line}\n" for line in said))
        else:
            page.write()
    except PureNoiseError as error:
        sys.stderr.write(f"results: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
