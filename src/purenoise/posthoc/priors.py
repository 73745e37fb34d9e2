"""Class shares that a user gives: a word, numbers, or a file with the names of the classes.

Imports no torch.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
import reprlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from purenoise.errors import RecipeError, did_you_mean
from purenoise.smallfile import MIB, read_small_text

MOST_BYTES = 16 * MIB  # of a file of shares
WORDS = ("uniform", "train", "test")
HOW = (
    "Give uniform, train, test, one number per class with commas, or a file: JSON "
    '{"class": share, ...} or CSV lines class,share.'
)
Prior = str | Path | Sequence[float] | Mapping[str, float]


def read_prior(
    given: Any, class_names: Sequence[str], train: ArrayLike, test: ArrayLike
) -> tuple[str, NDArray[np.float64]]:
    """Return class shares by name or from numbers or a file.

    Args:
        given: ``uniform``; ``train`` or ``test``, for the shares in these sets; numbers, as text
            with commas or as a sequence, in the order of the classes; a mapping from class names;
            or the path of a JSON or CSV file.
        class_names: Of the run, in order.
        train: Training images per class, shape (C,).
        test: Test images per class, shape (C,).

    Returns:
        What to call it (``given`` where that is no word), and shares that sum to 1, shape (C,).

    Raises:
        RecipeError: If it is none of these, names or numbers are missing or too many (all are
            named), or a number is not above 0.

    Example:
        >>> read_prior("3,1", ["cat", "dog"], [9, 1], [5, 5])
        ('given', array([0.75, 0.25]))
    """
    counts = {"uniform": np.ones(len(class_names)), "train": train, "test": test}
    if isinstance(given, str) and given in counts:
        name, values = given, np.asarray(counts[given], np.float64)
    else:
        name, values = "given", np.asarray(_numbers(given, class_names), np.float64)
    bad = [
        f"{n} ({v:g})" for n, v in zip(class_names, values, strict=True)
        if not (math.isfinite(v) and v > 0)
    ]  # fmt: skip
    if bad:
        raise RecipeError(
            f"The prior must be above 0 for every class, and is not for {_few(bad)}.",
            "A class that never occurs cannot be adjusted to; give it a small share.",
        )
    return name, values / values.sum()


def _numbers(given: Any, class_names: Sequence[str]) -> list[float]:
    """Return one number per class."""
    if isinstance(given, Mapping):
        return _by_name(given, class_names, "The prior")
    if isinstance(given, str | Path):
        text = str(given)
        if "," in text or re.fullmatch(r"[-+.\d]\S*", text.strip()):
            if not os.path.isfile(text):
                return _listed(text.split(","), class_names)
        elif not os.path.isfile(text):
            raise RecipeError(f"There is no prior {text!r}, and no such file.",
                              f"{did_you_mean(text, WORDS)} {HOW}")  # fmt: skip
        return _from_file(Path(text), class_names)
    try:
        values = list(given)
    except TypeError:
        raise RecipeError(f"A prior cannot be {given!r}.", HOW) from None
    return _listed(values, class_names)


def _listed(values: Sequence[Any], class_names: Sequence[str]) -> list[float]:
    if len(values) != len(class_names):
        raise RecipeError(
            f"The prior has {len(values)} numbers, and the run has {len(class_names)} classes: "
            f"{_few(class_names)}.",
            HOW,
        )
    return [_number(v) for v in values]


def _number(value: Any) -> float:
    try:
        if isinstance(value, bool):
            raise ValueError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        shown = reprlib.repr(value)
        raise RecipeError(f"The prior holds {shown}, which is no number.", HOW) from None


def _from_file(path: Path, class_names: Sequence[str]) -> list[float]:
    """Read a JSON object or CSV lines of class and share."""
    try:
        text = read_small_text(path, MOST_BYTES)
        if path.suffix.lower() == ".json":
            content: Any = json.loads(text, object_pairs_hook=tuple)  # keeps names given twice
            pairs = list(content) if isinstance(content, tuple) else []
        else:
            pairs = [tuple(row) for row in csv.reader(text.splitlines()) if row]
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise RecipeError(f"The prior in {path} cannot be read: {reason}.", HOW) from error
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise RecipeError(f"{path} does not hold pairs of a class and its share.", HOW)
    if pairs[0] == ("class", "share"):
        pairs = pairs[1:]
    names = [str(name).strip() for name, _ in pairs]
    twice = sorted(name for name, n in Counter(names).items() if n > 1)
    if twice:
        raise RecipeError(f"{path} names classes twice: {_few(twice)}.")
    return _by_name({n: v for n, (_, v) in zip(names, pairs, strict=True)}, class_names, str(path))


def _by_name(shares: Mapping[Any, Any], class_names: Sequence[str], where: str) -> list[float]:
    """Put named shares in the order of the classes; every wrong name is told."""
    unknown = [str(name) for name in shares if name not in class_names]
    missing = [name for name in class_names if name not in shares]
    if unknown or missing:
        said = [f"has no class {_few(missing)}"] * bool(missing)
        said += [f"names {_few(unknown)}, which the run does not know"] * bool(unknown)
        hint = did_you_mean(unknown[0], class_names) if unknown else HOW
        raise RecipeError(f"{where} {' and '.join(said)}.", hint)
    return [_number(shares[name]) for name in class_names]


def _few(names: Sequence[str]) -> str:
    rest = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(map(str, names[:5])) + rest
