"""What is read of a run's ``summary.json``, and whether it is all there and in bounds.

A summary comes from a file that may be damaged or written by a stranger: numbers must be finite
numbers, lists as long as there are classes. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from purenoise.errors import RunError
from purenoise.runlog import RunFolder
from purenoise.smallfile import MIB, check_small

MOST_BYTES = 1024 * MIB  # of a summary; the confusion matrix of 8,142 classes takes 200 MB
LONGEST_NAME = 5000  # letters of a class's name: a path, at most
MEND = "Remove that file and run the same line again: the end of the run is repeated."
LATER = ("recipe", "method", "seed", "digest", "command", "augment", "notes", "subset_sha256",
         "fingerprint", "n_train", "n_val", "n_test")  # fmt: skip

Number = Annotated[float, Field(allow_inf_nan=False, ge=-1e15, le=1e15)]
Count = Annotated[int, Field(ge=0, le=10**15)]
Side = Annotated[int, Field(ge=1, le=2**16)]
Name = Annotated[str, Field(max_length=LONGEST_NAME)]
Plain = str | int | float | bool | None


class _Form(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class _Best(_Form):
    accuracy: Number | None = None
    epoch: Count | None = None


class _Groups(_Form):
    many: Number | None
    medium: Number | None
    few: Number | None
    head: Number | None
    mid: Number | None
    tail: Number | None


class _Test(_Form):
    accuracy: Number
    balanced_accuracy: Number
    macro_f1: Number
    g_mean: Number
    worst_class: Number
    nll: Number
    ece: Number
    groups: _Groups
    per_class: list[Number | None]
    n_test: list[Count]
    confusion: list[list[Count]]


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
    class_names: list[Name] = Field(min_length=1)
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
    train_seconds: Number | None = None
    seconds: Number | None = None
    n_train: Count = 0
    n_val: Count = 0
    n_test: Count = 0

    @model_validator(mode="after")
    def _as_many_as_classes(self) -> _Summary:
        n = len(self.class_names)
        lists: dict[str, list[Any]] = {"counts": self.counts}
        if self.test is not None:
            lists |= {"per_class": self.test.per_class, "n_test": self.test.n_test,
                      "confusion": self.test.confusion}  # fmt: skip
        for name, values in lists.items():
            if len(values) != n:
                raise ValueError(f"{name} does not fit {n} classes")
        if any(len(row) != n for row in lists.get("confusion", [])):
            raise ValueError(f"confusion does not fit {n} classes")
        channels = self.image_shape[0]
        if any(len(pair) != channels for pair in (*self.normalize, *self.noise)):
            raise ValueError(f"normalize and noise do not fit {channels} channels")
        if min(self.normalize[1]) <= 0:
            raise ValueError("normalize divides by a number that is not above 0")
        return self


def read_summary(folder: RunFolder) -> dict[str, Any] | None:
    """Return the summary of a finished run with all that commands ask of it, or None.

    Args:
        folder: Of the run.

    Raises:
        RunError: If the file cannot be read, or something is missing in it or out of bounds.
    """
    summary = readable_summary(folder)
    if summary is None:
        return None
    missing = [key for key in LATER if key not in summary]
    fault = f"it has no {missing[0]}" if missing else fault_of(summary)
    if fault:
        raise RunError(f"{folder.summary_file} cannot be read: {fault}.", MEND)
    return summary


def readable_summary(folder: RunFolder) -> dict[str, Any] | None:
    """Return the summary of a finished run as it is written, or None.

    Raises:
        RunError: If the file cannot be read.
    """
    path = folder.summary_file
    try:
        if path.exists():
            check_small(path, MOST_BYTES)  # no FIFO, no device, no terabyte
        return folder.summary()
    except (OSError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or "brackets within brackets"
        raise RunError(f"{path} cannot be read: {reason}.", MEND) from error


def fault_of(summary: Mapping[str, Any]) -> str:
    """Return what is wrong with a summary; empty if nothing is.

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
