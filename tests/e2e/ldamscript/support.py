"""A tiny CIFAR-10 and CIFAR-100, and what stands for the script."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from purenoise.checkpoint import load_weights
from purenoise.models import build_model

SCRIPT = Path(__file__).parents[3] / "cifar_train.py"
NAME = "cifar10_resnet20_CE_None_exp_0.1_0"
PER_CLASS = 20
# 20, 15, 11, 9, 7, 5, 4, 3, 2, 2: 78 training images
SMALL = ["--arch", "resnet20", "--imb_factor", "0.1", "-b", "26", "-p", "2"]

Script = Callable[..., int]


def batch(seed: int, n_classes: int, n: int, key: str) -> dict[str, Any]:
    """Return ``n`` random images per class in the form of a CIFAR file."""
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(n_classes), n))
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    return {"data": pixels, key: labels.tolist()}


def fake(root: Path, source: Any, patch: pytest.MonkeyPatch, n_classes: int, key: str) -> None:
    """Write a tiny set, and teach torchvision its MD5 sums."""
    folder = root / source.base_folder
    folder.mkdir(parents=True)
    contents: dict[str, Any] = {
        source.meta["filename"]: {source.meta["key"]: [f"class {i}" for i in range(n_classes)]}
    }
    for i, (file, _) in enumerate(source.train_list):
        contents[file] = batch(i, n_classes, PER_CLASS // len(source.train_list), key)
    contents[source.test_list[0][0]] = batch(99, n_classes, 2, key)
    sums = {}
    for file, content in contents.items():
        (folder / file).write_bytes(pickle.dumps(content))
        sums[file] = hashlib.md5((folder / file).read_bytes()).hexdigest()
    patch.setattr(source, "train_list", [[f, sums[f]] for f, _ in source.train_list])
    patch.setattr(source, "test_list", [[f, sums[f]] for f, _ in source.test_list])
    patch.setattr(source, "meta", {**source.meta, "md5": sums[source.meta["filename"]]})


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return the final weights of a run."""
    model = build_model("resnet20", 10)
    load_weights(folder / "purenoise" / "weights.safetensors", model)
    return model.state_dict()


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether two state dicts are equal bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
