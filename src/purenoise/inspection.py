"""What is in a data set, before anything is trained: counts, imbalance, faults, advice."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from purenoise.longtail import FEW, groups, imbalance
from purenoise.names import SHORT_DATA
from purenoise.noise import replacement_probabilities
from purenoise.recipe import Recipe

if TYPE_CHECKING:
    from purenoise.data.scan import FolderScan

NOISY_SHARE = 0.05


@dataclass
class Inspection:
    """What was found.

    Args:
        name: Of the data set.
        classes: One dict per class: name, train, val, test, noise (share in the OPeN phase).
        facts: Name and value of each number.
        faults: What is wrong, one sentence each.
        advice: What to do, one sentence each.
    """

    name: str
    classes: list[dict[str, Any]]
    facts: dict[str, Any]
    faults: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return dict(vars(self))


def inspect_data(recipe: Recipe) -> Inspection:
    """Look at the data of a recipe.

    Raises:
        DataError: If the data cannot be used at all.
    """
    from purenoise.prepare import prepare, scan_data

    scan = scan_data(recipe.data)
    data = prepare(recipe.data, scan)
    dataset, counts = data.dataset, data.counts
    shape = imbalance(counts)
    noise = replacement_probabilities(counts, recipe.delta)
    splits = {"val": dataset.val, "test": dataset.test}
    per_split = {
        k: s.counts(dataset.n_classes) if s is not None else np.zeros(dataset.n_classes, int)
        for k, s in splits.items()
    }
    classes = [
        {"class": name, "train": int(counts[c]), "val": int(per_split["val"][c]),
         "test": int(per_split["test"][c]), "noise": float(noise[c])}
        for c, name in enumerate(dataset.class_names)
    ]  # fmt: skip
    members = {name: len(c) for name, c in groups(counts).items()}
    facts = {
        "classes": dataset.n_classes,
        "training images": shape.n_images,
        "test images": len(dataset.test),
        "imbalance ratio": round(shape.ratio, 2),
        "Gini": round(shape.gini, 3),
        "effective classes": round(shape.effective_classes, 2),
        "many / medium / few": f"{members['many']} / {members['medium']} / {members['few']}",
        "image (C, H, W)": dataset.image_shape,
        "pixel mean": [round(v, 4) for v in data.noise_mean],
        "pixel std": [round(v, 4) for v in data.noise_std],
        "noise share in the OPeN phase": round(float(noise.mean()), 3),
    }
    if dataset.subset_sha256:
        facts["subset sha256"] = dataset.subset_sha256
    if scan is not None:
        facts |= _files(scan)
    faults = [note for note in dataset.notes if scan is None or note not in scan.notes]
    found = Inspection(dataset.name, classes, facts, faults)
    found.advice = _advice(found, shape.ratio, recipe)
    return found


def _files(scan: FolderScan) -> dict[str, Any]:
    """Sizes, kinds and duplicates among the files, and where the decoded images are kept."""
    sizes = Counter(image.size for image in scan.images)
    common = ", ".join(f"{h} x {w} ({n})" for (h, w), n in sizes.most_common(3))
    return {
        "sizes (H x W)": common + (f" and {len(sizes) - 3} more" if len(sizes) > 3 else ""),
        "grey / colour": f"{sum(i.grey for i in scan.images)} / "
        f"{sum(not i.grey for i in scan.images)}",
        "unusable files": len(scan.unusable),
        "groups of identical files": len(scan.duplicates),
        "of these with two labels": len(scan.conflicts),
        "of these across splits": len(scan.leaks),
    } | ({"decoded images": " ".join(scan.notes)} if scan.notes else {})


def _advice(found: Inspection, ratio: float, recipe: Recipe) -> list[str]:
    """What these numbers call for."""
    advice = []
    few = [row["class"] for row in found.classes if row["train"] < FEW]
    untested = [row["class"] for row in found.classes if row["test"] == 0]
    tests = [row["test"] for row in found.classes if row["test"]]
    if ratio < 1.5:
        advice.append(
            "The classes are balanced: resampling has nothing to do. Noise can still serve as "
            "augmentation: method=noise-augment."
        )
    else:
        advice.append(
            "Compare method=open with method=drs (the same without noise) over several seeds; "
            "their gap is often smaller than the spread between seeds."
        )
    if ratio >= 10:
        advice.append("Accuracy hides rare classes here: read balanced accuracy and each class.")
    if few:
        advice.append(
            f"{_classes(few)} fewer than {FEW} training images: more images of "
            f"{'it' if len(few) == 1 else 'them'} will help more than any method."
        )
    if untested:
        whose = "its" if len(untested) == 1 else "their"
        advice.append(f"{_classes(untested)} no test image: {whose} accuracy is n/a.")
    if tests and min(tests) < 20:
        advice.append(
            f"The smallest class has {min(tests)} test image{'s' * (min(tests) > 1)}: one image is "
            f"{100 / min(tests):.0f} points of its accuracy."
        )
    if tests and max(tests) > 1.5 * min(tests):
        advice.append("The test set is imbalanced too: compare by balanced accuracy.")
    if recipe.data.name not in SHORT_DATA and recipe.augment.flip is None:
        advice.append(
            "Images are mirrored in training; if a mirrored image is another class (text, left and "
            "right hands), add augment.flip=false."
        )
    return advice


def _classes(names: list[str]) -> str:
    """Return how many classes have something."""
    return "1 class has" if len(names) == 1 else f"{len(names)} classes have"
