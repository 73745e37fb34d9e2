"""A method's phases made concrete for one data set.

The only place where sampler, loss, noise, mixing and phases meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from purenoise.losses import ClassificationLoss, build_loss
from purenoise.methodfile import LossSpec, Method, MixSpec, PhaseSpec
from purenoise.noise import replacement_probabilities
from purenoise.samplers import SAMPLERS, ClassSampler, ProgressiveSampler, effective_number_weights
from purenoise.schedules import boundary

Span = tuple[PhaseSpec, int, int]  # a phase, its first epoch and the epoch after its last
NOISE_RATIO = 0.25  # noise:natural = 1:4 in the balanced-data variant


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs with one sampler, one loss weighting and one noise setting.

    Args:
        spec: What the method says.
        loss_spec: The loss: the phase's own, or the method's.
        first: First epoch.
        end: The epoch after the last.
        sampler: Draws the images of each epoch.
        replace: Probability with which a drawn image of each class becomes noise, shape (C,).
        ratio: Noise rows added per natural row (0, except for ``noise: augment``).
        mixing: First epoch in which images are mixed, and the epoch after the last.
    """

    spec: PhaseSpec
    loss_spec: LossSpec
    first: int
    end: int
    sampler: ClassSampler
    replace: NDArray[np.float64]
    ratio: float
    mixing: tuple[int, int] = (0, 0)

    def mix(self, epoch: int) -> MixSpec | None:
        """Return the mixing of an epoch, or None."""
        return self.spec.mix if self.mixing[0] <= epoch < self.mixing[1] else None

    @property
    def has_noise(self) -> bool:
        """Whether batches hold noise rows."""
        return self.spec.noise != "none"

    def priors(self, epoch: int) -> dict[str, NDArray[np.float64]]:
        """Return the class prior of ``all`` rows and of the ``natural`` rows alone, each (C,).

        Of the rows as they are drawn: what mixing does to labels is not counted, as in the papers
        that join mixing and a prior.
        """
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


def statements(phases: Sequence[Phase]) -> list[str]:
    """Say what the parts of a method do together, where that is easily overlooked.

    Args:
        phases: All of a run.

    Returns:
        A sentence for each phase in which sampling and weights both favour rare classes, or in
        which sampling has left no prior to a loss that takes the prior out.
    """
    said = []
    for phase in phases:
        where = f"In epochs {phase.first + 1} to {phase.end}"
        if phase.end - phase.first == 1:
            where = f"In epoch {phase.end}"
        if len(phases) == 1:
            where = "In all epochs"
        sampler, weights = phase.spec.sampler, phase.spec.weights
        if sampler != "instance" and weights != "none":
            said.append(
                f"{where} rare classes are drawn more often ({sampler}) and weigh more as well "
                f"({weights}): they are favoured twice."
            )
        if phase.loss_spec.name == "balanced-softmax":
            ends = [phase.priors(e)[phase.loss_spec.prior] for e in (phase.first, phase.end - 1)]
            if all(np.allclose(prior, prior.mean()) for prior in ends):
                said.append(
                    f"{where} all classes are drawn alike, so the prior of balanced softmax is "
                    "uniform and it is cross-entropy there."
                )
    return said


def phase_spans(method: Method, epochs: int, defer: float) -> list[Span]:
    """Return a method's phases with their first epoch and the epoch after their last.

    They cover all epochs in order; a phase that would have no epoch is left out.
    """
    starts = [boundary(epochs, defer) if p.start == "defer" else 0 for p in method.phases]
    spans = zip(method.phases, starts, [*starts[1:], epochs], strict=True)
    return [(spec, first, end) for spec, first, end in spans if first < end]


def mixing_epochs(spans: Sequence[Span]) -> list[tuple[int, int]]:
    """Return for each phase the first epoch in which images are mixed, and the one after the last.

    Phases that follow one another with the same mixing are one stretch, in which the first and the
    last epochs (``skip``) go without, at most a tenth of it each. (0, 0) where nothing is mixed.

    Example:
        >>> from purenoise.methodfile import load_method
        >>> mixing_epochs(phase_spans(load_method("cmo"), 200, 0.8))
        [(3, 197)]
        >>> mixing_epochs(phase_spans(load_method("open+cmo"), 20, 0.8))
        [(2, 16), (16, 18)]
    """
    found = []
    for spec, first, end in spans:
        if spec.mix is None:
            found.append((0, 0))
            continue
        start, stop = _stretch(spans, first)
        skip = min(int(spec.mix.settings()["skip"]), (stop - start) // 10)
        window = max(first, start + skip), min(end, stop - skip)
        found.append(window if window[0] < window[1] else (0, 0))
    return found


def cut_at_mixing(spans: Sequence[Span]) -> list[Span]:
    """Cut phases where mixing begins and ends, so that each is mixed throughout or not at all.

    Example:
        >>> from purenoise.methodfile import load_method
        >>> spans = phase_spans(load_method("cmo"), 200, 0.8)
        >>> [(spec.mix is not None, first, end) for spec, first, end in cut_at_mixing(spans)]
        [(False, 0, 3), (True, 3, 197), (False, 197, 200)]
    """
    parts: list[Span] = []
    for (spec, first, end), (start, stop) in zip(spans, mixing_epochs(spans), strict=True):
        plain = spec.model_copy(update={"mix": None})
        if start == stop:
            parts.append((plain, first, end))
        else:
            parts += [(plain, first, start), (spec, start, stop), (plain, stop, end)]
    return [(spec, first, end) for spec, first, end in parts if first < end]


def _stretch(spans: Sequence[Span], epoch: int) -> tuple[int, int]:
    """The epochs around one of them in which the mixing is the same, phases apart."""
    stretches: list[list[Any]] = []
    for spec, first, end in spans:
        if stretches and stretches[-1][0] == spec.mix:
            stretches[-1][2] = end
        else:
            stretches.append([spec.mix, first, end])
    return next((first, end) for _, first, end in stretches if first <= epoch < end)


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
    spans = phase_spans(method, epochs, defer)
    for (spec, first, end), mixing in zip(spans, mixing_epochs(spans), strict=True):
        kind = SAMPLERS[spec.sampler]
        options: dict[str, Any] = {"epochs": epochs} if kind is ProgressiveSampler else {}
        sampler = kind(labels, seed=seed, n_classes=n_classes, **options)
        replace = replacement_probabilities(sampler.counts, delta)
        phases.append(
            Phase(
                spec, method.loss_of(spec), first, end, sampler,
                replace if spec.noise == "open" else np.zeros(n_classes),
                NOISE_RATIO if spec.noise == "augment" else 0.0,
                mixing,
            )
        )  # fmt: skip
    return phases


def phase_at(phases: list[Phase], epoch: int) -> Phase:
    """Return the phase that an epoch belongs to."""
    return next(phase for phase in phases if phase.first <= epoch < phase.end)
