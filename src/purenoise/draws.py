"""Random parameters of a batch: drawn on the host, one per image, and brought to its device.

Drawn on the host, they are the same whatever the device of the images, and which images an
operation touches is known before the device has done anything, so that nothing waits for it.

Where several processes share a batch, each draws for the whole batch and keeps the parameters of
its own rows (`PartOfBatch`), so that an image is augmented alike however many processes there are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PartOfBatch:
    """A generator for some rows of a batch.

    Args:
        generator: A generator of the CPU, for the whole batch.
        total: Rows of the batch.
        rows: Those whose parameters are kept.
    """

    generator: torch.Generator
    total: int
    rows: slice


Draws = torch.Generator | PartOfBatch


def uniform(images: Tensor, draws: Draws, *before: int) -> Tensor:
    """Draw numbers in [0, 1), on the host, shape (*before, B).

    Args:
        images: Shape (B, ...), on any device; only their number counts.
        draws: A generator of the CPU, or the part of a batch that the images are.
        before: Leading dimensions.
    """
    if isinstance(draws, PartOfBatch):
        return torch.rand(*before, draws.total, generator=draws.generator)[..., draws.rows]
    return torch.rand(*before, len(images), generator=draws)


def whole_numbers(images: Tensor, end: int, draws: Draws) -> Tensor:
    """Draw an integer in [0, end) for each image, on the host, int64 of shape (B,)."""
    if isinstance(draws, PartOfBatch):
        return torch.randint(end, (draws.total,), generator=draws.generator)[draws.rows]
    return torch.randint(end, (len(images),), generator=draws)


def chance(images: Tensor, p: float | Tensor, draws: Draws) -> Tensor:
    """Draw True with a probability for each image.

    Args:
        images: Shape (B, ...), on any device; only their number counts.
        p: Probability in [0, 1]; one for all, or one per image on the host, shape (B,). What has
            probability 0 never happens, and what has probability 1 always does.
        draws: A generator of the CPU, or the part of a batch that the images are.

    Returns:
        bool, on the host, shape (B,).
    """
    return uniform(images, draws) < p


def integers(images: Tensor, end: int, draws: Draws) -> Tensor:
    """Draw an integer in [0, end) for each image.

    Args:
        images: Shape (B, ...), on any device; only their number and device count.
        end: First integer that is not drawn, at least 1.
        draws: A generator of the CPU, or the part of a batch that the images are.

    Returns:
        int64, on the device of the images, shape (B,).
    """
    return move(whole_numbers(images, end, draws), images)


def places(chosen: Tensor, images: Tensor) -> Tensor:
    """Return the places of the chosen images.

    Args:
        chosen: bool, on the host, shape (B,).
        images: Shape (B, ...); only their device counts.

    Returns:
        int64, on the device of the images, shape (n,), ascending.
    """
    return move(chosen.nonzero().squeeze(1), images)


def move(parameters: Tensor, images: Tensor) -> Tensor:
    """Bring parameters to the device of the images without waiting for it.

    Args:
        parameters: Any shape and dtype, on the host.
        images: Only their device counts.

    Returns:
        The parameters on the device of `images`.
    """
    if images.is_cuda:
        parameters = parameters.pin_memory()
    return parameters.to(images.device, non_blocking=True)
