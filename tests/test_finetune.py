"""Fine-tuning a part of a network: what is frozen stays bit for bit, what learns learns exactly."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from purenoise.augment import build_augment
from purenoise.conversion import convert
from purenoise.errors import ModelError, RecipeError
from purenoise.finetune import freeze
from purenoise.fitting import make_ready, phases_of
from purenoise.models import build_model
from purenoise.models.parts import last_block
from purenoise.network import network
from purenoise.prepare import prepare
from purenoise.recipe import load_recipe
from purenoise.speed import Switches
from purenoise.training import Fit, Interrupted, State
from purenoise.twopass import two_pass

from .reference import images, mixed_batch

pytestmark = pytest.mark.usefixtures("one_thread")
SHORT = ("epochs=3", "batch_size=64", "warmup=0", "defer=0.3", "precision=float64")


def fit_of(*changes: str, **options: Any) -> Fit:
    """Return a loop over digits with OPeN from the second epoch on, made ready but not begun."""
    recipe = load_recipe("digits", [*SHORT, *changes])
    data = prepare(recipe.data)
    phases, model = phases_of(recipe, data), network(recipe, data)
    make_ready(model, recipe, phases, data)
    augment = build_augment(recipe.augment.policy, data.dataset.image_shape, flip=False)
    return Fit(recipe, data, model, phases, augment, **options)


def learning(model: nn.Module, learns: str) -> tuple[str, ...]:
    """Return the prefixes of keys that may change."""
    block = last_block(model) if learns == "last-block" else []
    return tuple(f"{name}." for name in [*block, "fc"])


@pytest.mark.parametrize("learns", ["head", "last-block"])
@pytest.mark.parametrize("kind", ["dar", "auxiliary", "shared"])
def test_what_is_frozen_stays_bit_for_bit(learns: str, kind: str) -> None:
    """Epochs with and without noise change the part that learns, all of it, and nothing else."""
    fit = fit_of(f"model.train={learns}", f"batch_norm={kind}")
    before = copy.deepcopy(fit.model.state_dict())
    fit.run()
    after = fit.model.state_dict()
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    assert changed == {k for k in before if k.startswith(learning(fit.model, learns))}
    held = {id(p) for group in fit.optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in fit.model.parameters() if p.requires_grad}


@pytest.mark.parametrize("learns", ["head", "last-block"])
@pytest.mark.parametrize("name", ["resnet8", "timm:test_resnet"])
def test_a_step_equals_the_mixed_batch(learns: str, name: str) -> None:
    """Gradients of an OPeN step are those of the paper's mixed batch with frozen statistics."""
    torch.manual_seed(0)
    model = convert(build_model(name, 10, generator_seed=1).double())
    frozen = freeze(model, learns)  # type: ignore[arg-type]
    for layer in model.modules():
        if isinstance(layer, _BatchNorm):
            assert layer.running_mean is not None
            layer.running_mean.add_(0.1 * torch.rand_like(layer.running_mean))
    other = copy.deepcopy(model)
    natural, noise = images(6, 32).double(), images(3, 32, seed=1).double()
    labels = torch.arange(9) % 10
    for net in (model, other):
        net.train()
    names = {id(m): n for n, m in model.named_modules()}
    for module in frozen.modules:
        module.training = False
        other.get_submodule(names[id(module)]).training = False
    ours, theirs = two_pass(model, natural, noise), mixed_batch(other, natural, noise)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    F.cross_entropy(ours, labels).backward()
    F.cross_entropy(theirs, labels).backward()
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert (p.grad is None) == (not p.requires_grad)
        if p.grad is not None:
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-9, atol=1e-11)
    state, reference = model.state_dict(), other.state_dict()
    for key in state:
        torch.testing.assert_close(state[key], reference[key], rtol=1e-10, atol=1e-12)


def test_what_is_frozen_drops_nothing() -> None:
    """Dropout inside the backbone is off, and that before the head is on."""
    net = nn.Sequential(
        nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.BatchNorm1d(8, affine=False)),
        nn.BatchNorm1d(8, affine=False),
        nn.Dropout(0.5),
        nn.Linear(8, 3),
    )
    frozen = freeze(net, "head")
    net.train()
    for module in frozen.modules:
        module.training = False
    assert [m.training for m in net] == [False, False, True, True]
    assert not any(m.training for m in net[0])


def test_numbers_of_parameters_are_said() -> None:
    """The note counts what learns and what there is."""
    net = build_model("resnet8", 10)
    n = sum(p.numel() for p in net.parameters())
    full = freeze(net, "full")
    assert (full.n_learning, full.n_all, full.modules) == (n, n, ())
    text = freeze(net, "head").sentence("head")
    assert text.startswith(f"650 of {n:,} parameters learn (the head); the rest is frozen")
    assert text.endswith("is frozen, with the running statistics of its batch norms.")
    assert freeze(net, "head").n_learning == 650
    text = freeze(build_model("timm:test_vit", 10), "head").sentence("head")
    assert text.endswith("parameters learn (the head); the rest is frozen.")


def test_a_network_without_a_head_is_refused() -> None:
    """There must be something to learn."""
    with pytest.raises(ModelError, match="train=head: Flatten has no layer"):
        freeze(nn.Flatten(), "head")


@pytest.mark.parametrize("method", ["open", "crt", "lws", "weight-balancing"])
def test_stages_and_resuming_keep_what_is_frozen(method: str) -> None:
    """A run stopped in mid-epoch goes on bit for bit, and no stage of a method thaws anything."""
    changes = (f"method={method}", "model.train=last-block", "defer=0.5")
    whole = fit_of(*changes)
    before = copy.deepcopy(whole.model.state_dict())
    whole.run()
    after = whole.model.state_dict()
    kept = learning(whole.model, "last-block")
    assert all(torch.equal(before[k], after[k]) for k in before if not k.startswith(kept))
    for stop in (3, 11):
        states: list[State] = []
        steps = iter(range(1000))
        fit = fit_of(
            *changes, save=lambda s: states.append(copy.deepcopy(s)),  # noqa: B023
            should_stop=lambda: next(steps) == stop,  # noqa: B023
        )  # fmt: skip
        with pytest.raises(Interrupted):
            fit.run()
        rest = fit_of(*changes)
        rest.run(states[-1])
        resumed = rest.model.state_dict()
        assert all(torch.equal(after[k], resumed[k]) for k in after)
        thawed = {n for n, p in rest.model.named_parameters() if p.requires_grad}
        assert thawed == {n for n in after if n.startswith(kept) and "running" not in n
                          and "num_batches" not in n}  # fmt: skip


def test_a_frozen_network_cannot_be_compiled() -> None:
    """Compiling says so before it starts."""
    with pytest.raises(RecipeError, match="frozen in part cannot be compiled"):
        fit_of("model.train=head", switches=Switches(compile=True))


def test_the_hash_of_older_recipes_is_what_it_was() -> None:
    """New keys of the model are hashed only where they are set."""
    plain = load_recipe("digits")
    assert "train" not in plain.content()["model"]
    others = [load_recipe("digits", [c]) for c in ("model.train=head", "model.weights=x.pth")]
    assert len({r.digest() for r in (plain, *others)}) == 3
    with pytest.raises(RecipeError, match="pretrained and weights are two beginnings"):
        load_recipe("digits", ["model.weights=x.pth", "model.pretrained=true"])
    with pytest.raises(RecipeError, match="must be 'full', 'last-block' or 'head'"):
        load_recipe("digits", ["model.train=last"])
