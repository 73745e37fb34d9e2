"""The loop against loops written out by hand, and what it does when training goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import purenoise as pn
from purenoise.augment import Augment, build_augment, normalize
from purenoise.checkpoint import load_state
from purenoise.conversion import convert, dar_layers
from purenoise.errors import TrainingError
from purenoise.fitting import phases_of
from purenoise.losses import ClassificationLoss
from purenoise.methods import Phase, phase_at
from purenoise.mixing import mix
from purenoise.network import network
from purenoise.noise import noise_images
from purenoise.optimizer import build_optimizer
from purenoise.plan import plan_epoch
from purenoise.prepare import Prepared, prepare
from purenoise.recipe import Recipe, load_recipe
from purenoise.runtime import AUGMENT, MIX, PIXELS, generator, stream_seed
from purenoise.schedules import learning_rate
from purenoise.speed import Switches
from purenoise.step import Step
from purenoise.training import Fit, Interrupted, State

from .reference import mixed_batch

Forward = Callable[[nn.Module, Tensor, Tensor | None], Tensor]
pytestmark = pytest.mark.usefixtures("one_thread")


def recipe_of(*changes: str) -> Recipe:
    """Return the digits recipe for a few short epochs."""
    return load_recipe("digits", ["epochs=2", "batch_size=128", "warmup=0", *changes])


def parts(recipe: Recipe) -> tuple[Prepared, list[Phase], Augment, nn.Module]:
    """Return what a loop needs: data, phases, augmentation and a plain network."""
    data = prepare(recipe.data)
    phases = phases_of(recipe, data)
    augment = build_augment(recipe.augment.policy, data.dataset.image_shape, flip=False)
    return data, phases, augment, network(recipe, data)


def fitted(recipe: Recipe, **options: Any) -> nn.Module:
    """Train by the library's loop."""
    data, phases, augment, model = parts(recipe)
    if any(phase.has_noise for phase in phases):
        convert(model, recipe.stop_gradient)
    Fit(recipe, data, model, phases, augment, **options).run()
    return model


def by_hand(recipe: Recipe, forward: Forward) -> nn.Module:
    """Train by a plain loop over the same plans and random streams."""
    data, phases, augment, model = parts(recipe)
    if any(phase.has_noise for phase in phases):
        convert(model, recipe.stop_gradient)
    train, seed = recipe.train, recipe.seed
    optimizer = build_optimizer(model, train)
    dtype = next(model.parameters()).dtype
    model.train()
    for epoch in range(train.epochs):
        phase = phase_at(phases, epoch)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(train.lr, epoch, train.epochs, train.schedule, train.warmup)
        for step, plan in enumerate(plan_epoch(phase, epoch, train.batch_size, seed)):
            images = torch.from_numpy(data.dataset.train.images.load(plan.natural))
            drawn = augment(images, generator(stream_seed(seed, AUGMENT, epoch, step)))
            natural, noise = normalize(drawn.to(dtype), data.mean, data.std), None
            if plan.n_noise:
                pixels = generator(stream_seed(seed, PIXELS, epoch, step))
                noise = noise_images(plan.n_noise, (8, 8), data.noise_mean, data.noise_std, pixels)
                noise = normalize(noise.to(dtype), data.mean, data.std)
            optimizer.zero_grad()
            loss = phase.loss(epoch)(forward(model, natural, noise), torch.from_numpy(plan.labels))
            loss.backward()
            optimizer.step()
    return model


def mixed(model: nn.Module, natural: Tensor, noise: Tensor | None) -> Tensor:
    """Return logits as the paper's listing computes them, in one batch with a mask."""
    return model(natural) if noise is None else mixed_batch(model, natural, noise)


@pytest.mark.parametrize(
    ("method", "stop_gradient"),
    [("open", "branch"), ("open", "affine"), ("open", "none"), ("open+ldam", "branch"),
     ("noise-augment", "branch")],
)  # fmt: skip
def test_fit_equals_the_mixed_batch_loop(method: str, stop_gradient: str):
    """In float64 training with noise ends with the weights of the paper's mixed batches."""
    recipe = recipe_of(f"method={method}", f"stop_gradient={stop_gradient}", "precision=float64",
                       "defer=0.5")  # fmt: skip
    found, expected = fitted(recipe).state_dict(), by_hand(recipe, mixed).state_dict()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-10, msg=name)


