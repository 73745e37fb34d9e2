"""Losses for imbalanced data, all with one rule for how rows become a number.

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
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from purenoise.errors import DataError, RecipeError, did_you_mean
from purenoise.longtail import check_counts

FOCAL_FORMS = ("standard", "ldam-drw")


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

        Raises:
        Returns:
            A scalar; 0 where all rows have weight 0.

        Raises:
            DataError: If the shapes or the kind of targets do not fit.
        """
        terms, weights = self.rows(logits, targets)
        return terms.sum() / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)

    def rows(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return weighted terms and weights per row, each (B,); sum both over parts of a batch."""
        _check_shapes(logits, targets)
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        targets = targets.long() if targets.dim() == 1 else targets
        if targets.dim() == 1 and self.label_smoothing == 0:
            weights = self._weight_of(logits)[targets]
            return weights * self.hard(logits, targets), weights
        # No matrix product: autocast would round it to 8 bits.
        weights = _soft(targets, logits, self.label_smoothing) * self._weight_of(logits)  # (B, C)
        return (weights * self.per_class(logits)).sum(1), weights.sum(1)

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


class CrossEntropyLoss(ClassificationLoss):
    """Cross-entropy; with weights it divides by their sum for every kind of target.

    Example:
        >>> loss, z = CrossEntropyLoss(weight=[1.0, 3.0]), torch.tensor([[0.0, 1.0], [2.0, 0.0]])
        >>> bool(torch.isclose(loss(z, torch.tensor([0, 1])), loss(z, torch.eye(2))))
        True
    """

    def hard(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return -log p of the target, shape (B,)."""
        return F.cross_entropy(logits, targets, reduction="none")

    def per_class(self, logits: Tensor) -> Tensor:
        """Return -log p, shape (B, C)."""
        return -F.log_softmax(logits, dim=1)


class FocalLoss(ClassificationLoss):
    """Focal loss, (1 - p)^gamma times cross-entropy, averaged over the batch.

    Args:
        gamma: At least 0; 0 is cross-entropy. 1 in LDAM-DRW's code.
        weight, label_smoothing: See :class:`ClassificationLoss`. Weights stand outside the factor.
        form: ``standard``, or ``ldam-drw``, whose p is exp(-weighted cross-entropy), so that the
            class weight enters the modulating factor.

    Raises:
        RecipeError: If gamma is negative or the form unknown.

    Source: Lin et al. 2017, equation 4; the class weight takes the place of alpha.
    """

    def __init__(
        self,
        gamma: float = 1.0,
        weight: ArrayLike | None = None,
        form: str = "standard",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(weight, label_smoothing)
        if not gamma >= 0:
            raise RecipeError(f"gamma is {gamma}, and must not be negative.")
        if form not in FOCAL_FORMS:
            raise RecipeError(f"Focal form {form!r} is not known.", did_you_mean(form, FOCAL_FORMS))
        self.gamma, self.form = gamma, form

    def rows(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return weighted terms, and ones: focal loss divides by the batch size."""
        terms, weights = super().rows(logits, targets)
        return terms, torch.ones_like(weights)

    def per_class(self, logits: Tensor) -> Tensor:
        """Return (1 - p)^gamma (-log p), shape (B, C)."""
        log_p = F.log_softmax(logits, dim=1)
        if self.gamma == 0:
            return -log_p
        inner = log_p * self._weight_of(logits) if self.form == "ldam-drw" else log_p
        # 1 - p is clamped away from 0, where the power of a gamma below 1 has no derivative.
        rest = (-torch.expm1(inner)).clamp_min(torch.finfo(logits.dtype).tiny)
        return rest**self.gamma * -log_p


class LDAMLoss(ClassificationLoss):
    """Label-distribution-aware margins on cosine logits.

    Args:
        counts: Training images per class, shape (C,), each at least 1.
        max_m: Margin of the smallest class.
        s: Scale of the logits, which are cosines (a cosine classifier).
        weight, label_smoothing: See :class:`ClassificationLoss`.

    Raises:
        DataError: If a class has no images.
        RecipeError: If max_m is negative or s is not positive.

    Source: Cao et al. 2019, equation 13: margins max_m * n_c^(-1/4) / max n^(-1/4), subtracted from
    the logit of the true class.
    """

    margins: Tensor

    def __init__(
        self,
        counts: ArrayLike,
        max_m: float = 0.5,
        s: float = 30.0,
        weight: ArrayLike | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(weight, label_smoothing)
        if not (max_m >= 0 and s > 0):
            raise RecipeError(f"max_m is {max_m} and s is {s}: at least 0, and above 0.")
        margins = check_counts(counts).astype(np.float64) ** -0.25
        self._keep("margins", margins * (max_m / margins.max()))
        self.s = s

    def hard(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return cross-entropy of s (z - margin of the target), shape (B,)."""
        shift = self._of("margins", logits)[targets]
        moved = logits.scatter_add(1, targets[:, None], -shift[:, None])
        return F.cross_entropy(self.s * moved, targets, reduction="none")

    def per_class(self, logits: Tensor) -> Tensor:
        """Return the loss for each class that the row might have, shape (B, C).

        With the margin m only at class c this is log(1 + e^(s m) (1 - p_c) / p_c). Where p_c is
        near 1, 1 - p_c is summed from the others: a difference would have no digits left.
        """
        z = self.s * logits
        shift = self.s * self._of("margins", logits)
        p, log_p = F.softmax(z, dim=1), F.log_softmax(z, dim=1)
        top = torch.zeros_like(p).scatter(1, p.argmax(1, keepdim=True), 1.0).bool()
        others = p.masked_fill(top, 0.0).sum(1, keepdim=True)
        rest = torch.where(top, others, 1 - p).clamp_min(torch.finfo(p.dtype).tiny)
        return F.softplus(shift + rest.log() - log_p, threshold=50)


class LogitAdjustedLoss(CrossEntropyLoss):
    """Cross-entropy of z + tau log(prior); with tau = 1 this is balanced softmax.

    Args:
        prior: Class prior of the rows that the loss sees, shape (C,), positive; counts will do.
        tau: Strength.
        weight, label_smoothing: See :class:`ClassificationLoss`.

    Raises:
        DataError: If the prior of a class is not positive.
        RecipeError: If tau is negative.

    Source: Menon et al. 2021, equation 10; Ren et al. 2020, equation 4. Testing uses raw logits.
    """

    log_prior: Tensor

    def __init__(
        self,
        prior: ArrayLike,
        tau: float = 1.0,
        weight: ArrayLike | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(weight, label_smoothing)
        if not tau >= 0:
            raise RecipeError(f"tau is {tau}, and must not be negative.")
        p = np.asarray(prior, np.float64)
        if p.ndim != 1:
            raise DataError(f"The class prior has shape {p.shape}, not (C,).")
        empty = np.flatnonzero(~((p > 0) & np.isfinite(p)))
        if len(empty):
            raise DataError(f"The prior of class {int(empty[0])} is {p[empty[0]]:g}, not positive.")
        self._keep("log_prior", np.log(p / p.sum()))
        self.tau = tau

    def hard(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the cross-entropy of the adjusted logits, shape (B,)."""
        return super().hard(self._adjust(logits), targets)

    def per_class(self, logits: Tensor) -> Tensor:
        """Return -log p of the adjusted logits, shape (B, C)."""
        return super().per_class(self._adjust(logits))

    def _adjust(self, logits: Tensor) -> Tensor:
        return logits + self.tau * self._of("log_prior", logits)


LOSSES: dict[str, type[ClassificationLoss]] = {
    "cross-entropy": CrossEntropyLoss,
    "focal": FocalLoss,
    "ldam": LDAMLoss,
    "balanced-softmax": LogitAdjustedLoss,
}


def build_loss(
    name: str,
    *,
    counts: ArrayLike,
    prior: ArrayLike,
    weight: ArrayLike | None = None,
    **options: Any,
) -> ClassificationLoss:
    """Build a loss by name.

    Args:
        name: A key of ``LOSSES``.
        counts: Training images per class, for losses with margins.
        prior: Class prior of the rows that the loss sees, for losses with a prior.
        weight: Class weights.
        **options: Further arguments of the loss.

    Raises:
        RecipeError: If the name or an option is unknown.

    Example:
        >>> type(build_loss("focal", counts=[2, 1], prior=[2, 1], gamma=2.0)).__name__
        'FocalLoss'
    """
    if name not in LOSSES:
        raise RecipeError(f"Loss {name!r} is not known.", did_you_mean(name, LOSSES))
    known: dict[str, Any] = {"ldam": {"counts": counts}, "balanced-softmax": {"prior": prior}}
    try:
        return LOSSES[name](weight=weight, **known.get(name, {}), **options)
    except TypeError as error:
        raise RecipeError(f"Loss {name!r} does not take these options: {error}.") from error


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


def _soft(targets: Tensor, logits: Tensor, smoothing: float) -> Tensor:
    """Targets as probabilities of shape (B, C), smoothed."""
    n_classes = logits.shape[1]
    soft = F.one_hot(targets, n_classes) if targets.dim() == 1 else targets
    return soft.to(logits.dtype) * (1 - smoothing) + smoothing / n_classes
