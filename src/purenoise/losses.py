"""Losses for imbalanced data, all with one rule for how rows become a number.

The rule, and what every loss takes and gives, is in :mod:`purenoise.lossbase`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from purenoise.errors import DataError, RecipeError, did_you_mean
from purenoise.longtail import check_counts
from purenoise.lossbase import NO_CLASS, ClassificationLoss

LDAM_SCALE = 30.0
FOCAL_FORMS = ("standard", "ldam-drw")
SMOOTHING_SHAPES = ("concave", "linear", "convex")


class CrossEntropyLoss(ClassificationLoss):
    """Cross-entropy; with weights it divides by their sum for every kind of target.

    Example:
        >>> loss, z = CrossEntropyLoss(weight=[1.0, 3.0]), torch.tensor([[0.0, 1.0], [2.0, 0.0]])
        >>> bool(torch.isclose(loss(z, torch.tensor([0, 1])), loss(z, torch.eye(2))))
        True
    """

    def hard(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return -log p of the target, shape (B,)."""
        return F.cross_entropy(logits, targets, reduction="none", ignore_index=NO_CLASS)

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
        RecipeError: If gamma is negative or not finite, or the form unknown.

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
        if not 0 <= gamma < math.inf:
            raise RecipeError(f"gamma is {gamma}, and must be finite and not negative.")
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
        RecipeError: If max_m is negative or s is not positive, or one is not finite.

    Source: Cao et al. 2019, equation 13: margins max_m * n_c^(-1/4) / max n^(-1/4), subtracted from
    the logit of the true class.
    """

    margins: Tensor

    def __init__(
        self,
        counts: ArrayLike,
        max_m: float = 0.5,
        s: float = LDAM_SCALE,
        weight: ArrayLike | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(weight, label_smoothing)
        if not (0 <= max_m < math.inf and 0 < s < math.inf):
            raise RecipeError(
                f"max_m is {max_m} and s is {s}: at least 0, and above 0, both finite."
            )
        margins = check_counts(counts).astype(np.float64) ** -0.25
        self._keep("margins", margins * (max_m / margins.max()))
        self.s = s

    def hard(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return cross-entropy of s (z - margin of the target), shape (B,)."""
        shift = self._of("margins", logits)[targets]
        moved = logits.scatter_add(1, targets[:, None], -shift[:, None])
        return F.cross_entropy(self.s * moved, targets, reduction="none", ignore_index=NO_CLASS)

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
        RecipeError: If tau is negative or not finite.

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
        if not 0 <= tau < math.inf:
            raise RecipeError(f"tau is {tau}, and must be finite and not negative.")
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


def class_smoothing(
    counts: ArrayLike, head: float = 0.4, tail: float = 0.1, shape: str = "concave"
) -> NDArray[np.float64]:
    """Return how far the label of each class is smoothed.

    Args:
        counts: Training images per class, shape (C,), each at least 1.
        head: Smoothing of the largest class, in [0, 1).
        tail: Smoothing of the smallest, in [0, 1). The paper has head above tail.
        shape: How it runs between them, with x = (n - n_min) / (n_max - n_min): ``concave``
            sin(pi x / 2), ``linear`` x, ``convex`` 1 - cos(pi x / 2).

    Returns:
        tail + (head - tail) f(x), float64 of shape (C,); head throughout if all counts are equal.

    Raises:
        RecipeError: If a share is outside [0, 1) or the shape unknown.
        DataError: If a class has no images.

    Example:
        >>> class_smoothing([100, 55, 10], shape="linear").round(2).tolist()
        [0.4, 0.25, 0.1]

    Source: Zhong et al. 2021 (MiSLAS), section 3.2; its 1 + sin(3 pi / 2 + pi x / 2) is
    1 - cos(pi x / 2).
    """
    if shape not in SMOOTHING_SHAPES:
        hint = did_you_mean(shape, SMOOTHING_SHAPES)
        raise RecipeError(f"Smoothing shape {shape!r} is not known.", hint)
    if not (0 <= head < 1 and 0 <= tail < 1):
        raise RecipeError(f"Label smoothing has head {head} and tail {tail}; both lie in [0, 1).")
    n = check_counts(counts).astype(np.float64)
    spread = n.max() - n.min()
    x = (n - n.min()) / spread if spread else np.ones(len(n))
    f = {"concave": np.sin(np.pi * x / 2), "linear": x, "convex": 1 - np.cos(np.pi * x / 2)}
    return tail + (head - tail) * f[shape]


class LabelAwareSmoothingLoss(CrossEntropyLoss):
    """Cross-entropy with labels that are smoothed more in large classes, which are overconfident.

    The label of class c becomes 1 - e_c at c and e_c / (C - 1) at every other class; a soft target
    is the mix of its classes' smoothed labels.

    Args:
        counts: Training images per class, shape (C,), each at least 1.
        head, tail, shape: See :func:`class_smoothing`.
        weight: See :class:`ClassificationLoss`.

    Raises:
        DataError: If a class has no images.
        RecipeError: If a share is outside [0, 1) or the shape unknown.

    Source: Zhong et al. 2021 (MiSLAS), section 3.2. Differs: their code spreads e_c over all C
    classes, so that the label's own class keeps e_c / C of it; we follow the paper.
    """

    smoothing: Tensor

    def __init__(
        self,
        counts: ArrayLike,
        head: float = 0.4,
        tail: float = 0.1,
        shape: str = "concave",
        weight: ArrayLike | None = None,
    ) -> None:
        super().__init__(weight)
        self._keep("smoothing", class_smoothing(counts, head, tail, shape))

    @property
    def smooths(self) -> bool:
        """Whether index targets are smoothed: always."""
        return True

    def smoothed(self, targets: Tensor) -> Tensor:
        """Return probabilities (B, C), each class's part of a row smoothed by its own share."""
        given_away = targets * self._of("smoothing", targets)  # (B, C)
        received = given_away.sum(1, keepdim=True) - given_away  # from all other classes
        return targets - given_away + received / max(1, targets.shape[1] - 1)


LOSSES: dict[str, type[ClassificationLoss]] = {
    "cross-entropy": CrossEntropyLoss,
    "focal": FocalLoss,
    "ldam": LDAMLoss,
    "balanced-softmax": LogitAdjustedLoss,
    "label-aware-smoothing": LabelAwareSmoothingLoss,
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
        counts: Training images per class, for losses with margins or smoothing by them.
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
    known: dict[str, Any] = {
        "ldam": {"counts": counts},
        "balanced-softmax": {"prior": prior},
        "label-aware-smoothing": {"counts": counts},
    }
    try:
        return LOSSES[name](weight=weight, **known.get(name, {}), **options)
    except TypeError as error:
        raise RecipeError(f"Loss {name!r} does not take these options: {error}.") from error
