"""An epoch planned ahead: which images, in which batches, and which of them become noise.

Everything is drawn at once from (seed, epoch), before the first step. The plan never depends on how
far a run came, so a resumed run continues the same plan; and no step waits for a device to learn
how many of its rows are noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from purenoise.data.types import MemoryImages, Split
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
        size; with ``noise: augment`` noise rows come on top.
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
    return plans


def stream(split: Split, plans: Sequence[StepPlan]) -> Iterator[tuple[StepPlan, Tensor]]:
    """Yield each plan with its natural images, uint8 of shape (n, C, H, W).

    Images on disk are read one batch ahead in a thread while the step before runs.
    """
    if isinstance(split.images, MemoryImages):
        for plan in plans:
            yield plan, torch.from_numpy(split.images.load(plan.natural))
        return
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead") as reader:
        ahead: Future[NDArray[np.uint8]] | None = None
        for i, plan in enumerate(plans):
            images = ahead.result() if ahead else split.images.load(plan.natural)
            if i + 1 < len(plans):
                ahead = reader.submit(split.images.load, plans[i + 1].natural)
            yield plan, torch.from_numpy(images)
