"""The words behind a verb: a recipe's name, then changes of the recipe."""

from __future__ import annotations

from typing import Annotated

import typer

from purenoise.errors import RunError

Arguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RECIPE] [KEY=VALUE]...",
        help="A recipe's name or file (default: digits), then changes such as method=drs seed=1.",
        show_default=False,
    ),
]


def split_words(arguments: list[str] | None, verb: str = "train") -> tuple[str | None, list[str]]:
    """Split the recipe's name from the changes.

    Raises:
        RunError: If there are several names, or one comes after a change.
    """
    words = list(arguments or [])
    names = [w for w in words if "=" not in w]
    if len(names) > 1 or (names and words[0] != names[0]):
        raise RunError(
            f"Cannot tell the recipe among {' '.join(map(repr, names))}.",
            f"Write: purenoise {verb} [RECIPE] key=value key=value, without spaces around =.",
        )
    return (names[0] if names else None), [w for w in words if "=" in w]
