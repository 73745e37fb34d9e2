"""Samplers and labels that their tests share."""

from __future__ import annotations

import torch
from torch.utils.data import TensorDataset

from purenoise.samplers import (
    SAMPLERS,
    ClassSampler,
)

LABELS = [0] * 60 + [1] * 25 + [2] * 10 + [3] * 5


def build(name: str, labels: object = LABELS, **options: object) -> ClassSampler:
    """Return a sampler by name."""
    more = {"epochs": 10} if name == "progressive" else {}
    return SAMPLERS[name](labels, **more, **options)


def pairs(labels: list[int]) -> TensorDataset:
    """Return a data set of nothing and labels."""
    return TensorDataset(torch.zeros(len(labels)), torch.tensor(labels))
