"""Write the generated pages, or collect what was measured for them. Not in the wheel.

python -m pages write
python -m pages collect runs/digits
"""

from __future__ import annotations

import argparse
import sys

from pages import measured, written
from purenoise.errors import PureNoiseError


def main(words: list[str] | None = None) -> int:
    """Write or collect; a user's mistake is one message and exit code 2."""
    parser = argparse.ArgumentParser(
        prog="python -m pages",
        description="Parts of docs/ that come from the schema of recipes, from docstrings and from "
        "rows of measurements; none of it is typed.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("write", help="write docs/api.md, and the marked parts of other pages")
    collect = verbs.add_parser("collect", help="keep runs as rows of pages/measured.csv")
    collect.add_argument(
        "runs", metavar="RUNS", help="folder of the comparison that pitfalls names"
    )
    args = parser.parse_args(words)
    try:
        said = [measured.collect(args.runs)] if args.verb == "collect" else written.write()
        sys.stdout.write("".join(f"{line}\n" for line in said))
    except PureNoiseError as error:
        sys.stderr.write(f"pages: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
