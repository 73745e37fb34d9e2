"""The loop. One ``fit``, one step: natural pass and noise pass in one module forward.

Every random number of a step comes from (seed, epoch, step), also the model's own (dropout), so
nothing but weights, optimiser and position has to be kept to continue a run bit for bit.
``fit`` tells what happens by events and keeps no files; who wants some listens.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from purenoise.augment import Augment, normalize
from purenoise.errors import RunError, TrainingError
from purenoise.evaluate import predict_logits
from purenoise.losses import ClassificationLoss
from purenoise.methods import Phase, phase_at
from purenoise.metrics import evaluate_logits
from purenoise.noise import noise_images
from purenoise.plan import StepPlan, plan_epoch, stream
from purenoise.prepare import Prepared
from purenoise.recipe import Recipe, Train
from purenoise.runtime import AUGMENT, MODEL, PIXELS, generator, stream_seed
from purenoise.schedules import learning_rate
from purenoise.twopass import TwoPass

Listener = Callable[[str, dict[str, Any]], None]
Meters = dict[str, float]
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


class Interrupted(Exception):  # noqa: N818 - it is no error
    """Training was asked to stop; the state was saved."""


class Fit:
    """A training run in progress.

    Args:
        recipe: What to do.
        data: Prepared data.
        model: The network, converted if a phase has noise, on its device.
        phases: Of the method.
        augment: Of the training images.
        listener: Called with the name of an event and its content: ``phase``, ``step``, ``epoch``.
        save: Called with a state that can be resumed, whenever one should be kept.
        on_epoch: Called with the state after every epoch.
        should_stop: Asked after every step; True saves the state and raises :class:`Interrupted`.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: Prepared,
        model: nn.Module,
        phases: list[Phase],
        augment: Augment,
        *,
        listener: Listener = lambda *_: None,
        save: Callable[[State], None] = lambda _: None,
        on_epoch: Callable[[State], None] = lambda _: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.recipe, self.data, self.model, self.phases = recipe, data, model, phases
        self.augment, self.listener, self.save = augment, listener, save
        self.on_epoch = on_epoch
        self.should_stop, self.save_every = should_stop, recipe.train.save_seconds
        self.two_pass = TwoPass(model)
        first = next(model.parameters())
        self.device, self.dtype = first.device, first.dtype
        self.optimizer = build_optimizer(model, recipe.train)
        self.history: list[dict[str, Any]] = []
        self._saved_at = time.monotonic()

    def run(self, state: State | None = None) -> list[dict[str, Any]]:
        """Train from the start, or from ``state``, to the last epoch.

        Returns:
            One record per epoch.

        Raises:
            TrainingError: If the loss is no longer finite.
            Interrupted: If it was asked to stop.
        """
        state = state or State()
        if state.model:
            try:
                self.model.load_state_dict(state.model)
                self.optimizer.load_state_dict(state.optimizer)
            except (RuntimeError, ValueError, KeyError, TypeError) as error:
                raise RunError(
                    f"The saved state is not of this model: {str(error).splitlines()[0]}",
                    "Remove the run folder to begin again.",
                ) from error
        self.history = list(state.history)
        for epoch in range(state.epoch, self.recipe.train.epochs):
            resumed = epoch == state.epoch and state.step > 0
            self._epoch(epoch, state.step if resumed else 0, state.meters if resumed else {})
        return self.history

    def _epoch(self, epoch: int, first_step: int, meters: Meters) -> None:
        """Train one epoch from ``first_step`` on, evaluate if it is time to, and tell."""
        train = self.recipe.train
        phase = phase_at(self.phases, epoch)
        lr = learning_rate(train.lr, epoch, train.epochs, train.schedule, train.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        loss = phase.loss(epoch).to(self.device)
        plans = plan_epoch(phase, epoch, train.batch_size, self.recipe.seed)
        if epoch == phase.first:  # also when it is resumed: the log drops what it said before
            self.listener("phase", {"epoch": epoch, **phase.spec.model_dump()})
        meter = _Meter(self.device, meters)
        started = time.perf_counter()
        self.model.train()
        for step, (plan, images) in enumerate(stream(self.data.dataset.train, plans[first_step:]),
                                              start=first_step):  # fmt: skip
            value, correct, near = self._step(plan, images, loss, epoch, step)
            meter.add(value, correct, near, len(plan.labels), len(plan.natural))
            self._after_step(epoch, step, len(plans), lr, meter)
        record = {"epoch": epoch, "phase": self.phases.index(phase), "lr": lr, **meter.means()}
        self._refuse_non_finite(record["loss"], epoch, len(plans) - 1, lr)
        record["seconds"] = meter.seconds(started)
        self._evaluate(epoch, record)
        self.history.append(record)
        self.listener("epoch", record)
        self.on_epoch(self._state(epoch + 1, 0, {}))
        last = epoch + 1 == train.epochs
        if last or time.monotonic() - self._saved_at >= self.save_every:
            self._save(epoch + 1, 0, {})

    def _step(
        self, plan: StepPlan, images: Tensor, loss: ClassificationLoss, epoch: int, step: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Take one step; return the loss, and how many natural rows were right in 1 and in 5."""
        seed, device = self.recipe.seed, self.device
        data, size = self.data, self.data.dataset.image_shape[1:]
        torch.manual_seed(stream_seed(seed, MODEL, epoch, step))  # inside a forked generator
        drawn = self.augment(
            images.to(device, non_blocking=True),
            generator(stream_seed(seed, AUGMENT, epoch, step)),
        )
        natural = normalize(drawn.to(self.dtype), data.mean, data.std)  # (n, C, H, W)
        noise = None
        if plan.n_noise:
            pixels = generator(stream_seed(seed, PIXELS, epoch, step), device)
            noise = noise_images(plan.n_noise, size, data.noise_mean, data.noise_std, pixels)
            noise = normalize(noise.to(self.dtype), data.mean, data.std)  # (m, C, H, W)
        labels = torch.from_numpy(plan.labels).to(device, non_blocking=True)
        self.optimizer.zero_grad(set_to_none=True)
        logits = self.two_pass(natural, noise)  # (n + m, classes), natural rows first
        value = loss(logits, labels)
        value.backward()
        if device.type == "cpu":  # reading it costs nothing here: stop before the weights are hurt
            self._refuse_non_finite(value.item(), epoch, step, self.optimizer.param_groups[0]["lr"])
        self.optimizer.step()
        n = len(plan.natural)
        guesses, true = logits[:n].detach(), labels[:n]
        correct = (guesses.argmax(1) == true).sum()
        first_five = guesses.topk(min(5, guesses.shape[1]), dim=1).indices  # (n, 5)
        return value.detach(), correct, (first_five == true[:, None]).sum()

    def _after_step(self, epoch: int, step: int, n_steps: int, lr: float, meter: _Meter) -> None:
        self.listener("step", {"epoch": epoch, "step": step, "steps": n_steps, "lr": lr,
                               "meter": meter})  # fmt: skip
        stopping = self.should_stop()
        if stopping or time.monotonic() - self._saved_at >= self.save_every:
            self._save(epoch, step + 1, meter.sums())
        if stopping:
            raise Interrupted

    def _evaluate(self, epoch: int, record: dict[str, Any]) -> None:
        last = epoch + 1 == self.recipe.train.epochs
        if not last and (epoch + 1) % self.recipe.eval.every:
            return
        for name in ("val", "test"):
            split = getattr(self.data.dataset, name)
            if split is not None and len(split):
                logits = predict_logits(self.model, split.images, self.data.mean, self.data.std)
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
        if not math.isfinite(value):
            raise TrainingError(
                f"The loss is {value} in epoch {epoch + 1}, step {step + 1} (learning rate "
                f"{lr:g}).",
                GENTLER,
            )


class _Meter:
    """Sums over an epoch, kept on the device and read when somebody asks."""

    names = ("loss", "rows", "correct", "natural", "top5")

    def __init__(self, device: torch.device, sums: Meters) -> None:
        kind = torch.float32 if device.type == "mps" else torch.float64
        start = [sums.get(name, 0.0) for name in self.names]
        self._sums = torch.tensor(start, dtype=kind, device=device)
        self._before = sums.get("seconds", 0.0)
        self._started = time.perf_counter()

    def add(self, loss: Tensor, correct: Tensor, near: Tensor, rows: int, natural: int) -> None:
        self._sums[0] += loss * rows
        self._sums[1] += rows
        self._sums[2] += correct
        self._sums[3] += natural
        self._sums[4] += near

    def seconds(self, started: float) -> float:
        return self._before + time.perf_counter() - started

    def sums(self) -> Meters:
        values = dict(zip(self.names, self._sums.tolist(), strict=True))
        return values | {"seconds": self.seconds(self._started)}

    def means(self) -> Meters:
        """Mean loss over all rows, accuracies over natural rows, and rows of each kind."""
        s = self.sums()
        return {
            "loss": s["loss"] / max(1.0, s["rows"]),
            "accuracy": s["correct"] / max(1.0, s["natural"]),
            "top5": s["top5"] / max(1.0, s["natural"]),
            "rows": int(s["rows"]),
            "noise_rows": int(s["rows"] - s["natural"]),
        }


def build_optimizer(model: nn.Module, train: Train) -> torch.optim.Optimizer:
    """Build the optimiser of a recipe; weight decay is on all parameters, as in the field."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    lr, decay = train.lr, train.weight_decay
    if train.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=lr, weight_decay=decay)
    if train.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=lr, weight_decay=decay)
    return torch.optim.SGD(
        parameters, lr=lr, weight_decay=decay, momentum=train.momentum, nesterov=train.nesterov
    )
