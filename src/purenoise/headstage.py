"""Stages of a run: which parameters learn, with which optimiser, and by which learning rate.

A second stage trains the last layer on finished features. Sources: Kang et al. 2020, section 4, for
cRT (the layer drawn anew, everything else frozen) and LWS (one factor f_c per class on frozen
weight vectors, w_c f_c); Alshammari et al. 2022 for weight decay and a bound on the lengths of the
weight vectors, kept by projecting after each step.

Differs: both stages share the recipe's epochs, so that a method with two has no more of them than
one without; in the papers the second stage comes on top. A bound is kept after each step and not
after each epoch. Frozen batch norms use their running statistics; dropout goes on.

Factors lie in a parametrisation of the layer and are multiplied into its weights when the stage
ends, so what is evaluated and saved is a plain network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from purenoise.errors import RecipeError
from purenoise.headspec import HeadSpec
from purenoise.methodfile import PhaseSpec
from purenoise.posthoc.heads import head_of, last_layer
from purenoise.schedules import learning_rate
from purenoise.trainsection import Train

Build = Callable[[nn.Module, Train], torch.optim.Optimizer]
LIMIT = "max_norm"  # in the optimiser's group, so that it is saved with the state


@dataclass(frozen=True)
class Stage:
    """Phases in a row with one setting of the head.

    Args:
        spec: The setting; None: everything learns, as in a method without stages.
        first: First epoch.
        end: The epoch after the last.
        stretch: First epoch and the one after the last of the learning rate's curve.
    """

    spec: HeadSpec | None
    first: int
    end: int
    stretch: tuple[int, int]

    def rate(self, epoch: int, train: Train) -> float:
        """Return the learning rate of an epoch: the recipe's curve, or the stage's own."""
        start, end = self.stretch
        own = _has_own_curve(self.spec)
        curve = ("cosine", 0) if own else (train.schedule, train.warmup)
        return learning_rate(train.lr, epoch - start, end - start, *curve)


def stages_of(spans: Sequence[tuple[PhaseSpec, int, int]]) -> list[Stage]:
    """Return the stages of a run.

    A stage with a schedule of its own has a cosine without warm-up over its epochs; the recipe's
    schedule runs over the epochs between such stages, so that what comes before one is trained to
    the end.

    Args:
        spans: Phases with their first epoch and the epoch after their last, in order.

    Example:
        >>> from purenoise.methodfile import load_method
        >>> from purenoise.methods import phase_spans
        >>> [s.stretch for s in stages_of(phase_spans(load_method("crt"), 200, 0.8))]
        [(0, 160), (160, 200)]
    """
    parts: list[tuple[HeadSpec | None, int, int]] = []
    for spec, first, end in spans:
        if parts and parts[-1][0] == spec.head:
            parts[-1] = (spec.head, parts[-1][1], end)
        else:
            parts.append((spec.head, first, end))
    stages = []
    for i, (head, first, end) in enumerate(parts):
        start, stop = first, end
        if not _has_own_curve(head):
            before = [e for s, _, e in parts[:i] if _has_own_curve(s)]
            after = [a for s, a, _ in parts[i + 1 :] if _has_own_curve(s)]
            start, stop = max(before, default=0), min(after, default=parts[-1][2])
        stages.append(Stage(head, first, end, (start, stop)))
    return stages


class HeadStages:
    """Leads a model through the stages of a run.

    Args:
        model: On its device.
        stages: From :func:`stages_of`.
        train: The recipe's optimiser and schedule.
        build: Builds an optimiser over the parameters that learn.
        shape: Channels, height and width of the images.
        seed: Of a last layer that is drawn anew.
        compiled: Whether the model is compiled.
        frozen: What never learns (:mod:`purenoise.finetune`) and is kept in evaluation mode.

    Raises:
        ModelError: If the model has no last layer that a stage could train.
        RecipeError: If the model is compiled and some of it is frozen.
    """

    def __init__(
        self,
        model: nn.Module,
        stages: Sequence[Stage],
        train: Train,
        build: Build,
        shape: Sequence[int],
        seed: int,
        compiled: bool = False,
        frozen: Sequence[nn.Module] = (),
    ) -> None:
        self.model, self.stages, self.train = model, list(stages), train
        self.build, self.shape, self.seed = build, shape, seed
        self.frozen = tuple(frozen)
        if self.frozen and compiled:
            raise RecipeError(
                "A network that is frozen in part cannot be compiled.", "Set speed.compile=false."
            )
        self._learns = [(p, p.requires_grad) for p in model.parameters()]
        self._stage: Stage | None = None
        self._head: nn.Module | None = None
        for spec in filter(None, (stage.spec for stage in stages)):
            if spec.learn != "all" and compiled:
                raise RecipeError(
                    f"A phase learns the {spec.learn} only, which cannot be compiled.",
                    "Set speed.compile=false.",
                )
            find_head(spec, model, shape)
        self.optimizer = build(model, train)

    def enter(self, epoch: int, fresh: bool = True) -> bool:
        """Make the model ready for an epoch; return whether a stage begins.

        Args:
            epoch: Counted from 0.
            fresh: Whether the stage begins here; False: a state from within it is loaded next.
        """
        stage = self._at(epoch)
        if stage is self._stage:
            return False
        self.leave()
        self._stage, spec = stage, stage.spec or HeadSpec()
        self._head = head = find_head(spec, self.model, self.shape)
        if fresh and spec.reset and head is not None:
            draw_head(head, self.seed)
        if spec.learn != "all":
            self.model.requires_grad_(False)
            assert head is not None
            if spec.learn == "head":
                head.requires_grad_(True)
            else:
                parametrize.register_parametrization(head, "weight", ClassFactors(_weight(head)))
        decay = self.train.weight_decay if spec.weight_decay is None else spec.weight_decay
        train = self.train.model_copy(update={"weight_decay": decay})
        self.optimizer = self.build(self.model, train)
        if spec.max_norm is not None and head is not None:
            # Also where a state follows, which has its own: it is loaded into what is there.
            self.optimizer.param_groups[0][LIMIT] = _limit(spec, _weight(head))
            if fresh:
                self.after_step()
        return True

    def leave(self) -> None:
        """End the stage: factors go into the weights, and what learnt before learns again."""
        if self._head is not None and parametrize.is_parametrized(self._head):
            parametrize.remove_parametrizations(self._head, "weight", leave_parametrized=True)
        for parameter, learns in self._learns:
            parameter.requires_grad_(learns)
        self._stage = self._head = None

    def rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch."""
        return self._at(epoch).rate(epoch, self.train)

    def set_modes(self) -> None:
        """Put the model into training mode, what is frozen into evaluation."""
        self.model.train()
        for module in self.frozen:
            module.training = False
        if self._stage is not None and self._stage.spec and self._stage.spec.learn != "all":
            for module in self.model.modules():
                if isinstance(module, _BatchNorm) or "running_mean" in module._buffers:
                    module.eval()

    @torch.no_grad()
    def after_step(self) -> None:
        """Cut weight vectors of the last layer that are longer than they may be."""
        limit = self.optimizer.param_groups[0].get(LIMIT)
        if limit is not None and self._head is not None:
            cut_lengths(_weight(self._head), limit)

    def _at(self, epoch: int) -> Stage:
        return next(stage for stage in self.stages if stage.first <= epoch < stage.end)


