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
from purenoise.lab.adjustedruns import (
    adjusted_inside,
    fault_of_adjusted,
    is_adjusted,
    label_of_adjusted,
    run_of,
)
from purenoise.recipe import LATER_KEYS, Recipe, load_recipe
from purenoise.runlog import RunFolder
from purenoise.summaryform import fault_of, is_of_another

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
ACCURACY, BALANCED = "accuracy", "balanced accuracy"
UNEVEN = 2  # times as many test images of one class as of another
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

    @property
    def adjusted(self) -> Mapping[str, Any] | None:
        """What was done to the run by `purenoise adjust`, or None for the run itself."""
        return self.summary["adjusted"] if is_adjusted(self.folder) else None

    def value(self, metric: str) -> float | None:
        """Return a number of the last epoch on the test images; None where there is none."""
        found: Any = self.summary["test"]
        for key in METRICS[metric]:
            found = None if found is None else found[key]
        return None if found is None else float(found)


def what_counts(records: Sequence[Record]) -> str:
    """Return the metric that runs are compared by: ``accuracy`` or ``balanced accuracy``.

    Benchmarks have as many test images of each class, and there the two are the same. Where test
    images are imbalanced too, the largest classes decide accuracy, and a method that helps rare
    classes looks worse than one that ignores them: classes count alike then.

    Args:
        records: Runs with test images.
    """
    for record in records:
        tested = [n for n in record.summary["test"]["n_test"] if n]
        if max(tested) > UNEVEN * min(tested):
            return BALANCED
    return ACCURACY


def read_records(
    folders: Iterable[str | Path], *, adjusted: bool = True
) -> tuple[list[Record], dict[str, str]]:
    """Read finished runs.

    Args:
        folders: Of runs, or of folders that hold runs at any depth.
        adjusted: Whether what `purenoise adjust` made of them is read too.

    Returns:
        The runs, labelled by method and by what else differs among them; and those that cannot be
        used (unfinished, damaged, without test images) with the reason.

    Raises:
        RunError: If a folder is none or holds no run.
    """
    found: list[tuple[Path, Recipe, dict[str, Any]]] = []
    left_out: dict[str, str] = {}
    for path in _run_folders(folders, adjusted):
        try:
            recipe, summary, why = _read(path)
        except (RunError, RecipeError) as error:
            recipe, summary, why = None, None, f"it cannot be read: {error.message.rstrip('.')}"
        if recipe is None or summary is None:
            left_out[str(path)] = why
        else:
            found.append((path, recipe, summary))
    labels = _labels([recipe for _, recipe, _ in found])
    records: dict[tuple[str, int, str], Record] = {}
    for label, (path, recipe, summary) in zip(labels, found, strict=True):
        if is_adjusted(path):
            label = f"{label}:{label_of_adjusted(summary)}"
            summary |= {"probes": None}  # those are of the run
            key = label, recipe.seed, json.dumps(summary["test"], sort_keys=True)
        else:
            key = label, recipe.seed, str(path)
        if key in records:  # such as tau=1, once said and once not
            left_out[str(path)] = f"it is the same result as {records[key].folder}"
        else:
            records[key] = Record(label, recipe.seed, path, recipe, summary)
    return list(records.values()), left_out


def _read(path: Path) -> tuple[Recipe | None, dict[str, Any] | None, str]:
    """Read a run, or what was made of one; without a recipe or a summary, the reason."""
    home = run_of(path) if is_adjusted(path) else path
    files = RunFolder.existing(home)
    summary = RunFolder(path).summary()
    if summary is None:
        return None, None, "it is not finished"
    if summary["test"] is None:
        return None, None, "it has no test images"
    recipe = load_recipe(str(files.recipe))
    files.check_recipe(recipe.digest())
    if why := fault_of(summary) or is_of_another(summary, recipe.digest()):
        return None, None, f"its summary.json is not used: {why}"
    if home is not path and (why := fault_of_adjusted(summary, files.summary())):
        return None, None, why
    return recipe, summary, ""


def _run_folders(folders: Iterable[str | Path], adjusted: bool) -> list[Path]:
    """Find the runs in folders, each once, in order."""
    found: dict[Path, None] = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise RunError(f"There is no folder {str(folder)!r}.", "Name folders of runs.")
        inside = sorted(path.parent for path in folder.rglob("recipe.yaml"))
        inside += adjusted_inside(folder) if adjusted else []
        if not inside:
            raise RunError(
                f"There is no run in {str(folder)!r} (no recipe.yaml).",
                "`purenoise train` names the folder that it writes.",
            )
        found.update(dict.fromkeys(inside))
    return list(found)


def _labels(recipes: Sequence[Recipe]) -> list[str]:
    """Name each recipe by its method and what else differs.

    Among recipes of one method that is every key, among all recipes every key of the protocol.
    """
    flat = [_flat(recipe) for recipe in recipes]
    every = {key for f in flat for key in f}
    apart = {key for key in every if _is_of_protocol(key) and _differs(key, flat)}
    labels = []
    for recipe, mine in zip(recipes, flat, strict=True):
        name = recipe.method_name()
        namesakes = [f for r, f in zip(recipes, flat, strict=True) if r.method_name() == name]
        differing = sorted(k for k in mine if k in apart or _differs(k, namesakes))
        texts = [f"{_short_key(key, every)}={_short(mine[key])}" for key in differing]
        labels.append(":".join([name, *texts]))
    return labels


def _differs(key: str, contents: Sequence[Mapping[str, Any]]) -> bool:
    return len({json.dumps(content.get(key)) for content in contents}) > 1


def _is_of_protocol(key: str) -> bool:
    return key.partition(".")[0] not in METHOD_KEYS


def _short_key(key: str, every: Iterable[str]) -> str:
    """The last word of a key, as one may type it, if no other ends so."""
    last = key.rpartition(".")[2]
    return last if sum(k.rpartition(".")[2] == last for k in every) == 1 else key


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
                      ("class counts", "counts"), ("class names", "class_names")):  # fmt: skip
        values = {json.dumps(record.summary.get(key)): record for record in records}
        if len(values) > 1:
            examples = [f"{str(r.folder)!r}" for r in list(values.values())[:2]]
            found.append(f"{what} differ, as between {' and '.join(examples)}")
    flat = [_flat(record.recipe) for record in records]
    for key in sorted({key for f in flat for key in f}):
        if not _is_of_protocol(key) or key in ("data.imbalance.subset", "data.imbalance.seed"):
            continue
        values = {str(f.get(key)): record for f, record in zip(flat, records, strict=True)}
        if len(values) > 1:
            shown = " and ".join(f"{v} ({r.label})" for v, r in list(values.items())[:3])
            found.append(f"{key} is {shown}")
    return found
