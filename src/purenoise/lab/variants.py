"""What a comparison is of: methods with their changes, and seeds, as they are written in one line.

``methods=erm,drs,open,open:stop_gradient=affine,open+ldam:delta=0.5:defer=0.6`` names five
variants; what follows a colon is a change of the recipe for that variant alone. ``seeds=5`` is 0 to
4, ``seeds=3-6`` and ``seeds=1,4,7`` are what they look like. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral

from purenoise.errors import RecipeError
from purenoise.methodfile import known_methods

MOST_SEEDS = 1000
_COMMA = re.compile(r",(?![^\[{]*[\]}])")  # between methods, not in a list or a mapping
_SEED = re.compile(r"(\d+)(?:-(\d+))?")


@dataclass(frozen=True)
class Variant:
    """A method with changes of the recipe.

    Args:
        label: As it was written; names the variant in tables.
        method: ``open``, ``open+ldam``, ...
        changes: ``key=value`` texts.
    """

    label: str
    method: str
    changes: tuple[str, ...] = ()

    def overrides(self, seed: int) -> list[str]:
        """Return what the recipe is changed by for one seed."""
        return [*self.changes, f"method={self.method}", f"seed={seed}"]


def parse_variants(text: str | Sequence[str]) -> list[Variant]:
    """Read the methods of a comparison.

    Args:
        text: Separated by commas, or a sequence.

    Raises:
        RecipeError: If there are none, one is named twice, or a change has no value.

    Example:
        >>> [v.changes for v in parse_variants("erm,open:delta=0.5")]
        [(), ('delta=0.5',)]
        >>> [v.label for v in parse_variants("logit-adjustment:target=[1,2],erm")]
        ['logit-adjustment:target=[1,2]', 'erm']
    """
    items = _COMMA.split(text) if isinstance(text, str) else list(text)
    variants = [_variant(item.strip()) for item in items if item.strip()]
    if not variants:
        raise RecipeError(
            "No methods were named.", f"Such as methods=erm,drs,open; known: {_known()}"
        )
    _refuse_twice("method", [variant.label for variant in variants])
    return variants


def _variant(item: str) -> Variant:
    method, *parts = (part.strip() for part in item.split(":"))
    changes: list[str] = []
    for part in parts:
        if "=" not in part and changes:  # model=timm:resnet18
            changes[-1] += f":{part}"
        else:
            changes.append(part)
    for change in changes:
        key, equals, value = change.partition("=")
        if not (key and equals and value):
            raise RecipeError(
                f"In methods, {item!r} has the change {change!r}, which is no key=value.",
                "Changes of one method follow it as in open:delta=0.5:stop_gradient=affine.",
            )
        if key in ("method", "seed", "out", "name"):
            raise RecipeError(f"In methods, {item!r} changes {key}, which the comparison sets.")
    return Variant(":".join([method, *changes]), method, tuple(changes))


def parse_seeds(text: str | int | Iterable[int]) -> list[int]:
    """Read the seeds of a comparison.

    Args:
        text: How many, from 0 on; or a list such as ``1,4,7`` or ``0-4,9``; or numbers.

    Raises:
        RecipeError: If it is no such list, there are none, or one comes twice.

    Example:
        >>> parse_seeds(3), parse_seeds("0-2,7"), parse_seeds("4,")
        ([0, 1, 2], [0, 1, 2, 7], [4])
    """
    if isinstance(text, bool) or not isinstance(text, str | Integral | Iterable):
        raise _bad_seeds(text)
    if not isinstance(text, str | Integral):
        seeds_given = list(text)
        if not all(_is_whole(seed) for seed in seeds_given):
            raise _bad_seeds(seeds_given)
        text = ",".join(str(int(seed)) for seed in seeds_given) + ","
    text = str(text).strip()
    if text.isdecimal():
        return list(range(_within(int(text), text)))
    seeds: list[int] = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        match = _SEED.fullmatch(part)
        if match is None:
            raise _bad_seeds(text)
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last >= 2**32:
            raise _bad_seeds(text)
        _within(last - first + 1, text)
        seeds += range(first, last + 1)
    _within(len(seeds), text)
    _refuse_twice("seed", [str(seed) for seed in seeds])
    return seeds


def _is_whole(seed: object) -> bool:
    return isinstance(seed, Integral) and not isinstance(seed, bool)


def _within(n: int, text: str) -> int:
    if not 1 <= n <= MOST_SEEDS:
        raise RecipeError(f"seeds={text} is {n} seeds; between 1 and {MOST_SEEDS} can be compared.")
    return n


def _bad_seeds(text: object) -> RecipeError:
    return RecipeError(
        f"seeds={text} cannot be read.", "Give how many, such as 5, or a list: 0-4 or 1,4,7."
    )


def _refuse_twice(what: str, items: list[str]) -> None:
    twice = sorted({item for item in items if items.count(item) > 1})
    if twice:
        raise RecipeError(f"The {what} {twice[0]} is named twice.")


def _known() -> str:
    return ", ".join(known_methods()) + ", and A+B."
