"""Steps of an OPeN epoch with its plan, data, augmentation and bookkeeping, against bare steps.

The small size takes the first 12 of the steps that CIFAR-10-LT has, of a plan that is that long.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from benchmarks.forms import Setting
from benchmarks.rows import Rows
from benchmarks.timing import alternate, ratios
from purenoise.augment import build_augment
from purenoise.conversion import convert
from purenoise.data.types import Dataset, MemoryImages, Split
from purenoise.longtail import imbalanced_counts
from purenoise.methodfile import load_method
from purenoise.methods import build_phases
from purenoise.models import build_model
from purenoise.network import lay_out
from purenoise.plan import plan_epoch
from purenoise.prepare import Prepared
from purenoise.recipe import load_recipe
from purenoise.speed import resolve_speed
from purenoise.training import Fit

ROUNDS = {"toy": 2, "small": 7, "full": 9}
STEPS = {"toy": 2, "small": 12, "full": 97}
POLICIES = ("none", "flip-crop", "flip-crop-cutout", "open", "autoaugment")


def long_tailed(n_max: int) -> Prepared:
    """Return random colour images with the counts of CIFAR-10-LT at imbalance ratio 100."""
    draw = np.random.default_rng(0)
    counts = imbalanced_counts("exp", n_max, 10, 100)
    labels = np.repeat(np.arange(10), counts).astype(np.int64)
    pixels = draw.integers(0, 256, (len(labels), 3, 32, 32), dtype=np.uint8)
    split = Split(MemoryImages(pixels), labels)
    dataset = Dataset("random", tuple("abcdefghij"), split, split.subset(np.arange(10)))
    return Prepared(dataset, dataset.counts(), *[(0.5, 0.5, 0.5), (0.25, 0.25, 0.25)] * 2)


def measure(setting: Setting, rows: Rows) -> None:
    """Measure the same planned steps with ready tensors and with everything a run does."""
    data = long_tailed(5000 if rows.size == "full" else 600 if rows.size == "small" else 100)
    steps = STEPS[rows.size]
    case = f"{setting.name} {setting.batch}x{setting.side}" + " bf16" * setting.bf16
    for policy in POLICIES:  # one at a time against the bare steps
        fit = _fit(setting, rows, data, policy)
        plans = plan_epoch(fit.phases[1], 199, setting.batch, 0)[:steps]
        n_rows = sum(len(plan.labels) for plan in plans)
        cases = {"bare": partial(_bare, fit, plans), policy: partial(_whole, fit, steps)}
        times = alternate(cases, ROUNDS[rows.size], rows.device, 1)
        for name, seconds in times.items():
            if name == policy or policy == POLICIES[0]:
                rows.add("epoch", case, f"{name}: images", "img/s", [n_rows / s for s in seconds])
        share = ratios(times, "bare", policy)
        rows.add("epoch", case, f"{policy}: share of the bare step's img/s", "", share)


def _fit(setting: Setting, rows: Rows, data: Prepared, policy: str) -> Fit:
    """Return a run in its OPeN phase."""
    recipe = load_recipe("cifar10-lt", [f"model={setting.name}", f"batch_size={setting.batch}"])
    labels = data.dataset.train.labels
    phases = build_phases(
        load_method("open"), labels, 10, epochs=200, defer=0.8, delta=1 / 3, seed=0
    )
    model = convert(build_model(setting.name, 10, generator_seed=0)).to(rows.device)
    switches = resolve_speed(recipe.speed, rows.device, recipe.precision)
    if switches.channels_last:
        lay_out(model)
    augment = build_augment(policy, data.dataset.image_shape, flip=True)
    fit = Fit(recipe, data, model, phases, augment, switches)
    fit.model.train()
    for group in fit.optimizer.param_groups:
        group["lr"] = 1e-3
    return fit


def _whole(fit: Fit, steps: int) -> None:
    """Do what a run does: plan, feed, augment, normalise, draw noise, step, count."""
    plans = plan_epoch(fit.phases[1], 199, fit.recipe.train.batch_size, 0)[:steps]
    fit.train_steps(plans, 199).means()


def _bare(fit: Fit, plans: list) -> None:
    """Do the same forward, backward and update on tensors that are ready."""
    loss = fit.phases[1].loss(199).to(fit.device)
    most = max(len(plan.labels) for plan in plans)
    images = torch.zeros(most, *fit.data.dataset.image_shape, device=fit.device)
    labels = torch.zeros(most, dtype=torch.int64, device=fit.device)
    for plan in plans:
        fit.optimizer.zero_grad(set_to_none=True)
        natural, noise = images[: len(plan.natural)], images[: plan.n_noise]
        logits = fit.step(natural, noise if plan.n_noise else None, phase_has_noise=True)
        loss(logits, labels[: len(plan.labels)]).backward()
        fit.optimizer.step()
