"""Labels of mixed images: two classes, and the share lambda of the first.

The loss of such a row is lambda L(a) + (1 - lambda) L(b). Rows that are not mixed (noise) keep
their labels whole; rows of both kinds are summed and divided once, by the sum of their weights, as
in :mod:`purenoise.lossbase`. Source: Zhang et al. 2018 (mixup), equation 1, and all that follow it.

Differs: torch's cross-entropy divides probabilities by the batch size and class indices by the sum
of the weights, so that mixing rescales a weighted loss there; here it does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class MixedLabels:
    """The labels of mixed rows.

    Args:
        a: Labels of the first images, int64 of shape (n,).
        b: Labels of the second images, int64 of shape (n,).
        lam: Share of the label that is ``a``, in [0, 1], shape (n,).
    """

    a: Tensor
    b: Tensor
    lam: Tensor

    def targets(self, n_classes: int, whole: Tensor | None = None) -> Tensor:
        """Return probabilities, which every loss of :mod:`purenoise.losses` takes.

        Args:
            n_classes: C.
            whole: Labels of further rows that are not mixed (noise), int64 of shape (m,).

        Returns:
            Shape (n + m, C), in the dtype of ``lam``, mixed rows first.

        Example:
            >>> mixed = MixedLabels(torch.tensor([0]), torch.tensor([2]), torch.tensor([0.75]))
            >>> mixed.targets(3, whole=torch.tensor([1])).tolist()
            [[0.75, 0.0, 0.25], [0.0, 1.0, 0.0]]
        """
        a, b, lam = self.a, self.b, self.lam
        if whole is not None:
            a, b = torch.cat([a, whole]), torch.cat([b, whole])
            lam = torch.cat([lam, lam.new_ones(len(whole))])
        # Two indices may be one class, and are then added up. one_hot would look at the values.
        first = lam.new_zeros(len(a), n_classes).scatter(1, a[:, None], lam[:, None])
        return first.scatter_add(1, b[:, None], 1 - lam[:, None])

    def part(self, rows: slice) -> MixedLabels:
        """Return the labels of some of the rows."""
        return MixedLabels(self.a[rows], self.b[rows], self.lam[rows])

    def larger(self) -> Tensor:
        """Return the label with the larger share, int64 of shape (n,); ``a`` in a tie."""
        return torch.where(self.lam >= 0.5, self.a, self.b)
