"""What a comparison reads of a run's ``summary.json``, and whether it is all there.

A summary comes from a file that may be damaged or written by a stranger: numbers must be finite
numbers, lists as long as there are classes. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Number = Annotated[float, Field(allow_inf_nan=False)]
Plain = str | int | float | bool | None


class _Form(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class _Best(_Form):
    accuracy: Number | None = None
    epoch: int | None = None


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
    n_test: list[int]
    confusion: list[list[int]]


class _Summary(_Form):
    data: str
    class_names: list[str]
    counts: list[int]
    image_shape: list[int] = Field(min_length=3, max_length=3)
    normalize: list[list[Number]] = Field(min_length=2, max_length=2)
    noise: list[list[Number]] = Field(min_length=2, max_length=2)
    test: _Test
    environment: dict[str, Plain]
    optimistic_best_on_test: _Best = _Best()
    fingerprint: str | None = None
    subset_sha256: str | None = None
    digest: str = ""
    command: str = ""
    augment: str = ""
    notes: list[str] = []
    train_seconds: Number | None = None
    seconds: Number | None = None
    n_train: int | None = None
    n_val: int | None = None
    n_test: int | None = None

    @model_validator(mode="after")
    def _as_many_as_classes(self) -> _Summary:
        n = len(self.class_names)
        lists: dict[str, list[Any]] = {
            "counts": self.counts,
            "per_class": self.test.per_class,
            "n_test": self.test.n_test,
            "confusion": self.test.confusion,
        }
        for name, values in lists.items():
            if len(values) != n:
                raise ValueError(f"{name} does not fit {n} classes")
        if any(len(row) != n for row in self.test.confusion):
            raise ValueError(f"confusion does not fit {n} classes")
        return self


def fault_of(summary: Mapping[str, Any]) -> str:
    """Return what is wrong with a summary that has test images; empty if nothing is.

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
