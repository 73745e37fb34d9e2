"""Augmenting the training images of CIFAR-10-LT: ours in batches, torchvision image by image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms

from benchmarks.rows import Rows
from benchmarks.timing import alternate, ratios
from purenoise.augment import build_augment, normalize
from purenoise.names import POLICIES

N = 12_406
BATCH = 128
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
ROUNDS = {"toy": 2, "small": 7, "full": 7}


class Cutout:
    """Blacken a square of 16 pixels with its centre anywhere."""

    def __call__(self, image: Tensor) -> Tensor:
        """Change one image, (C, H, W)."""
        y, x = (int(torch.randint(32, ())) for _ in range(2))
        image[:, max(0, y - 8) : y + 8, max(0, x - 8) : x + 8] = 0
        return image


def _theirs(policy: str) -> Callable[[Image.Image], Tensor]:
    """Return a policy as the field writes it: torchvision's transforms on one Pillow image."""
    t = transforms
    steps: dict[str, list] = {
        "flip": [t.RandomHorizontalFlip()],
        "crop": [t.RandomCrop(32, padding=4)],
        "autoaugment": [t.AutoAugment(t.AutoAugmentPolicy.CIFAR10)],
        "randaugment": [t.RandAugment()],
        "trivialaugment": [t.TrivialAugmentWide()],
        "jitter": [t.RandomApply([t.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8)],
        "grey": [t.RandomGrayscale(0.2)],
        "blur": [t.RandomApply([t.GaussianBlur(3, (0.1, 2.0))], 0.5)],
    }
    names = POLICIES[policy]
    chain = [step for name in names if name != "cutout" for step in steps[name]]
    # Cutout comes after the tensor is made, and colour is cheaper before: the order is theirs to
    # choose here, which makes the comparison harder for us.
    tail = [t.ToTensor(), *([Cutout()] if "cutout" in names else []), t.Normalize(MEAN, STD)]
    return t.Compose([*chain, *tail])


def measure(policy: str, rows: Rows) -> None:
    """Measure one policy on one thread of the CPU."""
    n = 200 if rows.size == "toy" else N
    pixels = np.random.default_rng(0).integers(0, 256, (n, 3, 32, 32), dtype=np.uint8)
    tensor = torch.from_numpy(pixels)
    pictures = [Image.fromarray(p.transpose(1, 2, 0)) for p in pixels]
    augment, theirs = build_augment(policy, (3, 32, 32), flip=True), _theirs(policy)

    def ours() -> None:
        draws = torch.Generator().manual_seed(0)
        for start in range(0, n, BATCH):
            normalize(augment(tensor[start : start + BATCH], draws), MEAN, STD)

    def image_by_image() -> None:
        with torch.random.fork_rng(devices=[]):
            for picture in pictures:
                theirs(picture)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        cases = {"ours": ours, "theirs": image_by_image}
        times = alternate(cases, ROUNDS[rows.size], torch.device("cpu"), 1)
    finally:
        torch.set_num_threads(threads)
    rows.add("augmenting", policy, f"ours, {n:,} images", "s", times["ours"])
    rows.add("augmenting", policy, f"image by image, {n:,} images", "s", times["theirs"])
    gain = ratios(times, "theirs", "ours")
    rows.add("augmenting", policy, "image by image / ours", "", gain)
