"""Random parameters of a batch: drawn on the host, one per image, and brought to its device.

Drawn on the host, they are the same whatever the device of the images, and which images an
operation touches is known before the device has done anything, so that nothing waits for it.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["chance", "integers", "move", "places"]


def chance(images: Tensor, p: float | Tensor, generator: torch.Generator) -> Tensor:
    """Draw True with a probability for each image.

    Args:
        images: Shape (B, ...), on any device; only their number counts.
        p: Probability in [0, 1]; one for all, or one per image on the host, shape (B,). What has
            probability 0 never happens, and what has probability 1 always does.
        generator: A generator of the CPU.

    Returns:
        bool, on the host, shape (B,).
    """
    return torch.rand(len(images), generator=generator) < p


def integers(images: Tensor, end: int, generator: torch.Generator) -> Tensor:
    """Draw an integer in [0, end) for each image.

    Args:
        images: Shape (B, ...), on any device; only their number and device count.
        end: First integer that is not drawn, at least 1.
        generator: A generator of the CPU.

    Returns:
        int64, on the device of the images, shape (B,).
    """
    return move(torch.randint(end, (len(images),), generator=generator), images)


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
