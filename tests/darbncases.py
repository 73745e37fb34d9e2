"""Layers, random numbers and the paper's formulas, for the tests of DAR-BN."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from purenoise.darbn import (
    DARBatchNorm1d,
    DARBatchNorm2d,
    DARBatchNorm3d,
)

STOPS = ["branch", "affine", "none"]
LAYERS = {1: DARBatchNorm1d, 2: DARBatchNorm2d, 3: DARBatchNorm3d}
PARENTS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def random(seed: int, *shape: int) -> Tensor:
    """Draw normal float64 numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layer_of(dims: int, channels: int = 3, **options: object) -> nn.Module:
    """Build a float64 layer with random gamma, beta and running statistics."""
    layer = LAYERS[dims](channels, **options).double()
    for i, tensor in enumerate(t for t in layer.state_dict().values() if t.dim()):
        tensor.copy_(random(i, channels).abs() + 0.5)
    return layer
