"""What the tests of comparisons share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from purenoise.lab.comparison import Comparison, analyse
from purenoise.lab.records import read_records


def compared(*folders: Path, **options) -> Comparison:
    """Read and compare."""
    records, left_out = read_records(folders)
    return analyse(records, left_out=left_out, **options)


def accuracies(root: Path, method: str) -> list[float]:
    """Read the accuracies of a method's seeds straight from the files."""
    files = sorted((root / method).glob("seed-*/summary.json"))
    return [json.loads(file.read_text())["test"]["accuracy"] for file in files]


def edited(folder: Path, change: Callable[[dict], object]) -> Path:
    """Change a run's summary by hand."""
    path = folder / "summary.json"
    summary = json.loads(path.read_text())
    change(summary)
    path.write_text(json.dumps(summary))
    return folder
