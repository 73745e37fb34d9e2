"""The losses' formulas in a plain slow form, and batches to try them on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from purenoise.losses import (
    ClassificationLoss,
    build_loss,
)

Array = NDArray[np.float64]
COUNTS = [500, 60, 7, 1]
WEIGHT = [0.2, 0.7, 1.1, 2.0]
B, C = 24, 4


def build(name: str, **options: Any) -> ClassificationLoss:
    """Return a loss by name, for COUNTS."""
    return build_loss(name, counts=COUNTS, prior=COUNTS, **options)


def batch(seed: int = 0, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    """Return logits in float64 and hard targets."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(B, C, generator=generator, dtype=torch.float64) * scale
    return logits, torch.randint(C, (B,), generator=generator)


def soft_targets(seed: int = 1) -> Tensor:
    """Return random probabilities."""
    logits, _ = batch(seed)
    return logits.softmax(1)


def one_hot(targets: Tensor) -> Tensor:
    """Return targets as probabilities."""
    return F.one_hot(targets, C).double()


# Oracles: the loss of one row z for class c, from the papers, with a class weight w where it
# belongs inside.
def log_p(z: Array, c: int) -> float:
    """Log of the softmax of class c."""
    return float(z[c] - z.max() - np.log(np.exp(z - z.max()).sum()))


def ce(z: Array, c: int, w: float = 1.0) -> float:
    """-log p."""
    return -log_p(z, c)


def focal(z: Array, c: int, w: float = 1.0) -> float:
    """Lin et al.: (1 - p)^2 (-log p)."""
    return (1 - np.exp(log_p(z, c))) ** 2 * -log_p(z, c)


def focal_ldam_drw(z: Array, c: int, w: float = 1.0) -> float:
    """LDAM-DRW's code: p = exp(-w ce), (1 - p)^2 w ce; the last w is applied by the reduction."""
    return (1 - np.exp(w * log_p(z, c))) ** 2 * -log_p(z, c)


def ldam(z: Array, c: int, w: float = 1.0) -> float:
    """Cao et al.: cross-entropy of 30 (z - margin at c), margins 0.5 at the smallest class."""
    moved = z.copy()
    moved[c] -= 0.5 * (min(COUNTS) / COUNTS[c]) ** 0.25
    return -log_p(30 * moved, c)


def balanced(z: Array, c: int, w: float = 1.0) -> float:
    """Ren et al.: -log of n_c e^z_c / sum n_j e^z_j."""
    terms = np.array(COUNTS) * np.exp(z)
    return float(-np.log(terms[c] / terms.sum()))


CASES: dict[str, tuple[Callable[..., float], dict[str, Any]]] = {
    "cross-entropy": (ce, {}),
    "focal": (focal, {"gamma": 2.0}),
    "focal ldam-drw": (focal_ldam_drw, {"gamma": 2.0, "form": "ldam-drw"}),
    "ldam": (ldam, {}),
    "balanced-softmax": (balanced, {}),
}


every_loss = pytest.mark.parametrize("case", CASES)


def of_case(case: str, **more: Any) -> ClassificationLoss:
    """Return the loss of a case."""
    return build(case.split()[0], **(CASES[case][1] | more))


def oracle(case: str, logits: Tensor, soft: Tensor, weight: list[float]) -> float:
    """Sum weighted rows one by one, then divide once: by the weights, or for focal by the rows."""
    formula = CASES[case][0]
    total = norm = 0.0
    for z, t in zip(logits.numpy(), soft.numpy(), strict=True):
        for c in range(C):
            total += t[c] * weight[c] * formula(z, c, weight[c])
            norm += t[c] * weight[c]
    return total / (len(logits) if case.startswith("focal") else norm)