@pytest.mark.parametrize("method", ["erm", "drs", "drw", "ldam-drw", "balanced-softmax"])
def test_training_without_noise_is_plain_training(method: str):
    """Without noise the weights equal those of nn.BatchNorm in a plain loop, bit for bit."""
    recipe = recipe_of(f"method={method}", "defer=0.5")
    found = fitted(recipe)
    expected = by_hand(recipe, lambda model, natural, noise: model(natural)).state_dict()
    assert dar_layers(found) == 0
    assert all(torch.equal(value, expected[name]) for name, value in found.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "kind", "options"),
    [
        (("optimizer=adam", "lr=0.01"), torch.optim.Adam, {"weight_decay": 2e-4}),
        (("optimizer=adamw", "lr=0.01"), torch.optim.AdamW, {"weight_decay": 2e-4}),
        (("nesterov=true",), torch.optim.SGD, {"nesterov": True, "momentum": 0.9}),
    ],
)
def test_optimisers(changes: tuple[str, ...], kind: type, options: dict[str, Any]):
    """Each optimiser is torch's own with the recipe's values, and it learns."""
    recipe = recipe_of(*changes, "method=erm", "epochs=3")
    model = network(recipe, prepare(recipe.data))
    optimizer = build_optimizer(model, recipe.train)
    assert type(optimizer) is kind
    assert options.items() <= optimizer.defaults.items()
    losses: list[float] = []
    fitted(recipe, listener=lambda n, e: losses.append(e["loss"]) if n == "epoch" else None)
    assert losses[-1] < losses[0]


def test_precision_reaches_the_weights():
    """With precision=float64 all weights are float64."""
    kinds = {p.dtype for p in fitted(recipe_of("precision=float64", "method=erm")).parameters()}
    assert kinds == {torch.float64}


def test_training_that_is_stopped_and_resumed_ends_the_same():
    """A state taken in the middle of an epoch, put into a new Fit, ends with the same weights."""
    recipe = recipe_of("defer=0.5")
    whole = fitted(recipe).state_dict()
    data, phases, augment, model = parts(recipe)
    asked = iter([False] * 4 + [True])
    kept: list[State] = []
    with pytest.raises(Interrupted):
        Fit(recipe, data, convert(model), phases, augment,
            save=kept.append, should_stop=lambda: next(asked)).run()  # fmt: skip
    assert (kept[-1].epoch, kept[-1].step) == (1, 2)
    other = convert(network(recipe_of("defer=0.5", "seed=7"), data))
    Fit(recipe, data, other, phases, augment).run(kept[-1])
    assert all(torch.equal(value, whole[name]) for name, value in other.state_dict().items())


def test_dropout_draws_from_the_step_alone():
    """A model with dropout trains the same whatever the global generator was."""
    recipe = recipe_of("model=wide_resnet10_1", "dropout=0.3", "method=erm", "epochs=1")
    torch.manual_seed(1)
    first = fitted(recipe).state_dict()
    torch.manual_seed(2)
    second = fitted(recipe).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(tmp_path):
    """With an absurd learning rate training stops with a sentence; the kept state is finite."""
    with pytest.raises(TrainingError, match=r"not finite|loss is (nan|inf)") as caught:
        pn.train("digits", epochs=5, out=str(tmp_path), warmup=0,
                 **{"lr": 1e30, "train.save_seconds": 0})  # fmt: skip
    assert "train.lr" in caught.value.hint
    (folder,) = tmp_path.glob("*/open/seed-0")
    found = load_state(folder / "state")
    assert found is not None
    assert found[0].step > 0
    assert all(w.isfinite().all() for w in found[0].model.values() if w.is_floating_point())
    assert not (folder / "summary.json").exists()


