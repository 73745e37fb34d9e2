"""Long-tailed class counts, the subsets that make a balanced set long-tailed, and class groups.

Counts follow Cao et al. (LDAM-DRW, 2019) with their truncation; ``imb_factor`` there is 1 / ratio
here. A subset is named, because results depend on it (up to 2.9 points for one method), and has a
SHA-256 that says which images it holds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from purenoise.errors import DataError, did_you_mean
from purenoise.smallfile import MIB, read_small_text

IMBALANCE_TYPES = ("exp", "step", "none")
SUBSETS = ("ldam", "first", "random")
MANY, FEW = 100, 20
MOST_COUNT = 2**53  # above, floats are not all whole numbers any more, and sums overflow
MOST_BYTES = 256 * MIB  # of an index file: some 20 million indices


def imbalanced_counts(
    imb_type: str, n_max: int, n_classes: int, ratio: float = 1.0
) -> NDArray[np.int64]:
    """Return the number of images per class of a long-tailed profile.

    Args:
        imb_type: ``exp``: int(n_max * ratio ** (-c / (C - 1))) for class c. ``step``: the first
            half of the classes has n_max, the rest int(n_max / ratio). ``none``: n_max each. One
            class alone has n_max.
        n_max: Images of the largest class.
        n_classes: Number of classes C.
        ratio: Imbalance ratio n_max / n_min, at least 1.

    Returns:
        int64, shape (C,).

    Raises:
        DataError: If the type is unknown, the ratio is below 1 or so large that a class would be
            empty.

    Example:
        >>> imbalanced_counts("exp", 5000, 10, 100).tolist()
        [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]

    Source: Cao et al. 2019; class order is the data set's, so class 0 is the head.
    """
    if imb_type not in IMBALANCE_TYPES:
        raise DataError(
            f"Imbalance type {imb_type!r} is not known.", did_you_mean(imb_type, IMBALANCE_TYPES)
        )
    if not ratio >= 1:
        raise DataError(
            f"The imbalance ratio is {ratio:g}, and must be at least 1 (largest / smallest class).",
            f"For imb_factor={ratio:g} give ratio={1 / ratio:g}." if ratio > 0 else "",
        )
    if n_max < 1 or n_classes < 1:
        raise DataError(
            f"A profile of {n_classes} classes with at most {n_max} images has no images.",
            "Both must be at least 1.",
        )
    factor = 1 / ratio  # computed as the field does, so that truncation falls the same way
    if imb_type == "exp" and n_classes > 1:
        counts = [int(n_max * factor ** (c / (n_classes - 1.0))) for c in range(n_classes)]
    elif imb_type == "step":
        head = max(1, n_classes // 2)  # a class alone is the largest one
        counts = [n_max] * head + [int(n_max * factor)] * (n_classes - head)
    else:
        counts = [n_max] * n_classes
    if min(counts) < 1:
        raise DataError(
            f"With an imbalance ratio of {ratio:g}, class {int(np.argmin(counts))} would have no "
            f"image left (the largest class has {n_max}).",
            f"Choose a smaller ratio: below {n_max}, so that the smallest class keeps an image.",
        )
    return np.array(counts, dtype=np.int64)


def long_tail_subset(
    labels: ArrayLike, counts: ArrayLike, subset: str = "ldam", seed: int = 0
) -> NDArray[np.int64]:
    """Choose ``counts[c]`` images of each class c.

    Args:
        labels: Class of every image in the data set's official order, shape (N,), 0..C-1.
        counts: Images wanted per class, shape (C,).
        subset: ``ldam``: one legacy numpy generator for all classes; each class's indices in
            ascending order are shuffled and the first taken (Cao et al. use seed 0). ``first``: the
            first of each class (M2m). ``random``: without replacement from a modern generator.
        seed: Of the generator; not used by ``first``.

    Returns:
        Indices into the data set, int64, class by class in the order drawn.

    Raises:
        DataError: If the subset is unknown or a class has fewer images than wanted (named).

    Example:
        >>> long_tail_subset([0, 1, 0, 1, 0], [2, 1], "first").tolist()
        [0, 2, 1]
    """
    if subset not in SUBSETS:
        raise DataError(
            f"Subset {subset!r} is not known.",
            did_you_mean(subset, SUBSETS) + " Or give subset=FILE with one index per line.",
        )
    target, wanted = np.asarray(labels), np.asarray(counts)
    # RandomState(seed) gives the stream of np.random.seed(seed) without touching global state.
    legacy, modern = np.random.RandomState(seed), np.random.default_rng(seed)
    chosen = []
    for c, n in enumerate(wanted):
        index = np.flatnonzero(target == c)
        if len(index) < n:
            raise DataError(
                f"Class {c} has {len(index)} images, and {n} are wanted.",
                "Lower the size of the largest class or choose another profile.",
            )
        if subset == "ldam":
            legacy.shuffle(index)
        elif subset == "random":
            modern.shuffle(index)
        chosen.append(index[:n])
    return np.concatenate(chosen).astype(np.int64)


def subset_sha256(indices: ArrayLike) -> str:
    """Return the SHA-256 of the sorted indices, one per line, each line ended.

    Args:
        indices: Indices into the data set in any order, shape (n,).

    Example:
        >>> subset_sha256([2, 0, 1])[:8] == subset_sha256([0, 1, 2])[:8]
        True
    """
    lines = "".join(f"{i}\n" for i in np.sort(np.asarray(indices)))
    return hashlib.sha256(lines.encode()).hexdigest()


def read_index_file(path: str | Path, n_images: int) -> NDArray[np.int64]:
    """Read a subset from a text file with one index per line.

    Args:
        path: The file; blank lines and lines that begin with ``#`` are skipped.
        n_images: Size of the data set.

    Returns:
        Indices, int64, in the order of the file.

    Raises:
        DataError: If the file cannot be read, or has a line that is no index of an image or repeats
            one (all such lines are counted, the first is named).
    """
    try:
        lines = read_small_text(path, MOST_BYTES).splitlines()
    except OSError as error:
        raise DataError(
            f"The index file {path} cannot be read: {error.strerror or error}.",
            "Give ldam, first, random, or a text file with one index per line.",
        ) from error
    seen: dict[int, int] = {}
    faults = []
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if not text.isdecimal() or len(text) > 15 or int(text) >= n_images:
            faults.append(f"line {number} is {text[:40]!r}, not an index below {n_images}")
        elif int(text) in seen:
            faults.append(f"line {number} repeats the index {text} of line {seen[int(text)]}")
        else:
            seen[int(text)] = number
    if faults or not seen:
        first = faults[0] if faults else "it has no index"
        raise DataError(
            f"The index file {path} cannot be used: {first}"
            + (f" ({len(faults)} such lines)." if len(faults) > 1 else "."),
            "Indices count from 0 in the data set's official order.",
        )
    return np.array(list(seen), dtype=np.int64)


def check_counts(counts: ArrayLike) -> NDArray[np.int64]:
    """Return class counts as int64, refusing classes without images.

    Raises:
        DataError: Naming the classes that are empty, or if they are no counts, or above 2**53.
    """
    array = np.asarray(counts)
    numbers = array.ndim == 1 and len(array) > 0 and array.dtype.kind in "iuf"
    if not numbers or not np.all(np.isfinite(array)) or np.any(np.mod(array, 1)):
        raise DataError(
            f"Class counts must be whole numbers of shape (C,), got {array.tolist()!r}."[:300],
            "Give the number of training images of each class.",
        )
    if np.any(array > MOST_COUNT):
        c = int(np.argmax(array))
        raise DataError(
            f"Class {c} has {array[c]:g} training images, and at most 2**53 can be counted.",
            "Give the number of training images of each class.",
        )
    empty = np.flatnonzero(array < 1)
    if len(empty):
        names = ", ".join(map(str, empty[:5])) + (" and more" if len(empty) > 5 else "")
        raise DataError(
            f"Class {names} has no training images ({len(empty)} of {len(array)} classes).",
            "Leave such classes out, or add images of them.",
        )
    return array.astype(np.int64)


def groups(counts: ArrayLike) -> dict[str, NDArray[np.int64]]:
    """Return the classes of each group.

    Args:
        counts: Training images per class, shape (C,).

    Returns:
        ``many`` (> 100 images), ``medium`` (20 to 100), ``few`` (< 20), and ``head``, ``mid``,
        ``tail``: thirds of the classes by size, largest first (equal sizes in class order; the
        head and the tail have C // 3 classes each). Each an int64 array, possibly empty.

    Example:
        >>> {k: v.tolist() for k, v in groups([500, 100, 19]).items() if k in ("medium", "few")}
        {'medium': [1], 'few': [2]}

    Source: many, medium, few as in Liu et al. 2019 (OLTR).
    """
    n = np.asarray(counts)
    order = np.argsort(-n, kind="stable").astype(np.int64)
    third = len(n) // 3
    return {
        "many": np.flatnonzero(n > MANY),
        "medium": np.flatnonzero((n >= FEW) & (n <= MANY)),
        "few": np.flatnonzero(n < FEW),
        "head": np.sort(order[:third]),
        "mid": np.sort(order[third : len(n) - third]),
        "tail": np.sort(order[len(n) - third :]),
    }


@dataclass(frozen=True)
class Imbalance:
    """How imbalanced a set is.

    Args:
        n_images: Images in all.
        n_max: Images of the largest class.
        n_min: Images of the smallest class.
        ratio: n_max / n_min.
        gini: Gini coefficient of the class counts; 0 is balanced.
        effective_classes: exp of the entropy of the class shares; C is balanced.
    """

    n_images: int
    n_max: int
    n_min: int
    ratio: float
    gini: float
    effective_classes: float


def imbalance(counts: Sequence[int] | ArrayLike) -> Imbalance:
    """Measure how imbalanced class counts are.

    Args:
        counts: Images per class, shape (C,), each at least 1.

    Raises:
        DataError: If a class has no images.

    Example:
        >>> imbalance([100, 10]).ratio
        10.0
    """
    n = np.sort(check_counts(counts)).astype(np.float64)
    size, total = len(n), n.sum()
    gini = float((2 * np.arange(1, size + 1) - size - 1) @ n / (size * total))
    share = n / total
    return Imbalance(
        int(total), int(n[-1]), int(n[0]), float(n[-1] / n[0]), gini,
        float(np.exp(-(share * np.log(share)).sum())),
    )  # fmt: skip
