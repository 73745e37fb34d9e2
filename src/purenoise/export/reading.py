"""Whatever can classify images: a run, an adjusted run, or a file that was exported from one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from purenoise.data.types import MemoryImages
from purenoise.errors import RunError
from purenoise.evaluate import predict_logits
from purenoise.export import onnxfile, plainweights, program
from purenoise.export.manifest import Manifest
from purenoise.export.source import load_finished
from purenoise.export.standalone import answers

SUFFIXES = (plainweights.SUFFIX, onnxfile.SUFFIX, program.SUFFIX)
Answer = Callable[[NDArray[np.uint8]], NDArray[np.floating[Any]]]


@dataclass(frozen=True)
class Classifier:
    """What turns images into logits.

    Args:
        class_names: One for each logit.
        image_shape: Channels, height and width of its images.
        logits: Of uint8 images (N, C, H, W).
    """

    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    logits: Answer


def open_classifier(path: str | Path, *, trust: bool = False) -> Classifier:
    """Open a run's folder, an adjusted run's, or an exported file.

    Args:
        path: Of the folder, or of a ``.safetensors``, ``.onnx`` or ``.pt2`` file.
        trust: Whether a ``.pt2`` file, which can run code when it is read, may be read.

    Raises:
        RunError: If it is none of these, or cannot be read.
        ModelError: If a library that it needs is not installed.
    """
    path = Path(path)
    if not path.is_file():
        if not path.exists() and path.suffix in SUFFIXES:
            raise RunError(f"There is no file {path}.", "Export a run: purenoise export RUN")
        return _of_run(path)
    if path.suffix == plainweights.SUFFIX:
        model, manifest = plainweights.read_weights(path)
        return _of(manifest, lambda images: answers(model, images))
    if path.suffix == onnxfile.SUFFIX:
        answer, manifest = onnxfile.read_onnx(path)
        return _of(manifest, answer)
    if path.suffix == program.SUFFIX:
        graph, manifest = program.read_program(path, trust=trust)
        return _of(manifest, lambda images: answers(graph, images))
    raise RunError(
        f"{path} is neither the folder of a run nor an exported network ({', '.join(SUFFIXES)}).",
        "Give the folder that `purenoise train` named, or a file of `purenoise export`.",
    )


def _of(manifest: Manifest, answer: Answer) -> Classifier:
    n_classes = len(manifest.class_names)

    def checked(images: NDArray[np.uint8]) -> NDArray[np.floating[Any]]:
        try:
            found = answer(images)
        except Exception as error:  # a graph of another size, in the words of three libraries
            raise RunError(f"The network cannot take images of {manifest.image_shape}: "
                           f"{' '.join(str(error).split())[:200]}") from error  # fmt: skip
        if found.shape != (len(images), n_classes):
            raise RunError(
                f"The network says {found.shape[1:]} numbers of an image and names {n_classes} "
                "classes: the file does not say what is in it."
            )
        return found

    return Classifier(manifest.class_names, manifest.image_shape, checked)


def _of_run(folder: Path) -> Classifier:
    found = load_finished(folder)
    mean, std = found.summary["normalize"]
    return Classifier(
        tuple(found.summary["class_names"]), found.image_shape,
        lambda images: predict_logits(found.model, MemoryImages(images), mean, std),
    )  # fmt: skip
