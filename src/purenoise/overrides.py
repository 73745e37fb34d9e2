"""``key=value`` overrides: read as YAML, found by short name, set in a recipe's content.

Short keys work where only one key ends so: ``epochs=50`` is ``train.epochs=50``. Their
order does not matter, except that of two for the same key the later one holds. Imports no torch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel

from purenoise import yamlfile
from purenoise.errors import RecipeError
from purenoise.faults import keys, unknown_key
from purenoise.names import KNOWN_DATA, PLACED_DATA, TORCHVISION

# Of the data section: they say where one data set lies, and mean nothing for another.
PLACE_KEYS = ("train_list", "val_list", "test_list", "image_column", "label_column", "sha256")
FIRST_KEYS = {"augment": "policy", "noise": "kind"}  # of sections that a single word stands for


@dataclass(frozen=True)
class Override:
    """One override.

    Args:
        key: As it was typed.
        value: What its text means in YAML, or the value that was given in Python.
        text: The text itself; None where there is none.
    """

    key: str
    value: Any
    text: str | None

    def as_text(self) -> Any:
        """Return the value for a key that holds text: ``out=2024`` and ``data=on`` are names."""
        kept = self.text is None or self.value is None or isinstance(self.value, str)
        return self.value if kept else self.text


def parse_overrides(texts: Iterable[str], faults: list[str]) -> list[Override]:
    """Read overrides; those that cannot be read are told in ``faults``."""
    found = []
    for given in texts:
        key, sign, text = (part.strip() for part in given.partition("="))
        if not sign or not key:
            faults.append(f"{given!r} is not of the form key=value")
            continue
        try:
            value = yamlfile.parse(text, f"the value of {key}")
        except RecipeError as error:
            if key != "data":  # a path, which need not be YAML
                faults.append(error.message.rstrip("."))
                continue
            value = text
        if key == "data" and isinstance(value, dict) and not text.startswith("{"):
            value = text  # a path such as `photos: 2`
        found.append(Override(key, value, text))
    return found


def python_overrides(values: Mapping[str, Any]) -> list[Override]:
    """Return overrides for values of Python; a number does for a key that holds text, too."""
    found = []
    for key, given in values.items():
        value = plain(given)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        found.append(Override(key, value, str(value) if is_number else None))
    return found


def plain(value: Any) -> Any:
    """Return a value of Python as YAML would give it.

    Example:
        >>> plain({"epochs": np.int64(3), "image_size": (8, 8)})
        {'epochs': 3, 'image_size': [8, 8]}
    """
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {plain(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value


def as_typed(value: Any) -> str:
    """Return a plain value as one types it, on one line.

    Example:
        >>> as_typed({"type": "step", "ratio": 5})
        '{"type": "step", "ratio": 5}'
    """
    return value if isinstance(value, str) else json.dumps(value, default=str)


def whole_keys(overrides: Iterable[Override], root: type[BaseModel]) -> dict[str, Any]:
    """Return keys to values, sections taken apart; unknown keys are left out."""
    pairs = (pair for o in overrides for pair in _apart(o, root, []))
    return {path: o.as_text() for path, o in pairs}


def apply_overrides(
    content: dict[str, Any], overrides: Iterable[Override], root: type[BaseModel], faults: list[str]
) -> None:
    """Set overrides in a recipe's content, sections given by name before their keys.

    A section given as a mapping changes the keys it has, and leaves the others alone.

    Args:
        content: Keys and values of a recipe; changed in place.
        overrides: From :func:`parse_overrides`.
        root: The recipe's model, which says what keys there are.
        faults: Receives a sentence for each key that is unknown or ambiguous.
    """
    found = [pair for override in overrides for pair in _apart(override, root, faults)]
    _make_room(content, {path: override.value for path, override in found})
    for path, override in sorted(found, key=lambda pair: pair[0].count(".")):
        if path == "data":
            _set_data(content, str(override.as_text()))
        else:
            is_text = _annotation(root, path) in (str, str | None)
            _set(content, path, override.as_text() if is_text else override.value)


def _apart(
    override: Override, root: type[BaseModel], faults: list[str]
) -> list[tuple[str, Override]]:
    """Resolve the key; a section given as a mapping becomes an override for each of its keys."""
    path = _resolve(override.key, keys(root), faults)
    if path is None:
        return []
    kind = _annotation(root, path)
    is_section = isinstance(kind, type) and issubclass(kind, BaseModel)
    if not is_section or not isinstance(override.value, dict):
        return [(path, override)]
    inner = (Override(f"{path}.{key}", value, None) for key, value in override.value.items())
    return [pair for part in inner for pair in _apart(part, root, faults)]


def data_section(text: str) -> dict[str, Any]:
    """Return what ``data: TEXT`` stands for: a data set by name, a file, or a folder of images.

    Example:
        >>> data_section("lists/train.txt")
        {'name': 'list', 'train_list': 'lists/train.txt'}
        >>> data_section("torchvision:SVHN"), data_section("photos")
        ({'name': 'torchvision:SVHN'}, {'name': 'folder', 'root': 'photos'})
    """
    if text in KNOWN_DATA or text.startswith(TORCHVISION):
        return {"name": text}
    if text.startswith("hf:"):
        return {"name": "hf", "root": text.removeprefix("hf:")}
    if text.lower().endswith(".npz"):
        return {"name": "npz", "root": text}
    if text.lower().endswith(".txt"):
        return {"name": "list", "train_list": text}
    return {"name": "folder", "root": text}


def _set_data(content: dict[str, Any], text: str) -> None:
    """Choose the images, keeping the rest of the data section."""
    before = content.get("data")
    if isinstance(before, str):
        before = data_section(before)
    rest = dict(before) if isinstance(before, dict) else {}
    chosen = data_section(text)
    if rest.get("name") != chosen["name"]:
        if rest.get("name") in PLACED_DATA:
            rest.pop("root", None)  # no data set is to be looked for among someone's images
        for key in PLACE_KEYS:
            rest.pop(key, None)
    content["data"] = rest | chosen


def _resolve(key: str, known: list[str], faults: list[str]) -> str | None:
    """The whole key that a short one stands for."""
    if key in known:
        return key
    ends = [k for k in known if k.endswith(f".{key}")]
    if len(ends) == 1:
        return ends[0]
    if ends:
        faults.append(f"{key!r} could be {' or '.join(ends)}: write it out")
    else:
        near = known if "." in key else sorted({k.rpartition(".")[2] for k in known})
        faults.append(unknown_key(key, near, known))
    return None


def _make_room(content: dict[str, Any], given: dict[str, Any]) -> None:
    """Drop what the recipe says in other words: ``ratio``, ``imb_factor`` and ``type: none``."""
    data = content.get("data")
    imbalance = data.get("imbalance") if isinstance(data, dict) else None
    if not isinstance(imbalance, dict):
        return
    rivals = {"ratio", "imb_factor"}
    named = any(f"data.imbalance.{key}" in given for key in rivals)
    if named or given.get("data.imbalance.type") == "none":
        kept = {key: value for key, value in imbalance.items() if key not in rivals}
        content["data"] = data | {"imbalance": kept}  # type: ignore[operator]


def _set(content: dict[str, Any], path: str, value: Any) -> None:
    *parents, leaf = path.split(".")
    here = content
    for parent in parents:
        inner = here.get(parent)
        if isinstance(inner, str):  # `augment: open` is short for its first key
            first = {FIRST_KEYS.get(parent, "name"): inner}
            inner = data_section(inner) if parent == "data" else first
        if not isinstance(inner, dict | None):
            return  # no section: the check of the whole recipe says so
        here[parent] = inner = dict(inner or {})
        here = inner
    here[leaf] = value


def _annotation(part: type[BaseModel], path: str) -> Any:
    name, _, rest = path.partition(".")
    field = part.model_fields.get(name)
    if field is None:
        return None
    return _annotation(field.annotation, rest) if rest else field.annotation  # type: ignore[arg-type]
