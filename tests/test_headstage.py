"""Second stages of the head and adjustments at last, against loops written out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from purenoise.augment import build_augment, normalize
from purenoise.errors import RecipeError
from purenoise.headspec import HeadSpec
from purenoise.headstage import cut_lengths, draw_head, stages_of
from purenoise.methodfile import PhaseSpec, load_method
from purenoise.methods import phase_at, phase_spans
from purenoise.models.cifar_resnet import CosineLinear
from purenoise.plan import plan_epoch
from purenoise.recipe import Recipe, load_recipe
from purenoise.runtime import AUGMENT, HEAD, generator, stream_seed
from purenoise.speed import Switches

from .stagedfits import STAGED, fit_of, parts, recipe_of

pytestmark = pytest.mark.usefixtures("one_thread")


def cosine(base: float, at: int, length: int) -> float:
    """Return a cosine's value, from `base` at 0 to 0 at `length`."""
    return base * (1 + math.cos(math.pi * at / length)) / 2


@pytest.mark.parametrize("schedule", ["cosine", "step", "constant"])
def test_each_stage_has_its_own_curve(schedule: str):
    """Stage one runs the recipe's curve to its own end; stage two a cosine without warm-up."""
    train = load_recipe("digits", [f"schedule={schedule}", "epochs=200", "warmup=5"]).train
    stages = stages_of(phase_spans(load_method("crt"), 200, 0.8))
    assert [(s.first, s.end) for s in stages] == [(0, 160), (160, 200)]
    for epoch in range(160):
        expected = {"cosine": cosine(0.1, epoch - 5, 155), "constant": 0.1,
                    "step": 0.1 * 0.01 ** ((epoch >= 128) + (epoch >= 144))}[schedule]  # fmt: skip
        expected = 0.1 * (epoch + 1) / 5 if epoch < 5 else expected
        assert stages[0].rate(epoch, train) == pytest.approx(expected)
    for epoch in range(160, 200):
        assert stages[1].rate(epoch, train) == pytest.approx(cosine(0.1, epoch - 160, 40))


@pytest.mark.parametrize("method", ["erm", "drs", "open", "ldam-drw"])
def test_methods_without_stages_have_one(method: str):
    """Without a setting of the head all phases are one stage on the recipe's curve."""
    (stage,) = stages_of(phase_spans(load_method(method), 200, 0.8))
    assert (stage.first, stage.end, stage.stretch) == (0, 200, (0, 200))


def test_schedule_run_keeps_the_recipes_curve():
    """A stage without a schedule of its own goes on with the recipe's."""
    spec = HeadSpec(learn="head")
    spans = [(PhaseSpec(), 0, 6), (PhaseSpec(start="defer", head=spec), 6, 10)]
    assert [s.stretch for s in stages_of(spans)] == [(0, 10), (0, 10)]
    same = [(PhaseSpec(head=spec), 0, 6), (PhaseSpec(start="defer", head=spec), 6, 10)]
    assert [(s.first, s.end) for s in stages_of(same)] == [(0, 10)]


def test_lengths_are_cut_by_the_formula():
    """Rows longer than the bound get its length and keep their direction; others stay."""
    weight = torch.randn(6, 5, generator=generator(0), dtype=torch.float64)
    weight[2] = 0
    before = weight.clone()
    cut_lengths(weight, 1.5)
    cut_lengths(torch.empty(6, 5, device="meta"), 1.5)  # reads nothing back from its device
    for old, new in zip(before, weight, strict=True):
        length = math.sqrt(sum(v * v for v in old.tolist()))
        expected = old * (1.5 / length) if length > 1.5 else old
        torch.testing.assert_close(new, expected)


def test_a_head_is_drawn_by_its_seed():
    """The same seed gives the same layer whatever it was; linear ones within 1 / sqrt(D)."""
    layers = [nn.Linear(16, 4), nn.Linear(16, 4), CosineLinear(16, 4)]
    for layer in layers:
        draw_head(layer, 3)
    assert torch.equal(layers[0].weight, layers[1].weight)
    assert 0.2 < layers[0].weight.abs().max() <= 0.25
    assert 0 < layers[0].bias.abs().max() <= 0.25
    torch.testing.assert_close(layers[2].weight.norm(dim=1), torch.ones(4))
    draw_head(layers[1], 4)
    assert not torch.equal(layers[0].weight, layers[1].weight)


