"""YAML as recipes use it: ``1e-3`` is a number, and a key that stands twice is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from purenoise.errors import RecipeError
from purenoise.smallfile import MIB, read_small_text

MOST = 4 * MIB  # of a recipe; ours have 2 kB
MOST_KEYS = 10_000  # of one mapping, those that `<<` merges into it among them


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, stricter on keys and with the floats that people write."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge ``<<``; each level may multiply what the one before merged."""
        super().flatten_mapping(node)
        if len(node.value) > MOST_KEYS:
            problem = f"more than {MOST_KEYS:,} keys in one mapping"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


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


# The last five: the safe loader's own constructors, given a tag that does not fit its value.
FAULTS = (yaml.YAMLError, RecursionError, ValueError, AttributeError, LookupError, TypeError,
          OverflowError)  # fmt: skip


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
    except FAULTS as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        if not isinstance(error, yaml.YAMLError | RecursionError | ValueError):
            problem = "a tag (!!...) does not fit its value"
        raise RecipeError(f"{what} is not valid YAML: {problem}{line}.") from error


def load(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        RecipeError: If it cannot be read, is empty, is no YAML or no mapping.
    """
    try:
        text = read_small_text(path, MOST)
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror or error}.") from error
    content = parse(text, str(path))
    if content is None:
        raise RecipeError(f"{path} holds nothing.")
    if not isinstance(content, dict):
        raise RecipeError(f"{path} holds {type(content).__name__}, not keys and values.")
    return content


def dump(content: dict[str, Any]) -> str:
    """Return a mapping as YAML, keys in their order."""
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def head_sentence(path: Path) -> str:
    """Return the first sentence of the comments in a file, which say what it is."""
    lines = path.read_text(encoding="utf-8").splitlines()
    text = " ".join(line[1:].strip() for line in lines if line.startswith("#"))
    return re.split(r"(?<!\bet al)\. ", text)[0].rstrip(".") + "."
