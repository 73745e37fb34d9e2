"""An epoch planned ahead: which images, in which batches, and which of them become noise.

Everything is drawn at once from (seed, epoch), before the first step. The plan never depends on how
far a run came, so a resumed run continues the same plan; and no step waits for a device to learn
how many of its rows are noise, or whether its images are mixed and with which.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from purenoise.methodfile import MixSpec
from purenoise.methods import Phase
from purenoise.noise import choose_noise
from purenoise.runtime import CHOICE, LABELS, MIX, generator, stream_seed
from purenoise.samplers import ClassBalancedSampler
from purenoise.team import Team


def _no_rows() -> NDArray[np.int64]:
    return np.zeros(0, np.int64)


@dataclass(frozen=True)
class StepPlan:
    """One batch.

    Args:
        natural: Indices of the natural images, shape (n,).
        labels: Labels of all rows, natural first, int64 of shape (n + m,).
        mix: How the natural images are mixed, or None.
        partners: Indices of the images that boxes are cut from (``cmo``), shape (n,) or (0,).
        partner_labels: Their labels.
    """

    natural: NDArray[np.int64]
    labels: NDArray[np.int64]
    mix: MixSpec | None = None
    partners: NDArray[np.int64] = field(default_factory=_no_rows)
    partner_labels: NDArray[np.int64] = field(default_factory=_no_rows)

    @property
    def n_noise(self) -> int:
        """Number of noise rows m."""
        return len(self.labels) - len(self.natural)

    def shown(self, team: Team) -> NDArray[np.int64]:
        """Return the images that a process of a team needs for its natural rows.

        They are its own rows of the batch; where images are mixed, each may be mixed with any.
        """
        return self.natural if self.mix else self.natural[team.rows(len(self.natural))]


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
    plans = _join_singles(plans) if batch_size > 1 else plans
    mix = phase.mix(epoch)
    return plans if mix is None else _with_mixing(plans, mix, phase, stream_seed(seed, MIX, epoch))


def _with_mixing(plans: list[StepPlan], mix: MixSpec, phase: Phase, seed: int) -> list[StepPlan]:
    """Choose the batches that are mixed, and for ``cmo`` the images that boxes are cut from.

    The sampler of those draws p(image) ~ 1 / n_c, with a seed of its own: with the run's, a phase
    that samples so itself would paste each image into itself.
    """
    coins = np.random.default_rng(seed).random(len(plans))
    labels, drawn, at = phase.sampler.labels, _no_rows(), 0
    if mix.name == "cmo":
        n_classes = len(phase.replace)
        drawn = ClassBalancedSampler(labels, seed=seed, n_classes=n_classes).order(0)
    mixed = []
    for plan, coin in zip(plans, coins, strict=True):
        rows = drawn[at : at + len(plan.natural)]
        at += len(plan.natural)
        chosen = coin < mix.settings()["prob"] and len(plan.natural) > 0
        mixed.append(
            replace(plan, mix=mix, partners=rows, partner_labels=labels[rows]) if chosen else plan
        )
    return mixed


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
