"""Run folders made by hand, with answers that are known, for what reads runs."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from purenoise.metrics import evaluate_logits
from purenoise.probes import describe
from purenoise.recipe import load_recipe

COUNTS = (200, 80, 30, 6)
PER_CLASS = 25


def fake_logits(
    seed: int, skill: float, n_classes: int = len(COUNTS), per_class: int = PER_CLASS
) -> tuple[Any, Any]:
    """Return logits and labels of test images; the larger ``skill``, the more are right."""
    draws = np.random.default_rng([seed, round(100 * skill)])
    labels = np.repeat(np.arange(n_classes), per_class)
    logits = draws.normal(size=(len(labels), n_classes))
    logits[np.arange(len(labels)), labels] += skill
    return logits.astype(np.float32), labels


def fake_run(
    folder: Path,
    method: str = "erm",
    seed: int = 0,
    skill: float = 1.5,
    *,
    counts: Sequence[int] = COUNTS,
    names: Sequence[str] = (),
    overrides: Sequence[str] = (),
    per_class: int = PER_CLASS,
    probes: bool = True,
    epochs: int = 3,
    **changes: Any,
) -> Path:
    """Write a finished run.

    Args:
        folder: Of the run.
        method: Of the recipe.
        seed: Of the run; the answers follow from it and the skill.
        skill: How good the answers are.
        counts: Training images per class.
        names: Of the classes.
        overrides: Changes of the recipe.
        per_class: Test images of each class.
        probes: Whether the summary has probes.
        epochs: With events.
        **changes: Of the summary.
    """
    folder.mkdir(parents=True)
    recipe = load_recipe("digits", [f"method={method}", f"seed={seed}", *overrides])
    (folder / "recipe.yaml").write_text(recipe.to_yaml() + f"digest: {recipe.digest()}\n")
    logits, labels = fake_logits(seed, skill, len(counts), per_class)
    test = evaluate_logits(logits, labels, np.asarray(counts))
    kept = io.BytesIO()
    np.savez_compressed(kept, logits=logits, labels=labels)
    (folder / "predictions.npz").write_bytes(kept.getvalue())
    lines = [{"event": "phase", "epoch": 0, "start": "begin"}]
    lines += [{"event": "epoch", "epoch": e, "loss": 2.0 / (e + 1), "accuracy": 0.5,
               "test": {"accuracy": test["accuracy"] * (e + 1) / epochs}}
              for e in range(epochs)]  # fmt: skip
    (folder / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    noise = describe(logits[:10] / 2, logits, "drawn as OPeN draws them")
    summary = {
        "status": "finished", "recipe": recipe.name, "method": method, "seed": seed,
        "digest": recipe.digest(), "command": f"purenoise train digits method={method} seed={seed}",
        "augment": "none", "selection": "last epoch", "notes": [], "speed": {},
        "data": "digits", "class_names": list(names or [f"c{i}" for i in range(len(counts))]),
        "counts": list(counts), "image_shape": [1, 8, 8], "subset_sha256": "5" * 64,
        "fingerprint": "f" * 64, "n_train": sum(counts), "n_val": 0, "n_test": len(labels),
        "normalize": [[0.3], [0.4]], "noise": [[0.3], [0.4]], "test": test, "val": None,
        "optimistic_best_on_test": {"accuracy": min(1.0, test["accuracy"] + 0.02), "epoch": 1},
        "train_seconds": 1.5, "seconds": 2.0,
        "environment": {"device": "cpu", "cpu": "made up", "threads": 1, "torch": "0"},
    }  # fmt: skip
    if probes:
        summary["probes"] = {"test": {"confidence": 0.9}, "noise": noise, "no_class": noise}
    (folder / "summary.json").write_text(json.dumps(summary | changes))
    return folder


def fake_runs(
    root: Path, skills: dict[str, float], seeds: Sequence[int] = (0, 1, 2), **options: Any
) -> Path:
    """Write a run of each method with each seed below ``root``."""
    for method, skill in skills.items():
        for seed in seeds:
            fake_run(root / method / f"seed-{seed}", method, seed, skill, **options)
    return root


def uneven_runs(root: Path, methods: Sequence[str] = ("erm", "open"), n_seeds: int = 6) -> Path:
    """Write runs with imbalanced test images; the first method is ahead in accuracy alone."""
    n_test, right = (80, 20, 10, 5), ((80, 8, 2, 0), (60, 14, 8, 4))
    labels = np.repeat(range(4), n_test)
    for i, method in enumerate(methods):
        for seed in range(n_seeds):
            run = fake_run(root / method / f"seed-{seed}", method, seed, counts=COUNTS)
            hits = [np.arange(n) < k + seed % 2
                    for n, k in zip(n_test, right[min(i, 1)], strict=True)]  # fmt: skip
            answers = np.where(np.concatenate(hits), labels, (labels + 1) % 4)
            logits = np.eye(4, dtype=np.float32)[answers]
            np.savez_compressed(run / "predictions.npz", logits=logits, labels=labels)
            path = run / "summary.json"
            summary = json.loads(path.read_text())
            summary["test"] = evaluate_logits(logits, labels, np.asarray(COUNTS))
            path.write_text(json.dumps(summary | {"n_test": sum(n_test)}))
    return root
