"""The optimiser of a recipe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from purenoise.auxbn import CHILD
from purenoise.trainsection import Train


def build_optimizer(model: nn.Module, train: Train) -> torch.optim.Optimizer:
    """Build the optimiser of a recipe; weight decay is on all parameters, as in the field.

    Where torch has one kernel for the whole update of all parameters, that is taken. What only
    noise trains (auxiliary batch norms) is a group of its own, which rests in steps without noise.
    """
    learning = [(CHILD in name.split("."), p) for name, p in model.named_parameters()
                if p.requires_grad]  # fmt: skip
    groups = [[p for of_noise, p in learning if of_noise == wanted] for wanted in (False, True)]
    parameters = [p for _, p in learning]
    options: dict[str, Any] = {"lr": train.lr, "weight_decay": train.weight_decay}
    kind: Callable[..., torch.optim.Optimizer] = torch.optim.SGD
    if train.optimizer == "sgd":
        options |= {"momentum": train.momentum, "nesterov": train.nesterov}
    else:
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[train.optimizer]
    fused = all(p.device.type in ("cpu", "cuda") for p in parameters)
    return kind([{"params": group} for group in groups if group], fused=fused, **options)
