"""Long-tailed CIFAR as ordinary torchvision data sets, with the arguments of LDAM-DRW's classes.

They hold the same images in the same order as ``IMBALANCECIFAR10(root, rand_number=0)`` there.
Differs: numpy's global generator is left alone, a test set (``train=False``) stays balanced
instead of being cut down as well, and an unknown ``imb_type`` is an error instead of a balanced
set.

Source: Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss",
NeurIPS 2019, and its ``imbalance_cifar.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torchvision.datasets import CIFAR10, CIFAR100

from purenoise.data.cifar import quiet
from purenoise.errors import DataError
from purenoise.longtail import imbalanced_counts, long_tail_subset, subset_sha256


class ImbalancedCIFAR10(CIFAR10):
    """CIFAR-10 whose training set is cut down to a long tail.

    Args:
        root: Folder that holds ``cifar-10-batches-py``.
        imb_type: ``exp`` or ``step``.
        imb_factor: Smallest class / largest class, in (0, 1]; 0.01 is imbalance ratio 100.
        rand_number: Seed of the subset.
        train: False gives the whole, balanced test set.
        transform: Applied to each PIL image.
        target_transform: Applied to each label.
        download: Whether torchvision may download what is missing.

    Attributes:
        cls_num: Number of classes.
        img_num_list: Images per class, in the order of the classes.
        subset_sha256: Hash of the chosen indices; None for the test set.

    Raises:
        DataError: ``imb_factor`` or ``imb_type`` is not allowed.
        RuntimeError: torchvision finds no files, or damaged ones.
    """

    cls_num = 10
    data: Any  # torchvision has no annotations
    targets: Any

    def __init__(
        self,
        root: str | Path,
        imb_type: str = "exp",
        imb_factor: float = 0.01,
        rand_number: int = 0,
        train: bool = True,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        download: bool = False,
    ) -> None:
        if not 0 < imb_factor <= 1:
            raise DataError(
                f"imb_factor is {imb_factor}, not in (0, 1].", "0.01 is imbalance ratio 100."
            )
        with quiet():
            super().__init__(root, train, transform, target_transform, download)
        self.subset_sha256: str | None = None
        if train:
            self._cut(imb_type, 1 / imb_factor, rand_number)
        self.img_num_list: list[int] = np.bincount(self.targets, minlength=self.cls_num).tolist()

    def get_cls_num_list(self) -> list[int]:
        """Return the number of images per class."""
        return list(self.img_num_list)

    def _cut(self, imb_type: str, ratio: float, seed: int) -> None:
        """Keep the images of a long-tailed subset, class by class, in the order drawn."""
        labels = np.array(self.targets, np.int64)
        counts = imbalanced_counts(imb_type, len(labels) // self.cls_num, self.cls_num, ratio)
        kept = long_tail_subset(labels, counts, subset="ldam", seed=seed)
        self.subset_sha256 = subset_sha256(kept)
        self.data = self.data[kept]  # (N, 32, 32, 3)
        self.targets = labels[kept].tolist()


class ImbalancedCIFAR100(ImbalancedCIFAR10, CIFAR100):
    """CIFAR-100 whose training set is cut down to a long tail; see `ImbalancedCIFAR10`."""

    # Through ImbalancedCIFAR10 alone, file names and MD5 sums would be those of CIFAR-10.
    cls_num = 100
