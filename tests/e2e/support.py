"""Run the command line inside the test process or in one of its own, and make image folders."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from purenoise import cli

SHORT = ("epochs=2", "batch_size=128", "threads=1")


@dataclass(frozen=True)
class Result:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


class Command:
    """Runs ``purenoise`` in this process, in a folder of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, *words: str | Path) -> Result:
        """Run it with ``words`` as its arguments."""
        self.monkeypatch.setattr(sys, "argv", ["purenoise", *map(str, words)])
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main()
        captured = self.capsys.readouterr()
        code = left.value.code
        return Result(code if isinstance(code, int) else int(code is not None), *captured)

    def refused(self, *words: str | Path) -> str:
        """Run it, expecting one message and exit code 2; return the message."""
        result = self(*words)
        assert result.code == 2, result
        assert "Traceback" not in result.err + result.out
        assert result.err.startswith("purenoise: ")
        assert result.err.count("purenoise: ") == 1
        return result.err


def in_own_process(
    *words: str | Path, cwd: Path, module: bool = False, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run ``purenoise`` in a process of its own."""
    return subprocess.run(
        [*program(module=module), *map(str, words)], cwd=cwd, env=os.environ | environment,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def program(*, module: bool = False) -> list[str]:
    """Return the words that start the command."""
    if module:
        return [sys.executable, "-m", "purenoise"]
    return [sys.executable, "-c", "from purenoise.cli import main; main()"]


def weights(folder: Path) -> dict[str, np.ndarray]:
    """Return the weights of a finished run."""
    return load_file(folder / "weights.safetensors")


def equal_weights(a: Path, b: Path) -> bool:
    """Whether two finished runs have the same weights, bit for bit."""
    first, second = weights(a), weights(b)
    return first.keys() == second.keys() and all(
        np.array_equal(value, second[name]) for name, value in first.items()
    )


def only_run(root: Path) -> Path:
    """Return the one run folder below ``root``."""
    (recipe,) = root.rglob("recipe.yaml")
    return recipe.parent


def snapshot(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder with their content."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def make_images(root: Path, counts: dict[str, int], size: int = 12, grey: bool = False) -> Path:
    """Write made-up PNG images, each class with a colour of its own, below class folders."""
    random = np.random.default_rng(sorted(map(len, counts)))
    for c, (name, n) in enumerate(counts.items()):
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(n):
            pixels = random.normal(60 + 120 * (c % 2), 25, (size, size, 3))
            pixels[..., c % 3] += 40
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            (image.convert("L") if grey else image).save(folder / f"{i:03}.png")
    return root