def find_head(spec: HeadSpec, model: nn.Module, shape: Sequence[int]) -> nn.Module | None:
    """Return the last layer, if a stage does anything to it.

    Raises:
        ModelError: If there is none, or one whose weight vectors have no lengths while they matter.
    """
    if spec.learn == "scale" or spec.max_norm is not None:
        return head_of(model, shape)
    if spec.learn == "head" or spec.reset:
        return last_layer(model, shape)[1]
    return None


def check_heads(specs: Iterable[PhaseSpec], model: nn.Module, shape: Sequence[int]) -> None:
    """Refuse, before anything is trained, a model that the phases cannot lead through their stages.

    Raises:
        ModelError: See :func:`find_head`.
    """
    for spec in specs:
        if spec.head is not None:
            find_head(spec.head, model, shape)


class ClassFactors(nn.Module):
    """One factor per class on the weight vectors of a last layer; 1 at first.

    Args:
        weight: Of the layer, shape (C, D).

    Source: Kang et al. 2020, section 4 (LWS). The bias is left as it is.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.factors = nn.Parameter(weight.new_ones(len(weight)))

    def forward(self, weight: Tensor) -> Tensor:
        """Return w_c f_c, shape (C, D)."""
        return weight * self.factors[:, None]


@torch.no_grad()
def cut_lengths(weight: Tensor, limit: float) -> None:
    """Shorten rows that are longer than ``limit`` to that length, in place.

    Args:
        weight: Shape (C, D).
        limit: Above 0.

    Example:
        >>> weight = torch.tensor([[3.0, 4.0], [0.0, 0.5]])
        >>> cut_lengths(weight, 1.0)
        >>> weight.norm(dim=1).tolist()
        [1.0, 0.5]

    Source: Alshammari et al. 2022, MaxNorm by projection.
    """
    weight.mul_(limit / weight.norm(dim=1, keepdim=True).clamp_min(limit))


@torch.no_grad()
def draw_head(layer: nn.Module, seed: int) -> None:
    """Draw the parameters of a last layer anew, in place, the same on every device.

    Args:
        layer: Linear: uniform within 1 / sqrt(D), which is torch's default, whatever the model
            began with. A cosine classifier: directions, equally likely.
        seed: Of the draw.
    """
    draws = torch.Generator().manual_seed(seed)
    for parameter in layer.parameters(recurse=False):
        shape = parameter.shape
        if isinstance(layer, nn.Linear):
            values = (2 * torch.rand(shape, generator=draws) - 1) / math.sqrt(layer.in_features)
        else:
            values = nn.functional.normalize(torch.randn(shape, generator=draws), dim=-1)
        parameter.copy_(values)


def _has_own_curve(spec: HeadSpec | None) -> bool:
    return spec is not None and spec.schedule == "own"


def _weight(head: nn.Module) -> Tensor:
    weight = head.weight
    assert isinstance(weight, Tensor)
    return weight


def _limit(spec: HeadSpec, weight: Tensor) -> float:
    """The greatest length that a weight vector may have, from the lengths at the stage's begin."""
    assert spec.max_norm is not None
    if spec.max_norm_is == "absolute":
        return spec.max_norm
    lengths = weight.detach().norm(dim=1)
    shortest, longest = float(lengths.min()), float(lengths.max())
    return shortest + spec.max_norm * (longest - shortest)
