"""Models by name: our own for small images, and those of torchvision and timm.

`build_model` is the only place that turns a name into a network. torchvision and timm are imported
only when one of their names is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn

from purenoise.errors import ModelError, did_you_mean
from purenoise.models.cifar_resnet import CifarResNet, CosineLinear, make_head
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

_SEVERAL_OUTPUTS = ("googlenet", "inception_v3")  # while training, in torchvision


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
    wanted = _Wanted(num_classes, in_channels, dropout, cosine, pretrained)
    _check_numbers(name, wanted)
    library, _, rest = name.partition(":")
    with _global_generator_kept(generator_seed):
        if library == "torchvision" and rest:
            return _from_torchvision(rest, wanted)
        if library == "timm" and rest:
            return _from_timm(rest, wanted)
        return _own(name, wanted)


class _Wanted(NamedTuple):
    """What `build_model` was asked for, besides the name."""

    num_classes: int
    in_channels: int
    dropout: float
    cosine: bool
    pretrained: bool


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


def _check_numbers(name: str, wanted: _Wanted) -> None:
    """Refuse sizes that no network can have."""
    if wanted.num_classes < 1 or wanted.in_channels < 1:
        raise ModelError(
            f"Model {name!r} was asked for {wanted.num_classes} classes and {wanted.in_channels} "
            "image channels; both must be at least 1."
        )
    if not 0 <= wanted.dropout < 1:
        raise ModelError(f"dropout is {wanted.dropout}; it must be at least 0 and less than 1.")


def _own(name: str, wanted: _Wanted) -> nn.Module:
    """Build one of our own models."""
    wide = wide_size(check_model(name))
    if wanted.pretrained:
        raise ModelError(
            f"There are no published weights for {name}, so pretrained cannot be used with it.",
            "Leave pretrained out, or choose a model such as torchvision:resnet18.",
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
        raise _no_dropout(name, wanted.dropout)
    if name == "small_cnn":
        return SmallCNN(wanted.num_classes, in_channels=wanted.in_channels, cosine=wanted.cosine)
    depth = int(name.removeprefix("resnet"))
    return CifarResNet(
        depth, wanted.num_classes, in_channels=wanted.in_channels, cosine=wanted.cosine
    )


def _no_dropout(name: str, dropout: float) -> ModelError:
    """Return the error for a network without dropout."""
    return ModelError(
        f"{name} has no dropout, but dropout is {dropout}.",
        "Set dropout to 0, or choose a wide ResNet.",
    )


def _from_torchvision(name: str, wanted: _Wanted) -> nn.Module:
    """Build a model of torchvision with a head for our classes."""
    from torchvision import models

    full, known = f"torchvision:{name}", models.list_models(module=models)
    if name not in known:
        raise ModelError(f"torchvision has no classifier {name!r}.", did_you_mean(name, known))
    if name in _SEVERAL_OUTPUTS:
        raise ModelError(
            f"{full} gives several outputs while it trains, which is not supported.",
            "Choose another model, such as torchvision:resnet18.",
        )
    if wanted.in_channels != 3:
        raise ModelError(
            f"{full} takes images of 3 channels, but these have {wanted.in_channels}.",
            f"Choose timm:{name} or one of our own models, which take any number of channels.",
        )
    options: dict[str, Any] = {"dropout": wanted.dropout} if wanted.dropout else {}
    if wanted.pretrained:
        options["weights"] = "DEFAULT"  # published heads have 1000 classes: ours is put in below
    else:
        options |= {"weights": None, "num_classes": wanted.num_classes}
    model = _built(full, wanted, lambda: models.get_model(name, **options))
    if wanted.pretrained or wanted.cosine:
        linear = [key for key, module in model.named_modules() if isinstance(module, nn.Linear)]
        _replace_head(full, model, linear[-1] if linear else None, wanted)
    return model


def _from_timm(name: str, wanted: _Wanted) -> nn.Module:
    """Build a model of timm with a head for our classes."""
    try:
        import timm
    except ImportError as error:
        raise ModelError(
            f"timm:{name} needs timm, which is not installed.",
            'Install it with: pip install "purenoise[timm]"',
        ) from error
    if not timm.is_model(name):
        known = timm.list_models()
        raise ModelError(f"timm has no model {name!r}.", _near_or_count(name, known))
    full = f"timm:{name}"
    options: dict[str, Any] = {"drop_rate": wanted.dropout} if wanted.dropout else {}
    model: Any = _built(
        full,
        wanted,
        lambda: timm.create_model(
            name,
            pretrained=wanted.pretrained,
            num_classes=wanted.num_classes,
            in_chans=wanted.in_channels,
            **options,
        ),
    )
    if wanted.cosine:
        head = model.get_classifier()
        keys = [key for key, module in model.named_modules() if module is head]
        _replace_head(full, model, keys[0] if keys else None, wanted)
    return model


def _near_or_count(name: str, known: list[str]) -> str:
    """Return the nearest name; timm has too many to list them all."""
    sentence = did_you_mean(name, known)
    if sentence.startswith("Did you mean"):
        return sentence
    return f"It has {len(known)} models; timm.list_models() lists them."


def _built(name: str, wanted: _Wanted, build: Callable[[], nn.Module]) -> nn.Module:
    """Call a builder of another library and put its refusals into a sentence."""
    try:
        return build()
    except TypeError as error:
        if wanted.dropout and "drop" in str(error):
            raise _no_dropout(name, wanted.dropout) from error
        raise
    except Exception as error:
        # Downloads fail with errors of urllib, requests, httpx or huggingface_hub; no common base.
        if not wanted.pretrained:
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"The published weights of {name} could not be loaded: {reason}",
            "Check the connection, or leave pretrained out to start from random weights.",
        ) from error


def _replace_head(name: str, model: nn.Module, key: str | None, wanted: _Wanted) -> None:
    """Put a new last layer in the place of the linear one called `key`."""
    old = model.get_submodule(key) if key else None
    n_outputs = (
        1000 if wanted.pretrained and name.startswith("torchvision:") else wanted.num_classes
    )
    if key is None or not isinstance(old, nn.Linear) or old.out_features != n_outputs:
        raise ModelError(
            f"{name} does not end in one linear layer, so its last layer cannot be replaced "
            f"({'cosine' if wanted.cosine else 'pretrained'} needs that).",
            "Choose another model, such as torchvision:resnet18.",
        )
    parent, _, child = key.rpartition(".")
    new = make_head(old.in_features, wanted.num_classes, cosine=wanted.cosine)
    setattr(model.get_submodule(parent), child, new)
