"""A network that needs nothing beside it: images in [0, 1] in, logits out.

Normalisation lies inside, so whoever uses the file cannot get its constants wrong; scaling to the
right size does not, because every library scales differently and has its own way to do it well.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from purenoise.twopass import logits_of

INPUT, OUTPUT = "images", "logits"


class Standalone(nn.Module):
    """A classifier with its normalisation inside, in float32 and evaluation mode.

    Args:
        model: A plain classifier; it is copied.
        mean: Per channel, in [0, 1].
        std: Likewise, above 0.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> Standalone(net, [0.5], [0.25])(torch.rand(2, 1, 2, 2)).shape
        torch.Size([2, 3])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).float().requires_grad_(False)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Return logits.

        Args:
            images: float32 in [0, 1], shape (N, C, H, W).

        Returns:
            float32, shape (N, classes).
        """
        return logits_of(self.model((images - self.mean) / self.std))


def as_input(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Turn pixels into what a standalone network takes: float32 in [0, 1], shape kept."""
    return images.astype(np.float32) / np.float32(255)


def answers(model: nn.Module, images: NDArray[np.uint8], batch: int = 64) -> NDArray[np.float32]:
    """Return the logits of a standalone network or program for uint8 images (N, C, H, W)."""
    with torch.no_grad():
        parts = [
            model(torch.from_numpy(as_input(images[i : i + batch]))).float()
            for i in range(0, len(images), batch)
        ]
    return torch.cat(parts).numpy()
