"""YAML as recipes use it: ``1e-3`` is a number, and a key that stands twice is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from purenoise.errors import RecipeError


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, stricter on keys and with the floats that people write."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):  # the safe loader refuses it, as not hashable
            continue
        if key.value in seen:
            problem = f"the key {key.value!r} stands twice"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
        seen.add(key.value)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def parse(text: str, what: str) -> Any:
    """Return the value of a YAML text.

    Raises:
        RecipeError: If it is not YAML; ``what`` says in the message which text it was.

    Example:
        >>> parse("{lr: 1e-3}", "this")
        {'lr': 0.001}
    """
    try:
        return yaml.load(text, Loader=_Loader)  # a safe loader
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise RecipeError(f"{what} is not valid YAML: {problem}{line}.") from error


def load(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        RecipeError: If it cannot be read, is empty, is no YAML or no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} cannot be read: {error}.") from error
    content = parse(text, str(path))
    if content is None:
        raise RecipeError(f"{path} holds nothing.")
    if not isinstance(content, dict):
        raise RecipeError(f"{path} holds {type(content).__name__}, not keys and values.")
    return content


def dump(content: dict[str, Any]) -> str:
    """Return a mapping as YAML, keys in their order."""
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
