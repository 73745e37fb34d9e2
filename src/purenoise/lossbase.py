"""What all losses have in common: how the rows of a batch become one number.

A loss gives, per row, a weighted term and a weight; the loss is the sum of the terms divided by the
sum of the weights (focal: by the number of rows). The rule is the same for hard, soft, smoothed and
mixed targets, which torch's own cross-entropy does not keep: it divides index targets by the sum of
weights and probability targets by the batch size. Half-precision logits are raised to float32, as
sums over a batch are not exact below it. A soft target t stands for the mix
sum_c t_c L(c), so mixing labels is mixing losses: lambda L(a) + (1 - lambda) L(b). Noise rows are
rows like any other and keep their class's weight.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.compiler import is_compiling

from purenoise.errors import DataError, RecipeError

NO_CLASS = -(2**62)  # for torch's ignore_index, which is -100: no target is left out in silence


class ClassificationLoss(nn.Module):
    """A loss over logits (B, C) with targets int64 (B,) or probabilities (B, C).

    Args:
        weight: Class weights, shape (C,), or None for 1 each.
        label_smoothing: Share of the target that is spread over all classes, in [0, 1).

    Raises:
        RecipeError: If label_smoothing is outside [0, 1), or weights are negative or all 0.
    """

    weight: Tensor | None

    def __init__(self, weight: ArrayLike | None = None, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise RecipeError(f"label_smoothing is {label_smoothing}, and must be in [0, 1).")
        self._keep("weight", None if weight is None else _check_weight(weight))
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss, a scalar.

        Args:
            logits: Shape (B, C).
            targets: int64 of shape (B,), or probabilities of shape (B, C).

        Returns:
            A scalar; 0 where all rows have weight 0.

        Raises:
            DataError: If the shapes or the kind of targets do not fit, or a target on the CPU is no
                class (a device would have to be waited for).
        """
        terms, weights = self.rows(logits, targets)
        return terms.sum() / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)

    def share(self, logits: Tensor, targets: Tensor, whole: Tensor) -> Tensor:
        """Return what some rows of a batch contribute to its loss; the parts' sum is the loss.

        Args:
            logits: Of these rows, shape (b, C).
            targets: Of these rows.
            whole: Targets of all rows, in the form of ``targets``.
        """
        terms, _ = self.rows(logits, targets)
        _, weights = self.rows(logits.new_zeros(len(whole), logits.shape[1]), whole)
        return terms.sum() / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)

    def rows(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return weighted terms and weights per row, each (B,); sum both over parts of a batch."""
        _check_shapes(logits, targets)
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        targets = targets.long() if targets.dim() == 1 else targets
        if targets.dim() == 1 and not self.smooths:
            weights = self._weight_of(logits)[targets]
            return weights * self.hard(logits, targets), weights
        # No matrix product: autocast would round it to 8 bits.
        n_classes = logits.shape[1]
        soft = F.one_hot(targets, n_classes) if targets.dim() == 1 else targets
        weights = self.smoothed(soft.to(logits.dtype)) * self._weight_of(logits)  # (B, C)
        return (weights * self.per_class(logits)).sum(1), weights.sum(1)

    @property
    def smooths(self) -> bool:
        """Whether index targets are smoothed before they are used."""
        return self.label_smoothing > 0

    def smoothed(self, targets: Tensor) -> Tensor:
        """Return probabilities (B, C) with a share of each row spread over all classes."""
        share = self.label_smoothing
        return targets * (1 - share) + share / targets.shape[1]

    def hard(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the unweighted loss of each row for an index target, shape (B,)."""
        return self.per_class(logits).gather(1, targets[:, None]).squeeze(1)

    def per_class(self, logits: Tensor) -> Tensor:
        """Return the unweighted loss of each row for each class it might have, shape (B, C)."""
        raise NotImplementedError

    def _weight_of(self, logits: Tensor) -> Tensor:
        ones = self.weight is None
        return logits.new_ones(logits.shape[1]) if ones else self._of("weight", logits)

    def _keep(self, name: str, values: NDArray[np.float64] | None) -> None:
        """Keep one number per class in a buffer that checkpoints do not hold."""
        tensor = None if values is None else torch.from_numpy(values.copy())
        self.register_buffer(name, tensor, persistent=False)

    def _of(self, name: str, logits: Tensor) -> Tensor:
        """Return a buffer in the dtype of the logits, refusing another number of classes."""
        values: Tensor = getattr(self, name)
        n = logits.shape[1]
        if len(values) != n:
            raise DataError(
                f"The loss has a {name} for {len(values)} classes, and {n} logits came."
            )
        return values.to(logits.dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ClassificationLoss:
        """Move buffers; a device without float64 (MPS) gets them in float32."""
        try:
            return super()._apply(fn, recurse)
        except TypeError:
            super()._apply(torch.Tensor.float, recurse)
            return super()._apply(fn, recurse)


def _check_weight(weight: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(weight, np.float64)
    if values.ndim != 1 or not np.all((values >= 0) & np.isfinite(values)) or not values.any():
        raise RecipeError(
            "Class weights must be a list of numbers, not negative and not all 0, got "
            f"{values.tolist()}."[:200]
        )
    return values


def _check_shapes(logits: Tensor, targets: Tensor) -> None:
    fits = targets.shape == logits.shape[:1] or targets.shape == logits.shape
    if logits.dim() != 2 or not fits:
        raise DataError(
            f"Logits {tuple(logits.shape)} and targets {tuple(targets.shape)} do not fit.",
            "Logits are (B, C); targets are class indices (B,) or probabilities (B, C).",
        )
    if targets.dim() == 1 and (targets.is_floating_point() or targets.dtype == torch.bool):
        raise DataError(
            f"Targets of shape (B,) are class indices, got {targets.dtype}.",
            "Give whole numbers 0..C-1, or probabilities of shape (B, C).",
        )
    if targets.dim() == 1 and len(targets) and targets.device.type == "cpu" and not is_compiling():
        _check_classes(targets, logits.shape[1])


def _check_classes(targets: Tensor, n_classes: int) -> None:
    try:
        low, high = map(int, targets.long().aminmax())
    except RuntimeError:  # traced, or one row of many under vmap: there are no numbers to look at
        return
    if not 0 <= low <= high < n_classes:
        raise DataError(
            f"Targets go from {low} to {high}, and classes are 0 to {n_classes - 1}.",
            "Leave rows out that have no class; none is ignored.",
        )
