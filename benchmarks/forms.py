"""The forms of one training step that are compared: plain, the paper's listing, ours."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from purenoise.conversion import convert
from purenoise.darbn import dar_batch_norm
from purenoise.models import build_model
from purenoise.network import lay_out
from purenoise.optimizer import build_optimizer
from purenoise.speed import Switches
from purenoise.step import Step
from purenoise.trainsection import Train

NOISE_SHARE = 0.25  # of the rows, in CIFAR-10-LT at imbalance ratio 100


class ListingBatchNorm(nn.BatchNorm2d):
    """DAR-BN as in the paper's listing: one mixed batch, rows told apart by a boolean index."""

    is_noise: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Normalise one mixed batch."""
        return dar_batch_norm(
            x, self.is_noise, self.running_mean, self.running_var, self.weight, self.bias,
            self.training, self.momentum or 0.1, self.eps,
        )  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """One network and batch.

    Args:
        name: Of the network.
        batch: Rows.
        side: Pixels.
        classes: Number of classes.
        bf16: Whether bfloat16 autocast is on.
        channels_last: Whether images and weights have that memory format.
    """

    name: str
    batch: int
    side: int
    classes: int
    bf16: bool = False
    channels_last: bool = True


class Forms:
    """The same step in several forms, on the same made-up batch.

    Args:
        setting: Network and batch.
        device: Where.
    """

    def __init__(self, setting: Setting, device: torch.device) -> None:
        self.setting, self.device = setting, device
        draw = torch.Generator().manual_seed(0)
        shape = (setting.batch, 3, setting.side, setting.side)
        self.images = self._laid_out(torch.randn(shape, generator=draw).to(device))
        self.labels = torch.randint(setting.classes, (setting.batch,), generator=draw).to(device)
        self.m = round(NOISE_SHARE * setting.batch)
        self.n = setting.batch - self.m
        self.first = build_model(setting.name, setting.classes, generator_seed=0)
        self.models: dict[str, nn.Module] = {}

    def step(self, form: str, *, compile: bool = False) -> Callable[[], None]:
        """Return a whole training step: forward, loss, backward, update of the weights.

        Args:
            form: ``plain`` (all rows natural), ``natural`` (the natural rows alone), ``listing``,
                ``two-pass`` or ``masked``.
            compile: Whether ``torch.compile`` is on.
        """
        forward = self.forward(form, compile)
        optimizer = build_optimizer(self.models[form], Train(lr=0.01))
        rows = self.n if form == "natural" else self.setting.batch
        labels = self.labels[:rows]

        def run() -> None:
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(forward(), labels).backward()
            optimizer.step()

        return run

    def forward(self, form: str, compile: bool = False) -> Callable[[], Tensor]:
        """Return the forward of a form, from images on the device to logits."""
        model = copy.deepcopy(self.first).to(self.device)
        if self.setting.channels_last:
            lay_out(model)
        natural, noise = self.images[: self.n], self.images[self.n :]
        self.models[form] = model
        if form == "listing":
            return self._listing(model)
        noisy = form in ("two-pass", "masked")
        if noisy:
            convert(model)
        switches = Switches(
            "masked" if form == "masked" else "two-pass",
            channels_last=self.setting.channels_last, bf16=self.setting.bf16, compile=compile,
        )  # fmt: skip
        step = Step(model, self.setting.batch, switches, noisy)
        if noisy:
            return lambda: step(natural, noise, phase_has_noise=True)
        rows = natural if form == "natural" else self.images
        return lambda: step(rows, None, phase_has_noise=False)

    def _listing(self, model: nn.Module) -> Callable[[], Tensor]:
        """Return the forward of the listing, noise rows anywhere in the batch."""
        order = torch.randperm(self.setting.batch, generator=torch.Generator().manual_seed(1))
        is_noise = (order >= self.n).to(self.device)
        images = self._laid_out(self.images[order.to(self.device)])
        for module in model.modules():
            if type(module) is nn.BatchNorm2d:
                module.__class__ = ListingBatchNorm
                module.is_noise = is_noise
        if self.setting.bf16:  # boolean indices fail under autocast: the whole model is cast
            model.to(torch.bfloat16)
            images = images.to(torch.bfloat16)
        return lambda: model(images).float()

    def _laid_out(self, images: Tensor) -> Tensor:
        kind = torch.channels_last if self.setting.channels_last else torch.contiguous_format
        return images.contiguous(memory_format=kind)
