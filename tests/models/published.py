"""Weights put where torchvision and timm look for theirs: made by the libraries, not downloaded."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision import models

from purenoise.models import build_model
from purenoise.models.libraries import timm_config, torchvision_weights


def publish(name: str, cache: Path, n_classes: int = 1000) -> dict[str, Tensor]:
    """Write random weights of a model into a cache folder, as if they had been downloaded.

    Args:
        name: ``torchvision:NAME`` or ``timm:NAME``.
        cache: For the environment: TORCH_HOME is ``cache/torch``, HF_HOME is ``cache/hf``.
        n_classes: Of the head.

    Returns:
        The weights.
    """
    library, _, rest = name.partition(":")
    tensors = build_model(name, n_classes, generator_seed=5).state_dict()
    if rest in ("googlenet", "inception_v3"):  # published with heads at the side, which we drop
        whole = models.get_model(rest, weights=None, init_weights=False, num_classes=n_classes)
        tensors = whole.state_dict()
    if library == "torchvision":
        file = (
            cache / "torch" / "hub" / "checkpoints" / torchvision_weights(rest).url.split("/")[-1]
        )
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(tensors, file)
        return tensors
    folder = cache / "hf" / "hub" / f"models--{timm_config(rest).hf_hub_id.replace('/', '--')}"
    commit = "0" * 40
    for part, content in (("refs", commit), (f"snapshots/{commit}", None)):
        (folder / part).mkdir(parents=True)
        if content is not None:
            (folder / part / "main").write_text(content)
    save_file(tensors, folder / "snapshots" / commit / "model.safetensors")
    return tensors


def environment(cache: Path) -> dict[str, str]:
    """Return what to set in the environment, so that libraries look there and nowhere else."""
    return {
        "TORCH_HOME": str(cache / "torch"),
        "HF_HOME": str(cache / "hf"),
        "HF_HUB_OFFLINE": "1",
    }
