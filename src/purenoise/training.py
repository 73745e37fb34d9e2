"""The loop. One ``fit``, one step: natural pass and noise pass in one module forward.

Every random number of a step comes from (seed, epoch, step), also the model's own (dropout), so
nothing but weights, optimiser and position has to be kept to continue a run bit for bit.
``fit`` tells what happens by events and keeps no files; who wants some listens.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from purenoise.augment import Augment, normalize
from purenoise.auxbn import begin_auxiliary
from purenoise.draws import Draws, PartOfBatch
from purenoise.errors import RunError, TrainingError
from purenoise.evaluate import Interrupted, predict_together
from purenoise.feed import Feed
from purenoise.finetune import freeze
from purenoise.headstage import HeadStages, stages_of
from purenoise.losses import ClassificationLoss
from purenoise.meter import Meter, Meters
from purenoise.methods import Phase, phase_at
from purenoise.metrics import evaluate_logits
from purenoise.mixedlabels import MixedLabels
from purenoise.mixing import mix
from purenoise.noisesection import Noise
from purenoise.noisesource import NoiseSource
from purenoise.optimizer import build_optimizer
from purenoise.plan import StepPlan, plan_epoch
from purenoise.prepare import Prepared
from purenoise.recipe import Recipe
from purenoise.runtime import AUGMENT, HEAD, MIX, MODEL, generator, stream_seed
from purenoise.speed import Switches
from purenoise.stateform import load_optimizer
from purenoise.step import Step
from purenoise.team import Team, shared
from purenoise.telling import keeping

Listener = Callable[[str, dict[str, Any]], None]
GENTLER = "Lower train.lr or lengthen train.warmup. The states saved before are kept."


@dataclass
class State:
    """All that a run needs to go on: where it is, what it has learnt, what it has measured."""

    epoch: int = 0
    step: int = 0
    model: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    meters: Meters = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)


class Fit:
    """A training run in progress.

    Args:
        recipe: What to do.
        data: Prepared data.
        model: The network, with the recipe's kind of batch norm if a phase has noise, on its
            device. It is plain again after :meth:`run`, apart from that.
        phases: Of the method.
        augment: Of the training images.
        switches: What makes steps fast; the default is the plain two-pass step.
        team: The processes that share each batch; alone by default.
        listener: Called with the name of an event and its content: ``phase``, ``step``, ``epoch``,
            ``warning``.
        save: Called with a state that can be resumed, whenever one should be kept.
        on_epoch: Called with the state after every epoch.
        should_stop: Asked after every batch; True saves the state and raises :class:`Interrupted`.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: Prepared,
        model: nn.Module,
        phases: list[Phase],
        augment: Augment,
        switches: Switches | None = None,
        team: Team | None = None,
        *,
        listener: Listener = lambda *_: None,
        save: Callable[[State], None] = lambda _: None,
        on_epoch: Callable[[State], None] = lambda _: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.recipe, self.data, self.model, self.phases = recipe, data, model, phases
        self.augment, self.listener, self.save = augment, listener, save
        self.on_epoch, self.team = on_epoch, team or Team()
        self.should_stop, self.save_every = should_stop, recipe.train.save_seconds
        first = next(model.parameters())
        self.device, self.dtype = first.device, first.dtype
        batch, noisy = recipe.train.batch_size, any(phase.has_noise for phase in phases)
        rows = batch + max(round(batch * phase.ratio) for phase in phases)
        switches = switches or Switches()
        self.step = Step(model, rows, switches, noisy, recipe.batch_norm, self.team)
        self.feed = Feed(data.dataset.train, self.device, recipe.speed.resident)
        # Constants lie on the device from the start: a step copies nothing there but its images.
        self.mean, self.std = (self._constant(v, self.dtype) for v in (data.mean, data.std))
        self.noise = NoiseSource(
            recipe.noise if noisy else Noise(), data, self.feed, self.dtype, recipe.seed,
            recipe.data.memory_mib << 20,
        )  # fmt: skip
        self.counts = torch.from_numpy(phases[0].sampler.counts).to(self.device)
        spans = [(phase.spec, phase.first, phase.end) for phase in phases]
        self.stages = HeadStages(
            model, stages_of(spans), recipe.train, build_optimizer, data.dataset.image_shape,
            stream_seed(recipe.seed, HEAD, 0), switches.compile,
            freeze(model, recipe.model.train).modules,
        )  # fmt: skip
        self.history: list[dict[str, Any]] = []
        self._noise_from = min((p.first for p in phases if p.has_noise), default=None)
        self._is_warm, self._saved_at = False, time.monotonic()

    def run(self, state: State | None = None) -> list[dict[str, Any]]:
        """Train from the start, or from ``state``, to the last epoch.

        Returns:
            One record per epoch.

        Raises:
            TrainingError: If the loss is no longer finite.
            Interrupted: If it was asked to stop.
        """
        state = state or State()
        last = max(0, state.epoch if state.step else state.epoch - 1)  # that was trained in
        self.stages.enter(last, fresh=not state.model)
        if not self.team.is_alone:
            self.step.renew()
        if state.model:
            try:
                self.model.load_state_dict(state.model)
                load_optimizer(self.optimizer, state.optimizer)
            except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
                raise RunError(
                    f"The saved state is not of this model: {str(error).splitlines()[0]}",
                    "Remove the run folder to begin again.",
                ) from error
        self.history = list(state.history)
        for text in self.warm_up():
            self.listener("warning", {"text": text})
        for epoch in range(state.epoch, self.recipe.train.epochs):
            resumed = epoch == state.epoch and state.step > 0
            self._epoch(epoch, state.step if resumed else 0, state.meters if resumed else {})
        self.stages.leave()
        return self.history

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimiser of the stage at hand."""
        return self.stages.optimizer

    def _constant(self, values: tuple[float, ...], dtype: torch.dtype) -> Tensor:
        return torch.tensor(values, dtype=dtype, device=self.device)

    def warm_up(self) -> list[str]:
        """Compile what is to be compiled, once; say what could not be had.

        What is on (``step.switches``) is known only after that.

        Raises:
            ModelError: If compiling was forced and fails.
        """
        if self._is_warm:
            return []
        self._is_warm = True
        kinds = {phase.has_noise for phase in self.phases}
        shape, rows = self.data.dataset.image_shape, self.recipe.train.batch_size
        said = (self.feed.warning, self.step.warm_up(shape, rows, kinds))
        return [text for text in said if text]

    def _epoch(self, epoch: int, first_step: int, meters: Meters) -> None:
        """Train one epoch from ``first_step`` on, evaluate if it is time to, and tell."""
        train = self.recipe.train
        phase = phase_at(self.phases, epoch)
        if self.stages.enter(epoch) and not self.team.is_alone:
            self.step.renew()
        lr = self.stages.rate(epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        if epoch == self._noise_from and first_step == 0:
            begin_auxiliary(self.model)
        if epoch == phase.first:  # also when it is resumed: the log drops what it said before
            self.listener("phase", {"epoch": epoch, **phase.spec.model_dump()})
        started = time.perf_counter()
        plans = plan_epoch(phase, epoch, train.batch_size, self.recipe.seed)
        meter = self.train_steps(plans, epoch, first_step, meters)
        means = meter.means(self.team)
        record = {"epoch": epoch, "phase": self.phases.index(phase), "lr": lr, **means}
        self._refuse_non_finite(record["loss"], epoch, len(plans) - 1, lr)
        record["seconds"] = meter.seconds(started)
        try:
            self._evaluate(epoch, record)
        except Interrupted:  # all steps are taken: whoever goes on begins with the evaluation
            self._save(epoch, len(plans), meter.sums(self.team))
            raise
        self.history.append(record)
        with keeping(lambda: self._save(epoch + 1, 0, {}), alone=self.team.is_alone):
            self.listener("epoch", record)
        self.on_epoch(self._state(epoch + 1, 0, {}))
        last = epoch + 1 == train.epochs
        if last or time.monotonic() - self._saved_at >= self.save_every:
            self._save(epoch + 1, 0, {})

    def train_steps(
        self,
        plans: Sequence[StepPlan],
        epoch: int,
        first_step: int = 0,
        meters: Mapping[str, float] | None = None,
    ) -> Meter:
        """Take the steps that are planned for an epoch.

        Args:
            plans: All of the epoch's, or its first.
            epoch: Counted from 0.
            first_step: Where to begin among them.
            meters: Sums over the steps before that.

        Returns:
            Sums over all steps, on the device.
        """
        phase = phase_at(self.phases, epoch)
        meter = Meter(self.device, (meters or {}) if self.team.leads else {})
        loss = phase.loss(epoch).to(self.device)
        self.stages.set_modes()
        batches = self.feed.epoch(plans[first_step:], self.team)
        with closing(batches), self.noise.reading(plans, epoch, first_step):
            for step, (plan, images, labels) in enumerate(batches, start=first_step):
                value, hits, rows = self._step(
                    plan, images, labels, loss, phase.has_noise, epoch, step
                )
                meter.add(value, hits, rows, len(hits), len(plan.labels))
                self._after_step(epoch, step, len(plans), meter)
        return meter

    def _step(
        self,
        plan: StepPlan,
        images: Tensor,
        labels: Tensor,
        loss: ClassificationLoss,
        phase_has_noise: bool,
        epoch: int,
        step: int,
    ) -> tuple[Tensor, Tensor, int]:
        """Take one step; return the loss, which natural rows were right (n, best five), and rows.

        Of a team's process: its part of the loss, and its own rows.
        """
        team, seed = self.team, self.recipe.seed
        torch.manual_seed(stream_seed(seed, MODEL, epoch, step, team.rank))  # in a forked state
        n, m = len(plan.natural), plan.n_noise
        own, own_noise = team.rows(n), team.rows(m)
        natural, mixed = self._natural(plan, images, labels, epoch, step)
        labels = labels[: n + m]  # partners end with mixing
        noise = self.noise.rows(m, epoch, step)[own_noise] if m else None
        self.optimizer.zero_grad(set_to_none=True)
        logits = self.step(natural, noise, phase_has_noise=phase_has_noise)  # own rows, classes
        whole = labels if mixed is None else mixed.targets(logits.shape[1], whole=labels[n:])
        if team.is_alone:
            value = loss(logits, whole)
        else:
            value = loss.share(logits, torch.cat([whole[:n][own], whole[n:][own_noise]]), whole)
        (value * team.size).backward()  # a team averages gradients, and the loss is a sum of parts
        if self.device.type == "cpu":  # reading it costs nothing here: stop before weights are hurt
            self._refuse_non_finite(value.item(), epoch, step, self.optimizer.param_groups[0]["lr"])
        self.optimizer.step()
        self.stages.after_step()
        right = (labels[:n] if mixed is None else mixed.larger())[own]
        best = logits[: len(right)].detach().topk(min(5, logits.shape[1]), dim=1).indices  # (n, 5)
        return value.detach(), best == right[:, None], len(logits)

    def _natural(
        self, plan: StepPlan, images: Tensor, labels: Tensor, epoch: int, step: int
    ) -> tuple[Tensor, MixedLabels | None]:
        """Augment, mix and normalise this process's natural images, shape (n, C, H, W).

        Pixels are mixed in [0, 1], where all images are alike; see :mod:`purenoise.mixing`. The
        labels are of all that were mixed.
        """
        whole = generator(stream_seed(self.recipe.seed, AUGMENT, epoch, step))
        own, mixed = self.team.rows(len(plan.natural)), None
        draws: Draws = whole
        if plan.mix is None and not self.team.is_alone:
            draws = PartOfBatch(whole, len(plan.natural), own)
        natural = self.augment(images, draws).to(self.dtype)
        if plan.mix is not None:
            n = len(plan.natural)
            shown = torch.cat([labels[:n], labels[len(plan.labels) :]])
            coins = generator(stream_seed(self.recipe.seed, MIX, epoch, step))
            natural, mixed = mix(plan.mix.name, natural, shown, coins, n=n, counts=self.counts,
                                 **plan.mix.options())  # fmt: skip
            natural = natural[own]
        return normalize(natural, self.mean, self.std), mixed

    def _after_step(self, epoch: int, step: int, n_steps: int, meter: Meter) -> None:
        lr = self.optimizer.param_groups[0]["lr"]
        told = {"epoch": epoch, "step": step, "steps": n_steps, "lr": lr, "meter": meter}
        with keeping(lambda: self._save(epoch, step + 1, meter.sums()), alone=self.team.is_alone):
            self.listener("step", told)
        is_time = time.monotonic() - self._saved_at >= self.save_every
        stopping, is_time = self.team.any(self.should_stop(), self.team.leads and is_time)
        if stopping or is_time:
            self._save(epoch, step + 1, meter.sums(self.team))
        if stopping:
            raise Interrupted

    def _evaluate(self, epoch: int, record: dict[str, Any]) -> None:
        if epoch + 1 < self.recipe.train.epochs and (epoch + 1) % self.recipe.eval.every:
            return
        for name in ("val", "test"):
            split = getattr(self.data.dataset, name)
            if split is not None and len(split):
                logits = predict_together(self.model, split, self.data, self.team, self.should_stop)
                if not np.isfinite(logits).all():
                    raise TrainingError(
                        f"After epoch {epoch + 1} outputs on the {name} images are not finite.",
                        GENTLER,
                    )
                record[name] = evaluate_logits(logits, split.labels, self.data.counts)

    def _save(self, epoch: int, step: int, meters: Meters) -> None:
        """Hand out a state; one with weights that are not finite is never kept."""
        state = self._state(epoch, step, meters)
        if all(bool(w.isfinite().all()) for w in state.model.values() if w.is_floating_point()):
            self.save(state)
        self._saved_at = time.monotonic()

    def _state(self, epoch: int, step: int, meters: Meters) -> State:
        """The state from which ``step`` of ``epoch`` comes next."""
        weights, optimizer = self.model.state_dict(), self.optimizer.state_dict()
        return State(epoch, step, weights, optimizer, meters, self.history)

    def _refuse_non_finite(self, value: float, epoch: int, step: int, lr: float) -> None:
        whole = float(self.team.sum(torch.tensor(value, dtype=torch.float64)))
        if not math.isfinite(whole):
            where = f"epoch {epoch + 1}, step {step + 1} (learning rate {lr:g})"
            raise shared(TrainingError(f"The loss is {whole} in {where}.", GENTLER))
