"""A method's phases made concrete for one data set.

The only place where sampler, loss, noise and phases meet.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from purenoise.losses import ClassificationLoss, build_loss
from purenoise.methodfile import LossSpec, Method, PhaseSpec
from purenoise.noise import replacement_probabilities
from purenoise.samplers import SAMPLERS, ClassSampler, ProgressiveSampler, effective_number_weights
from purenoise.schedules import boundary

NOISE_RATIO = 0.25  # noise:natural = 1:4 in the balanced-data variant


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs with one sampler, one loss weighting and one noise setting.

    Args:
        spec: What the method says.
        loss_spec: The method's loss.
        first: First epoch.
        end: The epoch after the last.
        sampler: Draws the images of each epoch.
        replace: Probability with which a drawn image of each class becomes noise, shape (C,).
        ratio: Noise rows added per natural row (0, except for ``noise: augment``).
    """

    spec: PhaseSpec
    loss_spec: LossSpec
    first: int
    end: int
    sampler: ClassSampler
    replace: NDArray[np.float64]
    ratio: float

    @property
    def has_noise(self) -> bool:
        """Whether batches hold noise rows."""
        return self.spec.noise != "none"

    def priors(self, epoch: int) -> dict[str, NDArray[np.float64]]:
        """Return the class prior of ``all`` rows and of the ``natural`` rows alone, each (C,)."""
        drawn = self.sampler.class_shares(epoch)
        natural = drawn * (1 - self.replace)
        added = np.full(len(drawn), self.ratio / len(drawn))
        everything = drawn + added
        return {"all": everything / everything.sum(), "natural": natural / natural.sum()}

    def loss(self, epoch: int) -> ClassificationLoss:
        """Return the loss of an epoch, with the class weights and the prior in force."""
        counts = self.sampler.counts
        weights = effective_number_weights(counts) if self.spec.weights != "none" else None
        return build_loss(
            self.loss_spec.name,
            counts=counts,
            prior=self.priors(epoch)[self.loss_spec.prior],
            weight=weights,
            **self.loss_spec.options(),
        )


def phase_spans(method: Method, epochs: int, defer: float) -> list[tuple[PhaseSpec, int, int]]:
    """Return a method's phases with their first epoch and the epoch after their last.

    They cover all epochs in order; a phase that would have no epoch is left out.
    """
    starts = [boundary(epochs, defer) if p.start == "defer" else 0 for p in method.phases]
    spans = zip(method.phases, starts, [*starts[1:], epochs], strict=True)
    return [(spec, first, end) for spec, first, end in spans if first < end]


def build_phases(
    method: Method,
    labels: NDArray[np.int64],
    n_classes: int,
    *,
    epochs: int,
    defer: float,
    delta: float,
    seed: int,
) -> list[Phase]:
    """Make a method concrete.

    Args:
        method: Loss and phases.
        labels: Of the training images, shape (N,).
        n_classes: Number of classes.
        epochs: Length of the run.
        defer: Fraction of the run after which the deferred phase begins.
        delta: Noise share of a vanishing class.
        seed: Of the samplers.

    Returns:
        Phases in order that cover all epochs; a phase that would have no epoch is left out.

    Raises:
        DataError: If a class has no training images.
        RecipeError: If delta is outside [0, 1].
    """
    phases = []
    for spec, first, end in phase_spans(method, epochs, defer):
        kind = SAMPLERS[spec.sampler]
        options = {"epochs": epochs} if kind is ProgressiveSampler else {}
        sampler = kind(labels, seed=seed, n_classes=n_classes, **options)
        replace = replacement_probabilities(sampler.counts, delta)
        phases.append(
            Phase(
                spec, method.loss, first, end, sampler,
                replace if spec.noise == "open" else np.zeros(n_classes),
                NOISE_RATIO if spec.noise == "augment" else 0.0,
            )
        )  # fmt: skip
    return phases


def phase_at(phases: list[Phase], epoch: int) -> Phase:
    """Return the phase that an epoch belongs to."""
    return next(phase for phase in phases if phase.first <= epoch < phase.end)
