"""CelebA-5: five hair colours of CelebA, with the counts of M2m (Kim et al. 2020).

M2m published lists without saying how they were made. They follow a rule: of the images that have
an attribute, in CelebA's own order, the first 50 are for validation, the next 100 for testing, and
the next n for training, n being a twentieth of all that have it: 424, 2423, 1499, 2078 and 227.
CelebA's own partition (``list_eval_partition.txt``) plays no part in it.

Differs from M2m: images with two of the five attributes are left out. In M2m's lists they stand
under both labels, some of them in training and in test. So counts are M2m's and most images are,
but a result is not on the very same images.

Source: the lists celebA_{train,val,test}_orig.txt of M2m's repository.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from purenoise.data.listfile import Faults, ListedImages
from purenoise.data.listset import ListedSet
from purenoise.errors import DataError
from purenoise.smallfile import MIB, read_small_text

ATTRIBUTES = ("Gray_Hair", "Black_Hair", "Blond_Hair", "Brown_Hair", "Bald")  # M2m's labels 0..4
N_VAL, N_TEST = 50, 100
MOST_BYTES = 512 * MIB  # of CelebA's attributes, which take 26
SHARE = 20  # one training image for so many that have the attribute
ATTRIBUTE_FILE, IMAGES = "list_attr_celeba.txt", "img_align_celeba"


def celeba_lists(root: str | None) -> ListedSet:
    """Read CelebA's attributes and choose the images of CelebA-5.

    Args:
        root: Folder with ``list_attr_celeba.txt`` (also in ``Anno/``) and ``img_align_celeba/``
            (also in ``Img/``), as they are published.

    Raises:
        DataError: Files are missing or of another form, or images are missing.
    """
    folder = Path(os.path.expanduser(root or "data/celeba"))
    if not folder.is_dir():
        raise DataError(f"There is no folder '{folder}'.", "Give data.root, where CelebA lies.")
    folder = folder.resolve()
    file = _first(folder, ATTRIBUTE_FILE, f"Anno/{ATTRIBUTE_FILE}")
    images = _first(folder, IMAGES, f"Img/{IMAGES}")
    names, has = read_attributes(file)
    lists = {"train": [], "val": [], "test": []}  # type: dict[str, list[tuple[int, int]]]
    only = has.sum(axis=1) == 1
    for label in range(len(ATTRIBUTES)):
        rows = np.flatnonzero(has[:, label] & only).tolist()
        n = int(has[:, label].sum()) // SHARE
        ends = (N_VAL, N_VAL + N_TEST, N_VAL + N_TEST + n)
        if len(rows) <= N_VAL + N_TEST or n == 0:
            raise DataError(
                f"'{file}' has {len(rows)} images with {ATTRIBUTES[label]} alone, and more than "
                f"{N_VAL + N_TEST} are needed.",
                "Take the whole file of CelebA, 202,599 images.",
            )
        for split, part in (
            ("val", rows[: ends[0]]),
            ("test", rows[ends[0] : ends[1]]),
            ("train", rows[ends[1] : ends[2]]),
        ):
            lists[split] += [(row, label) for row in part]
    top = images.relative_to(folder).as_posix()
    listed = {
        split: ListedImages(
            file.name,
            [f"{top}/{names[row]}" for row, _ in part],
            np.array([label for _, label in part], np.int64),
            np.array([row + 3 for row, _ in part], np.int64),  # behind a count and a heading
        )
        for split, part in lists.items()
    }
    return ListedSet("celeba5", folder, listed, ATTRIBUTES)


def read_attributes(file: Path) -> tuple[list[str], NDArray[np.bool_]]:
    """Read which images have which of the five attributes.

    Args:
        file: ``list_attr_celeba.txt``: a count, a line of attribute names, then lines of a file
            name and 1 or -1 for each attribute.

    Returns:
        File names, and bool of shape (N, 5).

    Raises:
        DataError: It is of another form; the first lines at fault are named.
    """
    try:
        rows = read_small_text(file, MOST_BYTES).splitlines()
    except OSError as error:
        raise DataError(f"'{file}' cannot be read as text.", "Take CelebA's own.") from error
    heading = rows[1].split() if len(rows) > 1 else []
    absent = [name for name in ATTRIBUTES if name not in heading]
    if absent:
        raise DataError(
            f"'{file}' has no attribute {', '.join(absent)} in its second line.",
            "Take list_attr_celeba.txt as CelebA publishes it.",
        )
    columns = [1 + heading.index(name) for name in ATTRIBUTES]
    faults, names, has = Faults(), [], []
    for number, row in enumerate(rows[2:], 3):
        words = row.split()
        if not words:
            continue
        is_name = words[0].replace(".", "").replace("_", "").isalnum()  # no folder, no `..`
        if len(words) != len(heading) + 1 or not set(words[1:]) <= {"1", "-1"} or not is_name:
            faults.add("lines of another form", f"{file.name} line {number}")
            continue
        names.append(words[0])
        has.append([words[c] == "1" for c in columns])
    faults.raise_any(f"'{file}' has", "Take list_attr_celeba.txt as CelebA publishes it.")
    return names, np.array(has, np.bool_).reshape(-1, len(ATTRIBUTES))


def _first(folder: Path, *places: str) -> Path:
    """Return the first of some places that is there."""
    for place in places:
        if (folder / place).exists():
            return folder / place
    raise DataError(
        f"There is no {' or '.join(places)} in '{folder}'.",
        "Unpack CelebA's files there, under their own names.",
    )
