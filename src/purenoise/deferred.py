"""The order of images for a loop in which OPeN begins late, at the first learning-rate drop.

Deferring is part of the method (Zada et al. 2022: epoch 160 of 200): plain training first, so that
features are learnt from the images as they are, then class-balanced sampling with noise. Recipes
have phases for that; a loop of one's own has one loader, often built by someone else's trainer, so
here one sampler goes through both. Not in the paper: it is two loaders in one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from purenoise.errors import RecipeError
from purenoise.samplers import ClassBalancedSampler, InstanceSampler


class DeferredSampler(ClassBalancedSampler):
    """Every image once per epoch at first, every class equally often from an epoch on.

    Args:
        source: Labels, or a data set that has them, see :class:`purenoise.ClassBalancedSampler`.
        start: First class-balanced epoch, counted from 0: where the learning rate drops first.
        **options: ``seed``, ``num_replicas``, ``rank``, ``even`` and ``n_classes``, as for
            :class:`purenoise.ClassBalancedSampler`.

    Raises:
        DataError: If the labels cannot be found or a class has no images.
        RecipeError: If start is not a whole number from 0 on.

    Example:
        >>> sampler = DeferredSampler([0] * 90 + [1] * 10, start=2)
        >>> [sampler.class_shares(epoch).tolist() for epoch in (1, 2)]
        [[0.9, 0.1], [0.5, 0.5]]

    Source: Zada et al. 2022; deferred as in Cao et al. 2019.
    """

    def __init__(self, source: Any, *, start: int, **options: Any) -> None:
        super().__init__(source, **options)
        whole = isinstance(start, int | np.integer) and not isinstance(start, bool)
        if not whole or start < 0:
            raise RecipeError(
                f"start is {start!r}, and must be a whole number of epochs from 0 on.",
                "Give the epoch of the first learning-rate drop, such as int(0.8 * epochs).",
            )
        self.start = int(start)
        self._plain = InstanceSampler(self.labels, seed=self.seed)

    def class_shares(self, epoch: int) -> NDArray[np.float64]:
        """Return n_c / N before ``start``, 1 / C from then on."""
        if epoch < self.start:
            return self._plain.class_shares(epoch)
        return super().class_shares(epoch)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return a permutation before ``start``, class-balanced draws from then on."""
        return self._plain.order(epoch) if epoch < self.start else super().order(epoch)
