"""Models by name: our own for small images, and those of torchvision and timm.

`build_model` is the only place that turns a name into a network. torchvision and timm are imported
only when one of their names is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from purenoise.errors import ModelError
from purenoise.models.cifar_resnet import CifarResNet, CosineLinear
from purenoise.models.libraries import Wanted, from_timm, from_torchvision, no_dropout
from purenoise.models.small_cnn import SmallCNN
from purenoise.models.wide_resnet import WideResNet
from purenoise.names import OWN_MODELS, check_model, wide_size

__all__ = [
    "CifarResNet",
    "CosineLinear",
    "SmallCNN",
    "WideResNet",
    "build_model",
    "model_names",
]


def model_names() -> list[str]:
    """Return the names of our own models.

    Other depths and widths, ``wide_resnet{6n+4}_{width}``, can be built as well.

    Returns:
        Names that `build_model` knows without a prefix.

    Example:
        >>> "resnet32" in model_names()
        True
    """
    return list(OWN_MODELS)


def build_model(
    name: str,
    num_classes: int,
    *,
    in_channels: int = 3,
    dropout: float = 0.0,
    cosine: bool = False,
    pretrained: bool = False,
    generator_seed: int | None = None,
) -> nn.Module:
    """Build a classifier from its name.

    Args:
        name: One of `model_names`, ``wide_resnet{6n+4}_{width}``, ``torchvision:NAME`` or
            ``timm:NAME``.
        num_classes: Number of logits, at least 1.
        in_channels: Channels of an image, at least 1.
        dropout: Probability of dropout, in [0, 1), for networks that have some.
        cosine: Use a cosine head, which LDAM needs.
        pretrained: Start from published weights (torchvision and timm only).
        generator_seed: Seed of the first weights. The CPU's global generator is left as it was.
            Without a seed, weights are drawn from the global generator.

    Returns:
        A network from images (B, in_channels, H, W) to logits (B, num_classes), in training mode.

    Raises:
        ModelError: If the name is unknown, or the network cannot have what was asked for.

    Example:
        >>> build_model("resnet8", num_classes=10, generator_seed=0).fc.out_features
        10
    """
    wanted = Wanted(num_classes, in_channels, dropout, cosine, pretrained)
    _check_numbers(name, wanted)
    library, _, rest = name.partition(":")
    with _global_generator_kept(generator_seed):
        if library == "torchvision" and rest:
            return from_torchvision(rest, wanted)
        if library == "timm" and rest:
            return from_timm(rest, wanted)
        return _own(name, wanted)


@contextmanager
def _global_generator_kept(seed: int | None) -> Iterator[None]:
    """Draw from a seed, if there is one, and put the CPU's global generator back afterwards."""
    if seed is None:
        yield
        return
    # torch.manual_seed would reseed the generators of all accelerators too.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def _check_numbers(name: str, wanted: Wanted) -> None:
    """Refuse sizes that no network can have."""
    if wanted.num_classes < 1 or wanted.in_channels < 1:
        raise ModelError(
            f"Model {name!r} was asked for {wanted.num_classes} classes and {wanted.in_channels} "
            "image channels; both must be at least 1."
        )
    if not 0 <= wanted.dropout < 1:
        raise ModelError(f"dropout is {wanted.dropout}; it must be at least 0 and less than 1.")


def _own(name: str, wanted: Wanted) -> nn.Module:
    """Build one of our own models."""
    wide = wide_size(check_model(name))
    if wanted.pretrained:
        raise ModelError(
            f"There are no published weights for {name}, so pretrained cannot be used with it.",
            "Leave pretrained out, give a file with model.weights=FILE, or choose a model such as "
            "torchvision:resnet18.",
        )
    if wide is not None:
        return WideResNet(
            *wide,
            wanted.num_classes,
            in_channels=wanted.in_channels,
            dropout=wanted.dropout,
            cosine=wanted.cosine,
        )
    if wanted.dropout:
        raise no_dropout(name, wanted.dropout)
    if name == "small_cnn":
        return SmallCNN(wanted.num_classes, in_channels=wanted.in_channels, cosine=wanted.cosine)
    depth = int(name.removeprefix("resnet"))
    return CifarResNet(
        depth, wanted.num_classes, in_channels=wanted.in_channels, cosine=wanted.cosine
    )
