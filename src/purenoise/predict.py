"""Class and probability for images of one's own, from a finished run or an exported network."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from purenoise.data.decode import FORMATS, is_image, load_image
from purenoise.data.listing import is_passed_over
from purenoise.errors import DataError
from purenoise.export.reading import open_classifier
from purenoise.metrics import probabilities

BATCH = 256


@dataclass(frozen=True)
class Prediction:
    """What the model says of one image.

    Args:
        image: Its path.
        classes: Names of the k most probable classes, most probable first.
        probabilities: Theirs.
        error: Why the image could not be read; there are no classes then.
    """

    image: str
    classes: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    error: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        top = [
            {"class": c, "probability": p}
            for c, p in zip(self.classes, self.probabilities, strict=True)
        ]
        best = top[0] if top else {"class": None, "probability": None}
        return {"image": self.image, **best, "top": top, "error": self.error or None}


def find_images(paths: Sequence[str | Path]) -> list[Path]:
    """Return the image files that are named, or lie in the folders that are named, sorted.

    Of what lies in a folder, hidden files and folders and known junk are left out, as in training.

    Raises:
        DataError: If a path does not exist, or a folder holds no image (all are named).
    """
    found: list[Path] = []
    faults = []
    for given in map(Path, paths):
        if given.is_dir():
            inside = sorted(p for p in _walk(given) if is_image(p) or _named_like_image(p))
            if not inside:
                faults.append(f"{given} holds no image")
            found += inside
        elif given.is_file():
            found.append(given)
        else:
            there = os.path.lexists(given)
            faults.append(f"{given} {'is no ordinary file' if there else 'does not exist'}")
    if faults:
        raise DataError("; ".join(faults) + ".", "Give image files or folders of images.")
    return found


def predict(
    source: str | Path, images: Sequence[str | Path], top: int = 3, *, trust: bool = False
) -> list[Prediction]:
    """Predict images with a finished run or an exported network.

    Args:
        source: Folder of a run or of an adjusted run; or an exported ``.safetensors``, ``.onnx`` or
            ``.pt2`` file.
        images: Image files or folders; hidden files in folders are left out.
        top: How many classes to name per image.
        trust: Whether a ``.pt2`` file, which can run code when it is read, may be read.

    Returns:
        One prediction per image, in order; an image that cannot be read has an ``error``.

    Raises:
        RunError: If the run or the file cannot be loaded.
        ModelError: If a library that the file needs is not installed.
        DataError: If a path does not exist or holds no image.
    """
    classifier = open_classifier(source, trust=trust)
    files = find_images(images)
    predictions: list[Prediction] = []
    for start in range(0, len(files), BATCH):
        part = files[start : start + BATCH]
        arrays, errors = _load(part, classifier.image_shape)
        rows: Iterator[Any] = iter(())
        if arrays:
            rows = iter(probabilities(classifier.logits(np.stack(arrays))))
        for path in part:
            if path in errors:
                predictions.append(Prediction(str(path), error=errors[path]))
            else:
                predictions.append(_named(path, next(rows), classifier.class_names, top))
    return predictions


def _load(paths: list[Path], shape: tuple[int, int, int]) -> tuple[list[Any], dict[Path, str]]:
    arrays, errors = [], {}
    for path in paths:
        try:
            arrays.append(load_image(path, shape))
        except DataError as error:
            errors[path] = error.message.removeprefix(f"'{path}' ")
    return arrays, errors


def _named(path: Path, p: Any, class_names: Sequence[str], top: int) -> Prediction:
    best = np.argsort(-p, kind="stable")[: max(1, top)]
    return Prediction(
        str(path), tuple(class_names[c] for c in best), tuple(round(float(p[c]), 6) for c in best)
    )


def _named_like_image(path: Path) -> bool:
    """Whether a file means to be an image, so that a broken one is told and not left out."""
    return Image.registered_extensions().get(path.suffix.lower()) in FORMATS


def _walk(root: Path) -> Iterator[Path]:
    """Files below a folder, without what training passes over; links to folders are not followed.

    A Mac puts a hidden file beside each image that it copies, with its ending.
    """
    for top, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not is_passed_over(name)]
        yield from (Path(top) / name for name in names if not is_passed_over(name))
