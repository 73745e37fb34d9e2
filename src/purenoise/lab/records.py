"""Finished runs as a comparison reads them: what each did, what came out, what they differ in.

Imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from purenoise.errors import RecipeError, RunError
from purenoise.lab.summaryform import fault_of, readable_summary
from purenoise.recipe import LATER_KEYS, Recipe, load_recipe
from purenoise.runlog import RunFolder

# Column, and its place in a run's metrics.
METRICS: dict[str, tuple[str, ...]] = {
    "accuracy": ("accuracy",),
    "balanced accuracy": ("balanced_accuracy",),
    "many": ("groups", "many"),
    "medium": ("groups", "medium"),
    "few": ("groups", "few"),
    "head": ("groups", "head"),
    "mid": ("groups", "mid"),
    "tail": ("groups", "tail"),
    "worst class": ("worst_class",),
    "macro-F1": ("macro_f1",),
    "G-mean": ("g_mean",),
    "NLL": ("nll",),
    "ECE": ("ece",),
}
# Keys that belong to a method and not to the protocol by which methods are compared.
METHOD_KEYS = (
    "method", "options", "seed", "delta", "stop_gradient", "defer", "noise", "batch_norm"
)  # fmt: skip


@dataclass(frozen=True)
class Record:
    """A finished run.

    Args:
        label: Of its variant.
        seed: Of the run.
        folder: Where it lies.
        recipe: What it did.
        summary: What ``summary.json`` holds.
    """

    label: str
    seed: int
    folder: Path
    recipe: Recipe
    summary: Mapping[str, Any]

    def value(self, metric: str) -> float | None:
        """Return a number of the last epoch on the test images; None where there is none."""
        found: Any = self.summary["test"]
        for key in METRICS[metric]:
            found = None if found is None else found[key]
        return None if found is None else float(found)


def read_records(folders: Iterable[str | Path]) -> tuple[list[Record], dict[str, str]]:
    """Read finished runs.

    Args:
        folders: Of runs, or of folders that hold runs at any depth.

    Returns:
        The runs, labelled by method and by what else differs among them; and those that cannot be
        used (unfinished, damaged, without test images) with the reason.

    Raises:
        RunError: If a folder is none or holds no run.
    """
    found: list[tuple[Path, Recipe, dict[str, Any]]] = []
    left_out: dict[str, str] = {}
    for path in _run_folders(folders):
        try:
            files = RunFolder.existing(path)
            summary = readable_summary(files)
            if summary is None:
                left_out[str(path)] = "it is not finished"
                continue
            if summary["test"] is None:
                left_out[str(path)] = "it has no test images"
                continue
            fault = fault_of(summary)
            if fault:
                left_out[str(path)] = f"its summary.json is damaged: {fault}"
                continue
            recipe = load_recipe(str(files.recipe))
            files.check_recipe(recipe.digest())
            found.append((path, recipe, summary))
        except (RunError, RecipeError) as error:
            left_out[str(path)] = f"it cannot be read: {error.message}"
    labels = _labels([recipe for _, recipe, _ in found])
    records = [
        Record(label, recipe.seed, path, recipe, summary)
        for label, (path, recipe, summary) in zip(labels, found, strict=True)
    ]
    return records, left_out


def _run_folders(folders: Iterable[str | Path]) -> list[Path]:
    """Find the runs in folders, each once, in order."""
    found: dict[Path, None] = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise RunError(f"There is no folder {str(folder)!r}.", "Name folders of runs.")
        inside = sorted(path.parent for path in folder.rglob("recipe.yaml"))
        if not inside:
            raise RunError(
                f"There is no run in {str(folder)!r} (no recipe.yaml).",
                "`purenoise train` names the folder that it writes.",
            )
        found.update(dict.fromkeys(inside))
    return list(found)


def _labels(recipes: Sequence[Recipe]) -> list[str]:
    """Name each recipe by its method and, where that names several, by what else differs."""
    flat = [_flat(recipe) for recipe in recipes]
    labels = []
    for recipe, mine in zip(recipes, flat, strict=True):
        name = recipe.method_name()
        namesakes = [f for r, f in zip(recipes, flat, strict=True) if r.method_name() == name]
        differing = sorted(k for k in mine if any(f.get(k) != mine[k] for f in namesakes))
        labels.append(":".join([name, *(f"{key}={_short(mine[key])}" for key in differing)]))
    return labels


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _flat(recipe: Recipe) -> dict[str, Any]:
    """Return the keys that matter with dots, without method and seed."""
    later = recipe.model_dump(mode="json", include=set(LATER_KEYS))
    content = later | recipe.content()  # which leaves out what is not set of these
    del content["method"], content["seed"]
    return dict(_walk(content, ""))


def _walk(content: Mapping[str, Any], prefix: str) -> Iterable[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _walk(value, f"{prefix}{key}.")
        else:
            yield prefix + key, json.dumps(value) if isinstance(value, list) else value


def protocol_differences(records: Sequence[Record]) -> list[str]:
    """Say what differs among runs beside method and seed."""
    found = []
    for what, key in (("training images (subset)", "subset_sha256"), ("images", "fingerprint"),
                      ("class counts", "counts")):  # fmt: skip
        values = {json.dumps(record.summary.get(key)): record for record in records}
        if len(values) > 1:
            examples = [f"{str(r.folder)!r}" for r in list(values.values())[:2]]
            found.append(f"{what} differ, as between {' and '.join(examples)}")
    flat = [_flat(record.recipe) for record in records]
    for key in sorted({key for f in flat for key in f}):
        section = key.partition(".")[0]
        if section in METHOD_KEYS or key in ("data.imbalance.subset", "data.imbalance.seed"):
            continue
        values = {str(f.get(key)): record for f, record in zip(flat, records, strict=True)}
        if len(values) > 1:
            shown = " and ".join(f"{v} ({r.label})" for v, r in list(values.items())[:3])
            found.append(f"{key} is {shown}")
    return found
