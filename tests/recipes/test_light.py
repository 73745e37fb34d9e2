"""What importing costs: recipes need no torch, the method needs torch and NumPy alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from purenoise import overrides


def run(code: str) -> str:
    """Run code in a fresh interpreter and return what it prints."""
    source = str(Path(overrides.__file__).parent.parent)
    start = f"import sys; sys.path.insert(0, {source!r})\n"
    done = subprocess.run(
        [sys.executable, "-c", start + code], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


LIGHT = ["errors", "names", "datasection", "recipe", "methodfile", "overrides", "yamlfile"]
FLOOR_1 = ["names", "noise", "darbn", "twopass", "inloop", "longtail", "samplers", "losses",
           "metrics", "schedules"]  # fmt: skip
CONVERTER = "conversion"
BLOCK = """
import importlib
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Block())
"""
EXTRAS = ["torchvision", "sklearn", "pydantic", "yaml", "rich", "typer", "PIL", "safetensors",
          "matplotlib", "timm", "scipy"]  # fmt: skip


@pytest.mark.parametrize(("also", "expected"), [("", "False"), ("import torch\n", "True")])
def test_recipes_need_no_torch(also: str, expected: str) -> None:
    """Errors and recipes do not load torch; and this test sees it where it is loaded."""
    loaded = "".join(f"import purenoise.{module}\n" for module in LIGHT)
    work = "purenoise.recipe.load_recipe('digits', ['method=open+ldam']).digest()\n"
    assert run(f"{loaded}{work}{also}print('torch' in sys.modules)") == expected


def test_floor_1_needs_torch_and_numpy_alone() -> None:
    """The method's modules load where nothing but torch and numpy is installed."""
    names = [*FLOOR_1, CONVERTER]
    code = BLOCK.format(blocked=EXTRAS)
    code += f"for m in {names}: importlib.import_module('purenoise.' + m)\n"
    assert run(code + "print('loaded')") == "loaded"


def test_the_block_can_fail() -> None:
    """The block is seen by a module that needs what is blocked."""
    code = BLOCK.format(blocked=EXTRAS) + "import purenoise.recipe\n"
    assert "blocked: pydantic" in run(code + "print('loaded')")
