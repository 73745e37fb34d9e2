"""What the tests of recipes share."""

from __future__ import annotations

from pathlib import Path

import pytest

from purenoise.errors import RecipeError
from purenoise.recipe import (
    load_recipe,
)


def faults_of(name: str | None, *given: str) -> list[str]:
    """Return the faults that loading tells, one per line."""
    with pytest.raises(RecipeError) as caught:
        load_recipe(name, given)
    return [line[4:] for line in caught.value.message.splitlines() if line.startswith("  - ")]


def written(tmp_path: Path, text: str) -> str:
    """Return the path of a recipe with this text."""
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)
