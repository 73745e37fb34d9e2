"""The slow, plain way from a run's test images to a network's logits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from purenoise.prepare import prepare
from purenoise.recipe import load_recipe


def summary_of(folder: Path) -> dict[str, Any]:
    """Return what a run says of itself."""
    return dict(json.loads((folder / "summary.json").read_text()))


def pixels_of(folder: Path) -> np.ndarray:
    """Return a run's test images, uint8."""
    images = prepare(load_recipe(str(folder / "recipe.yaml")).data).dataset.test.images
    return images.load(np.arange(len(images)))


def measured(folder: Path) -> np.ndarray:
    """Return the logits that the run was measured by."""
    with np.load(folder / "predictions.npz", allow_pickle=False) as kept:
        return kept["logits"]


def plainly(model: nn.Module, folder: Path, pixels: np.ndarray) -> np.ndarray:
    """Return a plain model's logits for images that are normalised by hand."""
    mean, std = (np.reshape(v, (1, -1, 1, 1)) for v in summary_of(folder)["normalize"])
    x = torch.from_numpy(((pixels / 255.0) - mean) / std).float()
    with torch.no_grad():
        return model.eval()(x).numpy()
