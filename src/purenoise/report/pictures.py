"""Small images in a report: noise beside natural images, and test images that changed sides.

Natural images come from the run's data, if they are still there and unchanged; nothing is
downloaded for a report.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from purenoise.errors import PureNoiseError
from purenoise.lab.comparison import Comparison, Difference
from purenoise.lab.records import Record
from purenoise.names import SHORT_DATA
from purenoise.noise import noise_images
from purenoise.prepare import Prepared, prepare
from purenoise.report.answers import Answers
from purenoise.report.document import Part, Picture, Pictures, Sentences
from purenoise.report.wording import clean, several
from purenoise.runtime import generator

N_SHOWN = 8
N_METHODS = 3  # whose gains and losses are shown with images
LARGEST = 96  # pixels of a side; larger images are scaled down


def load_images(record: Record) -> Prepared | str:
    """Return the data of a run, or a sentence on why they cannot be shown."""
    data = record.recipe.data
    try:
        if data.name in ("cifar10", "cifar100"):
            from purenoise.data.cifar import load_cifar

            load_cifar(data.name, data.root or "data", download=False)
        prepared = prepare(data.model_copy(update={"download": False}))
    except PureNoiseError as error:
        return f"There are no example images, because the data are not here: {error.message}"
    if prepared.dataset.fingerprint != record.summary.get("fingerprint"):
        return "There are no example images, because the data have changed since the run."
    return prepared


def noise_and_natural(record: Record, data: Prepared | str) -> list[Part]:
    """Return noise images beside training images."""
    summary = record.summary
    size = summary["image_shape"][1:]
    mean, std = summary["noise"]
    drawn = noise_images(N_SHOWN, size, mean, std, generator(0))
    noise = (drawn * 255).round().byte().numpy()
    parts: list[Part] = [
        Pictures(
            "Noise images as OPeN draws them: every pixel by itself, with the mean and deviation "
            "of the training images.",
            tuple(Picture(source(image), f"noise image {i + 1}") for i, image in enumerate(noise)),
        )
    ]
    if isinstance(data, str):
        return [*parts, Sentences((data,))]
    train, names = data.dataset.train, data.dataset.class_names
    classes = np.argsort(-data.counts, kind="stable")
    spread = np.unique(np.linspace(0, len(classes) - 1, N_SHOWN).round().astype(int))
    rows = np.array([np.flatnonzero(train.labels == c)[0] for c in classes[spread]], np.int64)
    items = [
        Picture(
            source(image), f"training image of class {clean(names[label])}", clean(names[label])
        )
        for image, label in zip(train.images.load(rows), train.labels[rows], strict=True)
    ]
    return [*parts, Pictures("Training images, from the largest class to the smallest.",
                             tuple(items))]  # fmt: skip


def changed_sides(
    comparison: Comparison, answers: Mapping[Path, Answers | None], data: Prepared | str
) -> list[Part]:
    """Return test images of the classes that gained and lost most against the baseline."""
    differences = [d for d in comparison.differences if d.classes][:N_METHODS]
    if not differences:
        return []
    if isinstance(data, str):
        return [Sentences((data,))]
    parts: list[Part] = []
    for difference in differences:
        rights = _rights(comparison, difference, answers, data)
        if rights is None:
            continue
        known = [(p.estimate.mean, c) for c, p in enumerate(difference.classes) if p is not None]
        for change, c in {max(known): None, min(known): None}:
            if change:
                parts.append(_examples(difference, c, change, rights, data))
    return parts


def _rights(
    comparison: Comparison,
    difference: Difference,
    answers: Mapping[Path, Answers | None],
    data: Prepared,
) -> tuple[Any, list[Answers], list[Answers]] | None:
    """Return per test image by how many seeds more it is right, and both methods' answers."""
    sides = []
    for label in (difference.label, difference.baseline):
        row = next(r for r in comparison.rows if r.label == label)
        records = [r for r in row.records if r.seed in difference.seeds]
        found = [answers[r.folder] for r in records]
        labels = data.dataset.test.labels
        if any(a is None or not np.array_equal(a.labels, labels) for a in found):
            return None
        sides.append([a for a in found if a is not None])
    mine, theirs = (sum(a.correct.astype(int) for a in side) for side in sides)
    return mine - theirs, sides[0], sides[1]


def _examples(difference: Difference, c: int, change: float, rights: Any, data: Prepared) -> Part:
    """Return the test images of one class that changed sides in the most seeds."""
    more, mine, theirs = rights
    names, test = data.dataset.class_names, data.dataset.test
    gained, n = change > 0, len(difference.seeds)
    most = f", those with most of the {n} seeds first" if n > 1 else ""
    members = np.flatnonzero(test.labels == c)
    ranked = members[np.argsort(-more[members] if gained else more[members], kind="stable")]
    chosen = [int(i) for i in ranked[:N_SHOWN] if (more[i] > 0 if gained else more[i] < 0)]
    label, base = clean(difference.label), clean(difference.baseline)
    caption = (
        f"{label} against {base}: class {clean(names[c])} {'gained' if gained else 'lost'} "
        f"{100 * abs(change):.1f} points. Test images that {label if gained else base} has right "
        f"and {base if gained else label} has wrong{most}; below: what "
        f"{base if gained else label} takes them for."
    )
    if not chosen:
        return Sentences((f"{caption} There is none.",))
    images = test.images.load(np.array(chosen, np.int64))
    items = []
    for image, i in zip(images, chosen, strict=True):
        wrong = [int(a.predicted[i]) for a in (theirs if gained else mine) if not a.correct[i]]
        said = several([clean(names[w]) for w in wrong], 2)
        alt = f"test image of class {clean(names[c])}, taken for {said}"
        items.append(Picture(source(image), alt, said))
    return Pictures(caption, tuple(items))


def source(image: NDArray[np.uint8]) -> str:
    """Return an image, uint8 of shape (C, H, W), as PNG in a data address."""
    rows = image.transpose(1, 2, 0)
    picture = Image.fromarray(rows[..., 0] if rows.shape[2] == 1 else np.ascontiguousarray(rows))
    picture.thumbnail((LARGEST, LARGEST), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def few_enough(records: Sequence[Record], most: int) -> bool:
    """Whether the images can be looked at again in little time."""
    s = records[0].summary
    return records[0].recipe.data.name in SHORT_DATA or s["n_train"] + s["n_test"] <= most
