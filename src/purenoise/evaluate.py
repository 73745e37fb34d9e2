"""Predictions of a model on a split, and what they are worth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from purenoise.augment import normalize
from purenoise.data.types import Images, SelectedImages, Split
from purenoise.errors import TrainingError
from purenoise.metrics import evaluate_logits
from purenoise.outofmemory import is_out_of_memory
from purenoise.prepare import Prepared
from purenoise.team import Team

CPU_VALUES = 500 * 3 * 32 * 32  # in a batch
GPU_VALUES = 4096 * 3 * 32 * 32  # likewise; a GPU idles on small ones
LEAST, MOST = 16, 500  # images in a batch on a CPU
Question = Callable[[], bool]


class Interrupted(Exception):  # noqa: N818 - it is no error
    """Somebody asked to stop, and what is needed to go on is kept or will be."""


def never() -> bool:
    """Nobody asks to stop."""
    return False


def predict_logits(
    model: nn.Module, images: Images, mean: Any, std: Any, batch_size: int | None = None,
    stopping: Question = never,
) -> NDArray[np.float32]:  # fmt: skip
    """Return the logits of all images, shape (N, C), by ordinary evaluation.

    Args:
        model: Left in the mode in which it was.
        images: uint8 images.
        mean: Constants of normalisation, per channel.
        std: Likewise.
        batch_size: Images at a time, which does not change the result beyond rounding; None: what
            suits the device. Halved as often as the device has too little memory.
        stopping: Asked before each batch.

    Raises:
        Interrupted: If it was told to stop.
    """
    first = next(model.parameters())
    if batch_size is None:
        values, on_gpu = int(np.prod(images.shape)), first.device.type == "cuda"
        on_cpu = min(MOST, max(LEAST, CPU_VALUES // values))
        batch_size = max(64, GPU_VALUES // values) if on_gpu else on_cpu
    parts: list[Tensor] = []
    start = 0
    with torch.inference_mode(), evaluating(model):
        while start < len(images):
            if stopping():
                raise Interrupted
            rows = np.arange(start, min(start + batch_size, len(images)), dtype=np.int64)
            try:
                batch = torch.from_numpy(images.load(rows)).to(first.device)
                parts.append(model(normalize((batch / 255).to(first.dtype), mean, std)).cpu())
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                if batch_size == 1:
                    raise TrainingError(
                        f"{first.device} has too little memory to evaluate a single image of "
                        f"{' x '.join(map(str, images.shape))}.",
                        "Lower data.image_size or take a smaller model.",
                    ) from error
                batch_size //= 2
                continue
            start += len(rows)
    return torch.cat(parts).float().numpy()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode, and back into the mode in which it was."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def predict_together(
    model: nn.Module, split: Split, data: Prepared, team: Team, stopping: Question = never
) -> NDArray[np.float32]:
    """Return the logits of all images of a split, (N, C), of which each process computes a part.

    Raises:
        Interrupted: In every process, if one of them was told to stop.
    """
    if team.is_alone:
        return predict_logits(model, split.images, data.mean, data.std, stopping=stopping)
    rows = team.rows(len(split))
    own = SelectedImages(split.images, np.arange(rows.start, rows.stop, dtype=np.int64))
    logits = np.zeros((0, data.dataset.n_classes), np.float32)
    stopped = False
    try:
        if len(own):
            logits = predict_logits(model, own, data.mean, data.std, stopping=stopping)
    except Interrupted:  # the others learn of it once they have done their part
        stopped = True
    if any(team.any(stopped)):
        raise Interrupted
    return team.joined_rows(logits, len(split))


def evaluate_split(
    model: nn.Module, split: Split, data: Prepared, stopping: Question = never
) -> tuple[dict[str, Any], NDArray[np.float32]]:
    """Return all metrics of a split (:func:`purenoise.metrics.evaluate_logits`) and its logits.

    Raises:
        DataError: If the split is empty or the logits are not finite.
        Interrupted: If it was told to stop.
    """
    logits = predict_logits(model, split.images, data.mean, data.std, stopping=stopping)
    return evaluate_logits(logits, split.labels, data.counts), logits
