"""What an adjustment does to a network, and how it is folded into the last layer."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from purenoise.posthoc.heads import fold_shift, fold_tau, head_of

Logits = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Change:
    """What is done to a network: its last layer is normalised, logits are scaled and shifted.

    Args:
        tau: Of tau-normalisation; None: none.
        temperature: What logits are divided by.
        shift: What is added to them, one number per class.
        fitted: How the numbers were found.
        notes: What a reader has to know, one sentence each.
    """

    tau: float | None = None
    temperature: float = 1.0
    shift: tuple[float, ...] | None = None
    fitted: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def recorded(cls, adjusted: Mapping[str, Any]) -> Change:
        """Return the change that the summary of an adjusted run tells of (its ``adjusted``)."""
        tau = float(adjusted["tau"]) if adjusted["method"] == "tau-norm" else None
        shift = None if adjusted["shift"] is None else tuple(map(float, adjusted["shift"]))
        return cls(tau=tau, temperature=float(adjusted["temperature"]), shift=shift)

    def to_logits(self, z: Logits) -> NDArray[np.float32]:
        """Return what ``z`` becomes; of tau-normalisation logits alone cannot tell."""
        out = z.astype(np.float64) / self.temperature
        return (out if self.shift is None else out + np.array(self.shift)).astype(np.float32)

    def fold(self, model: nn.Module, shape: tuple[int, ...]) -> nn.Module:
        """Return a copy of the model that says the adjusted logits by itself."""
        model = copy.deepcopy(model)
        head = head_of(model, shape)
        if self.tau is not None:
            fold_tau(head, self.tau)
        with torch.no_grad():
            for weights in head.parameters():
                weights.div_(self.temperature)
        if self.shift is not None:
            fold_shift(head, self.shift)
        return model