def by_hand(method: str, recipe: Recipe) -> dict[str, Tensor]:
    """Train two stages in a plain loop; the second on features in evaluation mode."""
    data, phases, model = parts(recipe)
    augment = build_augment(recipe.augment.policy, data.dataset.image_shape, flip=False)
    seed, classes = recipe.seed, data.dataset.n_classes
    base = 0.1
    decays = {"crt": (2e-4, 2e-4), "lws": (2e-4, 0.0), "weight-balancing": (5e-3, 0.1)}[method]
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9, weight_decay=decays[0])

    def train(epoch: int, forward: Callable[[Tensor], Tensor], after: Callable[[], None]) -> None:
        phase = phase_at(phases, epoch)
        for step, plan in enumerate(plan_epoch(phase, epoch, recipe.train.batch_size, seed)):
            images = torch.from_numpy(data.dataset.train.images.load(plan.natural))
            drawn = augment(images, generator(stream_seed(seed, AUGMENT, epoch, step)))
            optimizer.zero_grad()
            out = forward(normalize(drawn.double(), data.mean, data.std))
            phase.loss(epoch)(out, torch.from_numpy(plan.labels)).backward()
            optimizer.step()
            after()

    model.train()
    for epoch in range(2):
        optimizer.param_groups[0]["lr"] = cosine(base, epoch, 2)
        train(epoch, model, lambda: None)

    model.eval()
    features: list[Tensor] = []
    model.fc.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0].detach()))
    weight, bias = (v.detach().clone() for v in (model.fc.weight, model.fc.bias))
    factors = torch.ones(classes, dtype=torch.float64)
    if method == "crt":
        draws = torch.Generator().manual_seed(stream_seed(seed, HEAD, 0))
        weight = ((2 * torch.rand(weight.shape, generator=draws) - 1) / 8).double()
        bias = ((2 * torch.rand(bias.shape, generator=draws) - 1) / 8).double()
    learnt = [factors] if method == "lws" else [weight, bias]
    for value in learnt:
        value.requires_grad_(True)
    optimizer = torch.optim.SGD(learnt, 0.1, 0.9, weight_decay=decays[1])
    lengths = weight.detach().norm(dim=1)
    limit = lengths.min() + 0.1 * (lengths.max() - lengths.min())

    def bounded() -> None:
        if method == "weight-balancing":
            with torch.no_grad():
                for row in weight:
                    row.mul_(min(1.0, float(limit / row.norm())))

    def forward(x: Tensor) -> Tensor:
        with torch.no_grad():
            model(x)
        return features.pop() @ (weight * factors[:, None]).T + bias

    bounded()
    for epoch in (2, 3):
        optimizer.param_groups[0]["lr"] = cosine(base, epoch - 2, 2)
        train(epoch, forward, bounded)
    state = model.state_dict()
    state["fc.weight"], state["fc.bias"] = (weight * factors[:, None]).detach(), bias.detach()
    return state


@pytest.mark.parametrize("method", STAGED)
def test_stages_equal_a_plain_loop(method: str):
    """In float64 a run with two stages ends with the weights of a loop written out by hand."""
    recipe = recipe_of(f"method={method}")
    fit = fit_of(recipe)
    history = fit.run()
    expected, found = by_hand(method, recipe), fit.model.state_dict()
    assert set(found) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-10, msg=name)
    assert [h["lr"] for h in history] == pytest.approx([0.1, 0.05, 0.1, 0.05])
    assert all(p.requires_grad for p in fit.model.parameters())


@pytest.mark.parametrize("method", STAGED)
def test_the_second_stage_changes_the_head_alone(method: str):
    """Features, batch norms and their statistics are those at the end of stage one."""
    states: list[dict[str, Tensor]] = []
    fit = fit_of(recipe_of(f"method={method}"), on_epoch=lambda s: states.append(
        {k: v.clone() for k, v in s.model.items()}))  # fmt: skip
    fit.run()
    after = fit.model.state_dict()
    changed = {name for name, value in states[1].items() if not torch.equal(value, after[name])}
    assert changed == ({"fc.weight"} if method == "lws" else {"fc.weight", "fc.bias"})


def test_lengths_stay_bounded_all_along():
    """In the second stage of weight balancing no weight vector is ever longer than the bound."""
    fit = fit_of(recipe_of("method=weight-balancing"))
    lengths: list[float] = []

    def watch(name: str, event: dict[str, Any]) -> None:
        if name == "step" and event["epoch"] >= 2:
            limit = fit.optimizer.param_groups[0]["max_norm"]
            lengths.append(float(fit.model.fc.weight.detach().norm(dim=1).max()) / limit)

    fit.listener = watch
    fit.run()
    assert len(lengths) > 4
    assert max(lengths) <= 1 + 1e-12


def test_dropout_goes_on_and_batch_norm_does_not():
    """In a stage of the head batch norms are in evaluation mode and dropout is in training mode."""
    recipe = recipe_of("method=crt", "model=wide_resnet10_1", "dropout=0.3")
    fit = fit_of(recipe)
    modes: set[tuple[str, bool]] = set()

    def watch(name: str, event: dict[str, Any]) -> None:
        if name == "step" and event["epoch"] == 3:
            modes.update((type(m).__name__, m.training) for m in fit.model.modules())

    fit.listener = watch
    fit.run()
    assert ("BatchNorm2d", False) in modes
    assert ("BatchNorm2d", True) not in modes
    assert ("Dropout", True) in modes


def test_a_cosine_head_can_be_trained_anew():
    """With a cosine classifier cRT draws new directions and learns them."""
    fit = fit_of(recipe_of("method=crt+ldam"))
    fit.run()
    assert fit.model.fc.weight.isfinite().all()


def test_frozen_stages_cannot_be_compiled():
    """A stage that freezes the network and a compiled step do not go together."""
    with pytest.raises(RecipeError, match="cannot be compiled"):
        fit_of(recipe_of("method=crt"), switches=Switches(step="masked", compile=True))


def test_masked_steps_of_a_frozen_network_are_the_same():
    """With noise in a stage of the head, the masked form of a step ends with the same weights."""
    states = []
    for step in ("two-pass", "masked"):
        fit = fit_of(recipe_of("method=open+crt"), switches=Switches(step=step))
        fit.run()
        states.append(fit.model.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=0, atol=1e-10, msg=name)


def test_factors_start_at_one():
    """Before its first step LWS computes what the plain network computes."""
    fit = fit_of(recipe_of("method=lws"))
    x = torch.randn(4, 1, 8, 8, generator=generator(0), dtype=torch.float64)
    before = fit.model.eval()(x)
    fit.stages.enter(3)
    torch.testing.assert_close(fit.model(x), before)
    assert [n for n, p in fit.model.named_parameters() if p.requires_grad] == [
        "fc.parametrizations.weight.0.factors"
    ]
    fit.stages.leave()
    torch.testing.assert_close(fit.model(x), before)
    assert F.linear(torch.ones(1, 64).double(), fit.model.fc.weight).shape == (1, 10)