def test_callers_settings_are_untouched(tmp_path):
    """After training the caller's random state and thread count are what they were."""
    torch.set_num_threads(2)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    pn.train("digits", epochs=1, out=str(tmp_path))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == 2


# Mixing

ALWAYS_CMO = "{phases: [{mix: {name: cmo, prob: 1}}]}"
MIXED = ["mixup", "open+mixup", "open+cmo", "noise-augment+remix", "mixup-drw", "open+cutmix",
         "mixup+label-aware-smoothing", "deferred-cmo+ldam", ALWAYS_CMO]  # fmt: skip


def mixed_by_hand(recipe: Recipe) -> nn.Module:
    """Train by a plain loop with lambda L(a) + (1 - lambda) L(b), row by row, divided once."""
    data, phases, augment, model = parts(recipe)
    if any(phase.has_noise for phase in phases):
        convert(model, recipe.stop_gradient)
    train, seed = recipe.train, recipe.seed
    optimizer = build_optimizer(model, train)
    model.train()
    for epoch in range(train.epochs):
        phase = phase_at(phases, epoch)
        loss = phase.loss(epoch)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(train.lr, epoch, train.epochs, train.schedule, train.warmup)
        for step, plan in enumerate(plan_epoch(phase, epoch, train.batch_size, seed)):
            n, shown = len(plan.natural), np.concatenate([plan.natural, plan.partners])
            images = torch.from_numpy(data.dataset.train.images.load(shown))
            pixels = augment(images, generator(stream_seed(seed, AUGMENT, epoch, step))).double()
            labels = torch.from_numpy(data.dataset.train.labels[shown])
            a = b = labels[:n]
            lam = torch.ones(n, dtype=torch.float64)
            if plan.mix is not None:
                draws = generator(stream_seed(seed, MIX, epoch, step))
                pixels, names = mix(plan.mix.name, pixels, labels, draws, n=n, counts=data.counts,
                                    **plan.mix.options())  # fmt: skip
                a, b, lam = names.a, names.b, names.lam
            noise = None
            if plan.n_noise:
                draws = generator(stream_seed(seed, PIXELS, epoch, step))
                noise = noise_images(plan.n_noise, (8, 8), data.noise_mean, data.noise_std, draws)
                noise = normalize(noise.double(), data.mean, data.std)
            logits = mixed(model, normalize(pixels, data.mean, data.std), noise)
            rows = [(i, y[i], share[i]) for y, share in ((a, lam), (b, 1 - lam)) for i in range(n)]
            rows += [(i, torch.tensor(plan.labels[i]), 1.0) for i in range(n, len(logits))]
            terms = norm = torch.zeros((), dtype=torch.float64)
            for i, label, share in rows:
                term, weight = loss.rows(logits[i : i + 1], label[None])
                terms, norm = terms + share * term[0], norm + share * weight[0]
            optimizer.zero_grad()
            (terms / norm).backward()
            optimizer.step()
    return model


@pytest.mark.parametrize("method", MIXED)
def test_fit_with_mixing_equals_the_formula(method: str):
    """In float64 training with mixing ends with the weights of the sum over rows, divided once."""
    recipe = recipe_of(f"method={method}", "precision=float64", "defer=0.5")
    found, expected = fitted(recipe).state_dict(), mixed_by_hand(recipe).state_dict()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-9, msg=name)


@pytest.mark.parametrize("method", ["mixup", "open+cmo", ALWAYS_CMO])
@pytest.mark.parametrize("stop", range(1, 6))
def test_mixing_that_is_stopped_at_any_step_ends_the_same(method: str, stop: int):
    """After whichever step a run is stopped, going on ends with the same bits."""
    recipe = recipe_of(f"method={method}", "defer=0.5")
    data, phases, augment, _ = parts(recipe)
    prepared = [convert(network(r, data)) for r in (recipe, recipe, recipe_of("seed=7"))]
    Fit(recipe, data, prepared[0], phases, augment).run()
    asked = iter([False] * (stop - 1) + [True])
    kept: list[State] = []
    with pytest.raises(Interrupted):
        Fit(recipe, data, prepared[1], phases, augment,
            save=kept.append, should_stop=lambda: next(asked)).run()  # fmt: skip
    Fit(recipe, data, prepared[2], phases, augment).run(kept[-1])
    whole = prepared[0].state_dict()
    assert all(torch.equal(v, whole[name]) for name, v in prepared[2].state_dict().items())


