"""The loop against loops written out by hand, and what it does when training goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import purenoise as pn
from purenoise.augment import Augment, build_augment, normalize
from purenoise.checkpoint import load_state
from purenoise.conversion import convert, dar_layers
from purenoise.errors import TrainingError
from purenoise.methods import Phase, build_phases, phase_at
from purenoise.network import network
from purenoise.noise import noise_images
from purenoise.plan import plan_epoch
from purenoise.prepare import Prepared, prepare
from purenoise.recipe import Recipe, load_recipe
from purenoise.runtime import AUGMENT, PIXELS, generator, stream_seed
from purenoise.schedules import learning_rate
from purenoise.training import Fit, Interrupted, State, build_optimizer

from .reference import mixed_batch

Forward = Callable[[nn.Module, Tensor, Tensor | None], Tensor]


@pytest.fixture(autouse=True)
def _one_thread():
    """Run on one thread with a random state of its own, as training does."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        yield
    torch.set_num_threads(before)


def recipe_of(*changes: str) -> Recipe:
    """Return the digits recipe for a few short epochs."""
    return load_recipe("digits", ["epochs=2", "batch_size=128", "warmup=0", *changes])


def parts(recipe: Recipe) -> tuple[Prepared, list[Phase], Augment, nn.Module]:
    """Return what a loop needs: data, phases, augmentation and a plain network."""
    data = prepare(recipe.data)
    phases = build_phases(
        recipe.resolved_method(), data.dataset.train.labels, data.dataset.n_classes,
        epochs=recipe.train.epochs, defer=recipe.defer, delta=recipe.delta, seed=recipe.seed,
    )  # fmt: skip
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
