"""Faults that pydantic finds, as sentences: which key, what is allowed, what was got.

Pydantic speaks to programmers: it names the branches of a union and counts from 0. The author of a
recipe reads one line per fault, with the key as the recipe writes it. Imports no torch.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from purenoise.errors import did_you_mean

FEW_KEYS = 12  # as many are listed in one sentence
PLAIN = {
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "list_type": "must be a list",
    "model_type": "must be keys and values",
    "invalid_key": "is a key that is not text",
    "literal_error": "must be {expected}",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "too_short": "must not be empty",
    "too_long": "must have at most {max_length} items",
}


def sentences(error: ValidationError, root: type[BaseModel]) -> list[str]:
    """Say every fault in one sentence; the branches of a union are one fault.

    Args:
        error: What pydantic raised.
        root: The model that was validated.

    Returns:
        One sentence per fault, without a full stop.
    """
    found: dict[str, str] = {}
    for fault in error.errors():
        place = _place(fault["loc"], root)
        if fault["type"] == "extra_forbidden":
            key = f"{place.path}.{fault['loc'][-1]}".lstrip(".")
            near = [f"{place.path}.{name}".lstrip(".") for name in keys(place.model or root)]
            found[key] = unknown_key(key, near, keys(root)) + place.items
        elif place.about and fault["type"] != "value_error" and place.model_or_branch:
            found[place.path] = f"{place.path}: must be {place.about}{_got(fault)}"
        else:
            label = f"{place.path}{place.items}: ".removeprefix(": ")
            text = label + _text(fault)
            found.setdefault(text, text)
    return list(found.values())


def unknown_key(key: str, near: Iterable[str], everything: Iterable[str]) -> str:
    """Say that a key is unknown, and which one may be meant."""
    everything, names = list(everything), list(near)
    elsewhere = [k for k in everything if k.endswith(f".{key.rpartition('.')[2]}")]
    same = [k for k in everything if "." in k and k.replace(".", "_") == key]
    hint = f"Did you mean {same[0]!r}?" if same else did_you_mean(key, names)
    if elsewhere and not hint.startswith("Did"):
        hint = f"Did you mean {elsewhere[0]!r}?"
    if not hint.startswith("Did") and len(names) > FEW_KEYS:
        return f"unknown key {key!r}"  # all faults together get one hint on where the keys stand
    return f"unknown key {key!r}. {hint}"


def keys(part: type[BaseModel], prefix: str = "") -> list[str]:
    """Return all keys of a model with dots, parents included."""
    found = []
    for name, field in part.model_fields.items():
        found.append(prefix + name)
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += keys(inner, f"{prefix}{name}.")
    return found + [f"{prefix}{name}" for name in getattr(part, "also", ())]


@dataclass(frozen=True)
class _Place:
    """Where a fault is: key with dots, ` (item 2)`, the model there, what the key's field is."""

    path: str
    items: str
    model: type[BaseModel] | None
    about: str | None
    branch: bool  # inside a union, or at a position of a list

    @property
    def model_or_branch(self) -> bool:
        return self.branch or self.model is not None


def _place(loc: tuple[int | str, ...], root: type[BaseModel]) -> _Place:
    """Follow pydantic's place through the models, leaving out the branches of unions."""
    path: list[str] = []
    items, about, branch = "", None, False
    model: type[BaseModel] | None = root
    for part in loc:
        if model is not None and part in model.model_fields:
            field = model.model_fields[str(part)]
            model, about, branch = _model_in(field.annotation), field.description, False
            path.append(str(part))
        elif isinstance(part, int):
            items, branch = f" (item {part + 1})", True
        else:
            branch = True
    return _Place(".".join(path), items, model, about, branch)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model in an annotation such as ``str | list[Model]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for arg in get_args(annotation) if (m := _model_in(arg))), None)


def _text(fault: Any) -> str:
    """What is wrong, and what was got."""
    if fault["type"] not in PLAIN:
        text = " ".join(fault["msg"].removeprefix("Value error, ").split()).rstrip(".")
        return text if fault["type"] == "value_error" else text[0].lower() + text[1:] + _got(fault)
    limits = {
        name: f"{limit:g}" if isinstance(limit, float) else limit
        for name, limit in fault.get("ctx", {}).items()
    }
    text = PLAIN[fault["type"]].format(**limits)
    if fault["type"] == "literal_error" and isinstance(fault["input"], str):
        allowed = [word.strip("'") for word in limits["expected"].replace(" or ", ", ").split(", ")]
        hint = did_you_mean(fault["input"], allowed)
        return f"{text}{_got(fault)}" + (f". {hint[:-1]}?" if hint.startswith("Did") else "")
    return text + _got(fault)


def _got(fault: Any) -> str:
    """The value, cut short; of a section only what is wrong with it is of interest."""
    if isinstance(fault["input"], Mapping):
        return ""
    shown = reprlib.Repr()
    shown.maxstring, shown.maxlevel = 80, 2
    return f", got {shown.repr(fault['input'])}"
