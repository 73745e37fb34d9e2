"""Learning rates and phase boundaries: pure functions of the epoch and the step.

The field's curve (Cao et al. 2019; Zada et al. 2022 for 200 epochs): linear warm-up over the first
5 epochs, then x0.01 at epoch 160 and again at 180. Written as fractions, so it fits any length.
"""

from __future__ import annotations

import math

from purenoise.errors import RecipeError, did_you_mean

SCHEDULES = ("step", "cosine", "constant")
DROPS = (0.8, 0.9)
DROP_FACTOR = 0.01


def boundary(epochs: int, fraction: float) -> int:
    """Return the epoch, counted from 0, in which ``fraction`` of the run is reached.

    Args:
        epochs: Length of the run.
        fraction: In [0, 1].

    Returns:
        fraction * epochs, rounded down, so that a phase that begins there has an epoch.

    Example:
        >>> boundary(200, 0.8), boundary(5, 0.8)
        (160, 4)
    """
    return int(fraction * epochs + 1e-9)


def warmup_epochs(epochs: int, warmup: int | None = None) -> int:
    """Return the number of warm-up epochs: min(5, epochs // 10) unless given."""
    return min(5, epochs // 10) if warmup is None else warmup


def learning_rate(
    base: float, epoch: int, epochs: int, schedule: str = "step", warmup: int | None = None
) -> float:
    """Return the learning rate of an epoch.

    Args:
        base: The learning rate after warm-up.
        epoch: Counted from 0.
        epochs: Length of the run.
        schedule: ``step`` (x0.01 at 80 % and again at 90 %; in a run so short that both fall
            on one epoch it drops once, in one of one epoch never), ``cosine`` (to 0), ``constant``.
        warmup: Warm-up epochs; None: min(5, epochs // 10). Epoch e of w has base * (e + 1) / w.

    Raises:
        RecipeError: If the schedule is unknown.

    Example:
        >>> [learning_rate(0.1, e, 200) for e in (0, 5, 160, 180)]
        [0.02, 0.1, 0.001, 1e-05]
    """
    if schedule not in SCHEDULES:
        raise RecipeError(f"Schedule {schedule!r} is not known.", did_you_mean(schedule, SCHEDULES))
    ramp = warmup_epochs(epochs, warmup)
    if epoch < ramp:
        return base * (epoch + 1) / ramp
    if schedule == "cosine":
        return base * (1 + math.cos(math.pi * (epoch - ramp) / max(1, epochs - ramp))) / 2
    if schedule == "step":
        drops = sum(0 < at <= epoch for at in {boundary(epochs, f) for f in DROPS})
        return base / round(1 / DROP_FACTOR) ** drops
    return base
