"""Which part of a network learns: all of it, its last block with the head, or the head alone.

What does not learn is frozen whole: its parameters take no gradients, its batch norms use and keep
their running statistics in both passes, and it drops nothing, so that the features of an image
are the same in every epoch. The optimiser holds what learns and nothing else.

With OPeN and a frozen backbone the noise images still pass through it, normalised by running
statistics, and the layers that learn see their features; that is DAR-BN's rule for layers in
``eval()``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from purenoise.errors import ModelError
from purenoise.models.parts import head_names, last_block

Learns = Literal["full", "last-block", "head"]


@dataclass(frozen=True)
class Frozen:
    """What of a network stays as it is.

    Args:
        modules: Those that are kept in ``eval()``.
        n_learning: Parameters that learn.
        n_all: All parameters.
    """

    modules: tuple[nn.Module, ...]
    n_learning: int
    n_all: int

    def sentence(self, learns: Learns) -> str:
        """Return how many parameters learn where not all do, for the log."""
        part = {"head": "the head", "last-block": "the last block and the head"}[learns]
        keeps = any("running_mean" in module._buffers for module in self.modules)
        kept = ", with the running statistics of its batch norms" if keeps else ""
        return (
            f"{self.n_learning:,} of {self.n_all:,} parameters learn ({part}); the rest is "
            f"frozen{kept}."
        )


def freeze(model: nn.Module, learns: Learns) -> Frozen:
    """Freeze what does not learn, in place; to do it twice is to do it once.

    Args:
        model: A classifier.
        learns: ``full`` leaves the model as it is.

    Returns:
        What is frozen.

    Raises:
        ModelError: If no head can be found in the model.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 2))
        >>> frozen = freeze(net, "head")
        >>> frozen.n_learning, [p.requires_grad for p in net.parameters()]
        (18, [False, False, False, False, True, True])
    """  # noqa: E501
    if learns == "full":
        return Frozen((), *_sizes(model))
    heads = head_names(model)
    if not heads:
        raise ModelError(
            f"model.train={learns}: {type(model).__name__} has no layer with weights that could be "
            "its head.",
            "Use model.train=full.",
        )
    names = heads if learns == "head" else [*last_block(model), *heads]
    learning = {id(p) for name in names for p in model.get_submodule(name).parameters()}
    for parameter in model.parameters():
        if id(parameter) not in learning:
            parameter.requires_grad_(False)
    return Frozen(tuple(_frozen_modules(model, names)), *_sizes(model))


def _sizes(model: nn.Module) -> tuple[int, int]:
    parameters = list(model.parameters())
    return sum(p.numel() for p in parameters if p.requires_grad), sum(p.numel() for p in parameters)


def _frozen_modules(model: nn.Module, learning: list[str]) -> list[nn.Module]:
    """Modules of which nothing learns, and what lies in them; layers with statistics always."""
    found: list[nn.Module] = []
    whole: list[str] = []
    for name, module in model.named_modules():
        parameters = list(module.parameters())
        inside = any(name.startswith(f"{outer}.") for outer in whole)
        if parameters and not any(p.requires_grad for p in parameters):
            whole.append(name)
            inside = True
        keeps = isinstance(module, _BatchNorm) or "running_mean" in module._buffers
        learns = any(name == n or name.startswith(f"{n}.") for n in learning)
        if inside or (keeps and not learns and not parameters):
            found.append(module)
    return found