def seen(method: str, monkeypatch, **options: Any) -> list[list[Any]]:
    """Return, for each step of a run, natural and noise images, targets and logits."""
    steps: list[list[Any]] = []
    forward, step = ClassificationLoss.forward, Step.__call__

    def watch_step(self, natural, noise, **rest):
        steps.append([natural.clone(), None if noise is None else noise.clone()])
        return step(self, natural, noise, **rest)

    def watch_loss(self, logits, targets):
        steps[-1] += [targets.clone(), logits.detach().clone()]
        return forward(self, logits, targets)

    with monkeypatch.context() as patch:
        patch.setattr(Step, "__call__", watch_step)
        patch.setattr(ClassificationLoss, "forward", watch_loss)
        fitted(recipe_of(f"method={method}", "defer=0.5"), **options)
    return steps


@pytest.mark.parametrize("mixing", ["mixup", "remix", "{name: cmo, prob: 1}"])
def test_noise_rows_are_never_mixed(mixing: str, monkeypatch):
    """With mixing, noise images and their labels are those of the run without it."""
    if mixing.startswith("{"):
        phases = f"{{mix: {mixing}}}, {{start: defer, sampler: class-balanced, noise: open, "
        mixing = f"{{phases: [{phases} mix: {mixing}}}]}}"
    else:
        mixing = f"open+{mixing}"
    plain, mixed_ones = seen("open", monkeypatch), seen(mixing, monkeypatch)
    assert any(noise is not None for _, noise, _, _ in plain)
    for (a, noise, labels, _), (b, other, targets, _) in zip(plain, mixed_ones, strict=True):
        assert not torch.equal(a, b)
        assert targets.shape == (len(labels), 10)
        if noise is None:
            assert other is None
            continue
        assert other is not None
        assert torch.equal(noise, other)
        one_hot = torch.eye(10)[labels[len(a) :]]
        assert torch.equal(targets[len(a) :], one_hot)


def test_accuracy_of_mixed_rows_is_that_of_the_larger_label(monkeypatch):
    """The training accuracy of an epoch counts natural rows whose larger label was predicted."""
    told: list[float] = []

    def listen(name: str, event: dict[str, Any]) -> None:
        told.extend([event["accuracy"]] if name == "epoch" else [])

    steps = seen("mixup", monkeypatch, listener=listen)
    half = len(steps) // 2
    hits = torch.cat([z.argmax(1) == t.argmax(1) for _, _, t, z in steps[:half]])
    assert told[0] == pytest.approx(hits.double().mean().item())


@pytest.mark.parametrize("method", ["open+cmo", "noise-augment+mixup"])
def test_mixing_in_the_masked_form(method: str):
    """Padding to a fixed shape changes nothing of mixing: the weights are those of two passes."""
    recipe = recipe_of(f"method={method}", "precision=float64", "defer=0.5")
    two, one = fitted(recipe), fitted(recipe, switches=Switches(step="masked"))
    for a, b in zip(two.state_dict().values(), one.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "method",
    ["mixup", "remix", "cutmix", "cmo", "label-aware-smoothing", "mixup-drw", "remix-drw",
     "deferred-balanced-softmax", "open+mixup", "open+cmo", "open+balanced-softmax", "open+ldam",
     "drs+label-aware-smoothing", "deferred-mixup", "mixup+balanced-softmax"],
)  # fmt: skip
def test_methods_with_mixing_train_on_digits(method: str, tmp_path):
    """By name, as a user writes it, each method trains for two epochs and gives a result."""
    run = pn.train("digits", method=method, epochs=2, defer=0.5, out=str(tmp_path))
    assert 0.05 < run.metrics["accuracy"] <= 1
    assert run.folder.parent.name == method
