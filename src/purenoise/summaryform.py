"""What is read of a run's ``summary.json``, and whether it is all there and in bounds.

A summary comes from a file that may be damaged or written by a stranger: numbers must be finite and
possible, lists as long as there are classes, and what follows from the confusion matrix must follow
from it. Imports no torch.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from purenoise.confusion import Confusion
from purenoise.errors import RunError
from purenoise.metrics import evaluate_confusion
from purenoise.runlog import MEND, RunFolder

MOST_CLASSES = 50_000
LONGEST_NAME = 5000  # letters of a class's name: a path, at most
LATER = ("recipe", "method", "seed", "digest", "command", "augment", "notes", "subset_sha256",
         "fingerprint", "n_train", "n_val", "n_test")  # fmt: skip
OWN_FILE = (
    "One of the two is another run's: put this run's own in its place. If its own summary.json is "
    "lost, remove the wrong one: the line that began the run repeats its end."
)
SAME = 1e-9  # numbers that differ by less differ by rounding

Number = Annotated[float, Field(allow_inf_nan=False, ge=-1e15, le=1e15)]
Share = Annotated[float, Field(allow_inf_nan=False, ge=0, le=1)]
Positive = Annotated[float, Field(allow_inf_nan=False, ge=0, le=1e15)]
Count = Annotated[int, Field(ge=0, le=2**40)]
Side = Annotated[int, Field(ge=1, le=2**16)]
Name = Annotated[str, Field(max_length=LONGEST_NAME)]
Plain = str | int | float | bool | None


class _Form(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class _Best(_Form):
    accuracy: Share | None = None
    epoch: Count | None = None


class _Groups(_Form):
    many: Share | None
    medium: Share | None
    few: Share | None
    head: Share | None
    mid: Share | None
    tail: Share | None


class _Cells(_Form):
    true: list[Count]
    predicted: list[Count]
    images: list[Count]


class _Test(_Form):
    accuracy: Share
    balanced_accuracy: Share
    macro_f1: Share
    g_mean: Share
    worst_class: Share
    nll: Positive
    ece: Share
    groups: _Groups
    per_class: list[Share | None]
    n_test: list[Count]
    confusion: list[list[Count]] | _Cells


class _Probe(_Form):
    what: str = ""
    n: Count = 0
    confidence: Number | None = None
    auroc: Number | None = None
    share: list[Number] | None = None


class _Probes(_Form):
    test: _Probe | None = None
    noise: _Probe | None = None
    no_class: _Probe | None = None


class _Summary(_Form):
    status: str = ""
    data: str
    class_names: list[Name] = Field(min_length=1, max_length=MOST_CLASSES)
    counts: list[Count]
    image_shape: list[Side] = Field(min_length=3, max_length=3)
    normalize: list[list[Number]] = Field(min_length=2, max_length=2)
    noise: list[list[Number]] = Field(min_length=2, max_length=2)
    test: _Test | None
    val: _Test | None = None
    environment: dict[str, Plain]
    recipe: Name = ""
    method: Name = ""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    speed: dict[str, Any] = {}
    probes: _Probes | None = None
    optimistic_best_on_test: _Best = _Best()
    fingerprint: str | None = None
    subset_sha256: str | None = None
    digest: str = Field(default="", pattern="^([0-9a-f]{64})?$")
    command: str = ""
    augment: str = ""
    notes: list[str] = []
    train_seconds: Positive | None = None
    seconds: Positive | None = None
    n_train: Count | None = None
    n_val: Count | None = None
    n_test: Count | None = None

    @model_validator(mode="after")
    def _as_many_as_classes(self) -> _Summary:
        n = len(self.class_names)
        lists: dict[str, list[Any]] = {"counts": self.counts}
        if self.test is not None:
            lists |= {"per_class": self.test.per_class, "n_test": self.test.n_test}
        for name, values in lists.items():
            if len(values) != n:
                raise ValueError(f"{name} does not fit {n} classes")
        channels = self.image_shape[0]
        if any(len(pair) != channels for pair in (*self.normalize, *self.noise)):
            raise ValueError(f"normalize and noise do not fit {channels} channels")
        if min(self.normalize[1]) <= 0:
            raise ValueError("normalize divides by a number that is not above 0")
        return self

    @model_validator(mode="after")
    def _follows_from_the_confusion_matrix(self) -> _Summary:
        """Refuse numbers that the counts of right and wrong answers do not give."""
        if self.test is None:
            return self
        confusion = Confusion.read(self.test.model_dump()["confusion"], len(self.class_names))
        total = int(confusion.images.sum())
        if total == 0:
            raise ValueError("test.confusion counts no test image")
        if self.n_test not in (None, total):
            raise ValueError(f"n_test is {self.n_test}, and test.confusion counts {total}")
        follows = evaluate_confusion(confusion, self.counts)
        del follows["confusion"]
        given = self.test.model_dump(include=set(follows))
        wrong = [p for p in _pairs(given, follows, "test") if not _is_same(*p[1:])]
        for place, value, wanted in sorted(wrong, key=str):
            shown, by = reprlib.repr(value), reprlib.repr(wanted)
            raise ValueError(f"{place} is {shown}, and {by} by test.confusion")
        return self


def _pairs(given: Any, wanted: Any, place: str) -> Iterator[tuple[str, Any, Any]]:
    """Walk through two values of one shape, number by number, with the place of each."""
    if isinstance(given, dict) and isinstance(wanted, dict):
        for key in wanted.keys() & given.keys():
            yield from _pairs(given[key], wanted[key], f"{place}.{key}")
    elif isinstance(given, list) and isinstance(wanted, list) and len(given) == len(wanted):
        for i, (one, other) in enumerate(zip(given, wanted, strict=True)):
            yield from _pairs(one, other, f"{place}.{i}")
    else:
        yield place, given, wanted


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return abs(one - other) <= SAME
    return bool(one == other)


def read_summary(folder: RunFolder, digest: str | None = None) -> dict[str, Any] | None:
    """Return the summary of a finished run with all that commands ask of it, or None.

    Args:
        folder: Of the run.
        digest: Of the run's recipe; None where the folder has none of its own.

    Raises:
        RunError: If the file cannot be read, is of another run, or something is missing in it or
            out of bounds.
    """
    summary = folder.summary()
    if summary is None:
        return None
    missing = [key for key in LATER if key not in summary]
    fault = f"it has no {missing[0]}" if missing else fault_of(summary)
    if fault:
        raise RunError(f"{folder.summary_file} cannot be read: {fault}.", MEND)
    if why := is_of_another(summary, digest):
        raise RunError(f"{folder.summary_file} cannot be used: {why}.", OWN_FILE)
    return summary


def fault_of(summary: Mapping[str, Any]) -> str:
    """Return what is wrong with a summary by itself; empty if nothing is.

    Args:
        summary: As it was read.

    Example:
        >>> fault_of({"test": {}})
        'it has no data'
    """
    try:
        _Summary.model_validate(dict(summary))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        if first["type"] == "missing":
            return f"it has no {place.rpartition('.')[2]}"
        return " ".join(filter(None, [place, first["msg"].removeprefix("Value error, ")]))
    return ""


def is_of_another(summary: Mapping[str, Any], digest: str | None) -> str:
    """Return why a summary and a recipe are not of one run; empty if they are.

    Args:
        summary: Without faults.
        digest: Of the recipe; None: of any.

    Example:
        >>> is_of_another({"digest": "0" * 64}, "f" * 64)
        'it is of the run with recipe 00000000, and recipe.yaml is ffffffff'
    """
    known = summary.get("digest")
    if digest is None or not known or known == digest:
        return ""
    return f"it is of the run with recipe {known[:8]}, and recipe.yaml is {digest[:8]}"
