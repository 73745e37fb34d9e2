"""Classifiers of torchvision and timm: found by name, built, their weights taken from the cache.

Both libraries keep published weights in a cache on disk and download what is not there. Where that
cannot be done, the message names the file or folder that was looked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from purenoise.data.fetching import patient
from purenoise.errors import ModelError, did_you_mean
from purenoise.models.cifar_resnet import make_head
from purenoise.models.parts import head_names

_SEVERAL_OUTPUTS = ("googlenet", "inception_v3")  # while training
_SIDE_HEADS = ("aux1", "aux2", "AuxLogits")  # theirs
_OTHERS = (
    "Connect once so that they are downloaded, or give a file with model.weights=FILE, or leave "
    "pretrained out to start from random weights."
)


class ChannelsError(ModelError):
    """A model takes three channels, and the images have another number."""


class Wanted(NamedTuple):
    """What a model is to be, besides its name."""

    num_classes: int
    in_channels: int
    dropout: float
    cosine: bool
    pretrained: bool


def no_dropout(name: str, dropout: float) -> ModelError:
    """Return the error for a network without dropout."""
    return ModelError(
        f"{name} has no dropout, but dropout is {dropout}.",
        "Set dropout to 0, or choose a wide ResNet.",
    )


def from_torchvision(name: str, wanted: Wanted) -> nn.Module:
    """Build a model of torchvision with a head for our classes.

    Raises:
        ModelError: If it is not known, or cannot have what is wanted.
    """
    from torchvision import models

    _check_torchvision(name)
    full = f"torchvision:{name}"
    if wanted.in_channels != 3:
        raise ChannelsError(
            f"{full} takes images of 3 channels, but these have {wanted.in_channels}.",
            "Set data.channels=3, or choose a model of timm or one of our own, which take any "
            "number of channels.",
        )
    options: dict[str, Any] = {"dropout": wanted.dropout} if wanted.dropout else {}
    if wanted.pretrained:
        _torchvision_safe(name, full)
        options |= {"weights": "DEFAULT"}  # for 1000 classes: our head is put in below
    else:
        options |= {"weights": None, "num_classes": wanted.num_classes}
        options |= {"init_weights": True} if name in _SEVERAL_OUTPUTS else {}
    model = _built(full, wanted, lambda: models.get_model(name, **options))
    if name in _SEVERAL_OUTPUTS:
        _drop_side_heads(model)
    if wanted.pretrained or wanted.cosine:
        _replace_head(full, model, 1000 if wanted.pretrained else wanted.num_classes, wanted)
    return model


def _drop_side_heads(model: Any) -> None:
    """Leave a network with the one head whose logits count, also while it trains."""
    model.aux_logits = False
    for side in _SIDE_HEADS:
        if hasattr(model, side):
            setattr(model, side, None)


def torchvision_weights(name: str) -> Any:
    """Return torchvision's entry of the published weights that ``pretrained`` stands for.

    Raises:
        ModelError: If torchvision has no such classifier.
    """
    from torchvision import models

    _check_torchvision(name)
    return models.get_model_weights(name).DEFAULT


def _check_torchvision(name: str) -> None:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise ModelError(f"torchvision has no classifier {name!r}.", did_you_mean(name, known))


def _torchvision_safe(name: str, full: str) -> None:
    """Read published weights once as plain tensors: torchvision itself reads the file as a pickle.

    Raises:
        ModelError: If they are not in the cache and cannot be downloaded, or the file is damaged.
    """
    entry = torchvision_weights(name)
    file = Path(torch.hub.get_dir(), "checkpoints", entry.url.rpartition("/")[2])
    try:
        with patient():
            entry.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except Exception as error:  # of urllib, pickle, zipfile, ...
        if file.is_file():
            raise ModelError(
                f"The published weights of {full} could not be loaded: {file} is damaged, or "
                "would run code when it is read.",
                f"Remove that file so that it is downloaded again. {_OTHERS}",
            ) from error
        raise _not_in_cache(full, str(file), error) from error


def _not_in_cache(full: str, place: str, error: Exception) -> ModelError:
    reason = (str(error) or type(error).__name__).strip().splitlines()[0].rstrip(".")
    return ModelError(
        f"The published weights of {full} could not be loaded: they are not in the cache "
        f"({place}), and downloading failed: {reason}.",
        _OTHERS,
    )


def from_timm(name: str, wanted: Wanted) -> nn.Module:
    """Build a model of timm with a head for our classes.

    Raises:
        ModelError: If it is not known, or cannot have what is wanted.
    """
    timm = _timm(name)
    full = f"timm:{name}"
    if wanted.pretrained:
        timm_config(name)
    options: dict[str, Any] = {"drop_rate": wanted.dropout} if wanted.dropout else {}

    def build() -> nn.Module:
        return timm.create_model(
            name,
            pretrained=wanted.pretrained,
            num_classes=wanted.num_classes,
            in_chans=wanted.in_channels,
            **options,
        )

    model = _built(full, wanted, build)
    if wanted.cosine:
        _replace_head(full, model, wanted.num_classes, wanted)
    return model


def timm_config(name: str) -> Any:
    """Return timm's description of a model's published weights.

    Raises:
        ModelError: If timm has no such model, or no weights of it.
    """
    timm = _timm(name)
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        near = did_you_mean(name, timm.list_pretrained())
        hint = near if near.startswith("Did you mean") else "timm.list_pretrained() lists them."
        raise ModelError(f"There are no published weights for timm:{name}.", hint)
    return config


def _timm(name: str) -> Any:
    """Return timm, if it is there and has the model.

    Raises:
        ModelError: If not.
    """
    try:
        import timm
    except ImportError as error:
        raise ModelError(
            f"timm:{name} needs timm, which is not installed.",
            'Install it with: pip install "purenoise[timm]"',
        ) from error
    if not timm.is_model(name):
        known = timm.list_models()
        near = did_you_mean(name, known)
        if not near.startswith("Did you mean"):
            near = f"It has {len(known)} models; timm.list_models() lists them."
        raise ModelError(f"timm has no model {name!r}.", near)
    architecture, _, tag = name.partition(".")
    tagged = timm.list_pretrained(f"{architecture}.*")
    if tag and name not in tagged:
        known = tagged or [architecture]
        raise ModelError(
            f"timm:{architecture} has no weights called {tag!r}.", did_you_mean(name, known)
        )
    return timm


def timm_cache(config: Any) -> str:
    """Return where timm looks for the weights of a configuration."""
    if config.file:
        return str(config.file)
    if config.hf_hub_id:
        from huggingface_hub import constants

        folder = "models--" + config.hf_hub_id.replace("/", "--")
        return os.path.join(constants.HF_HUB_CACHE, folder)
    return str(Path(torch.hub.get_dir(), "checkpoints", config.url.rpartition("/")[2]))


def _built(full: str, wanted: Wanted, build: Callable[[], nn.Module]) -> nn.Module:
    """Call a builder of another library and put its refusals into a sentence."""
    library, _, name = full.partition(":")
    place = timm_cache(timm_config(name)) if wanted.pretrained and library == "timm" else ""
    was_there = os.path.isfile(place)
    try:
        with patient():
            return build()
    except TypeError as error:
        if wanted.dropout and "drop" in str(error):
            raise no_dropout(full, wanted.dropout) from error
        raise
    except Exception as error:
        # Downloads fail with errors of urllib, requests, httpx or huggingface_hub; no common base.
        if not place:
            raise
        if os.path.isfile(place) and not was_there:
            os.unlink(place)  # half a download: timm compares no hash and would believe it
        if os.path.isfile(place):
            raise ModelError(
                f"The published weights of {full} could not be loaded from {place}: "
                f"{(str(error) or type(error).__name__).splitlines()[0]}",
                f"If it is damaged, remove it so that it is downloaded again. {_OTHERS}",
            ) from error
        raise _not_in_cache(full, place, error) from error


def _replace_head(full: str, model: nn.Module, n_outputs: int, wanted: Wanted) -> None:
    """Put a new last layer in the place of the old one, of its kind or a cosine classifier."""
    names = head_names(model)
    old = model.get_submodule(names[0]) if len(names) == 1 else None
    n_old = getattr(old, "out_features", getattr(old, "out_channels", None))
    is_linear = isinstance(old, nn.Linear)
    if n_old != n_outputs or not (is_linear or (isinstance(old, nn.Conv2d) and not wanted.cosine)):
        raise ModelError(
            f"{full} does not end in one linear layer, so its last layer cannot be replaced "
            f"({'cosine' if wanted.cosine else 'pretrained'} needs that).",
            "Choose another model, such as torchvision:resnet18.",
        )
    new: nn.Module
    if isinstance(old, nn.Conv2d):  # SqueezeNet's
        new = nn.Conv2d(old.in_channels, wanted.num_classes, old.kernel_size)  # type: ignore[arg-type]
    else:
        assert isinstance(old, nn.Linear)
        new = make_head(old.in_features, wanted.num_classes, cosine=wanted.cosine)
    parent, _, child = names[0].rpartition(".")
    setattr(model.get_submodule(parent), child, new)
