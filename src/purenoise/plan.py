"""An epoch planned ahead: which images, in which batches, and which of them become noise.

Everything is drawn at once from (seed, epoch), before the first step. The plan never depends on how
far a run came, so a resumed run continues the same plan; and no step waits for a device to learn
how many of its rows are noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from purenoise.methods import Phase
from purenoise.noise import choose_noise
from purenoise.runtime import CHOICE, LABELS, generator, stream_seed


@dataclass(frozen=True)
class StepPlan:
    """One batch.

    Args:
        natural: Indices of the natural images, shape (n,).
        labels: Labels of all rows, natural first, int64 of shape (n + m,).
    """

    natural: NDArray[np.int64]
    labels: NDArray[np.int64]

    @property
    def n_noise(self) -> int:
        """Number of noise rows m."""
        return len(self.labels) - len(self.natural)


def plan_epoch(phase: Phase, epoch: int, batch_size: int, seed: int) -> list[StepPlan]:
    """Plan an epoch.

    Args:
        phase: The phase in force.
        epoch: Counted from 0.
        batch_size: Drawn images per batch; the last batch may be shorter, and is kept.
        seed: Of the run.

    Returns:
        One plan per step. With ``noise: open`` drawn images are replaced, so a batch keeps its
        size; with ``noise: augment`` noise rows come on top. A batch that is left with a single
        natural image, too few for batch norm, is joined to its neighbour.
    """
    order = phase.sampler.order(epoch)
    labels = phase.sampler.labels[order]
    choice = generator(stream_seed(seed, CHOICE, epoch))
    is_noise = choose_noise(torch.from_numpy(labels), phase.replace, choice).numpy()
    uniform = np.random.default_rng([seed, LABELS, epoch])
    plans = []
    for start in range(0, len(order), batch_size):
        rows = slice(start, start + batch_size)
        noise = is_noise[rows]
        added = round(len(noise) * phase.ratio)
        plans.append(
            StepPlan(
                order[rows][~noise],
                np.concatenate([
                    labels[rows][~noise],
                    labels[rows][noise],
                    uniform.integers(len(phase.replace), size=added),
                ]),
            )
        )  # fmt: skip
    return _join_singles(plans) if batch_size > 1 else plans


def _join_singles(plans: list[StepPlan]) -> list[StepPlan]:
    """Join each batch that has one natural image to the next, the last one to the one before."""
    joined: list[StepPlan] = []
    for plan in plans:
        if joined and len(joined[-1].natural) == 1:
            joined[-1] = _join(joined[-1], plan)
        else:
            joined.append(plan)
    if len(joined) > 1 and len(joined[-1].natural) == 1:
        last = joined.pop()
        joined[-1] = _join(joined[-1], last)
    return joined


def _join(a: StepPlan, b: StepPlan) -> StepPlan:
    parts = [a.labels[: len(a.natural)], b.labels[: len(b.natural)],
             a.labels[len(a.natural) :], b.labels[len(b.natural) :]]  # fmt: skip
    return StepPlan(np.concatenate([a.natural, b.natural]), np.concatenate(parts))
