"""Training with auxiliary and with shared batch norm equals a plain loop."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import purenoise as pn
from purenoise.augment import build_augment
from purenoise.auxbn import (
    add_auxiliary,
    drop_auxiliary,
)
from purenoise.evaluate import evaluate_split
from purenoise.fitting import make_ready, phases_of
from purenoise.lab.sharing import prefix_key
from purenoise.models import build_model
from purenoise.network import load_run, network
from purenoise.optimizer import build_optimizer
from purenoise.prepare import prepare
from purenoise.recipe import Recipe, load_recipe
from purenoise.training import Fit, Interrupted, State

SHORT = ("epochs=4", "batch_size=128", "warmup=0", "defer=0.5", "precision=float64")
pytestmark = pytest.mark.usefixtures("one_thread")


def recipe_of(*changes: str) -> Recipe:
    """Return the digits recipe for four short epochs, half of them with noise."""
    return load_recipe("digits", [*SHORT, *changes])


def fit_of(recipe: Recipe, **options: object) -> Fit:
    """Return a loop that has not begun."""
    data = prepare(recipe.data)
    phases = phases_of(recipe, data)
    model = network(recipe, data)
    make_ready(model, recipe, phases, data)
    augment = build_augment(recipe.augment.policy, data.dataset.image_shape, flip=False)
    return Fit(recipe, data, model, phases, augment, **options)  # type: ignore[arg-type]


class TwoNorms(nn.Module):
    """Two whole batch norms, of which a switch picks one; the plain form of an auxiliary one."""

    def __init__(self, layer: nn.BatchNorm2d) -> None:
        super().__init__()
        self.sets = nn.ModuleList(nn.BatchNorm2d(layer.num_features).double() for _ in range(2))
        self.noise = False

    def forward(self, x: Tensor) -> Tensor:
        """Normalise with the set of the moment."""
        return self.sets[int(self.noise)](x)


@pytest.mark.parametrize("method", ["open", "noise-augment"])
@pytest.mark.parametrize("kind", ["auxiliary", "shared"])
def test_training_equals_a_plain_loop(method: str, kind: str):
    """In float64 a run ends like a loop with two whole batch norms, or one over all rows."""
    recipe = recipe_of(f"method={method}", f"batch_norm={kind}")
    fit = fit_of(recipe)
    inputs: list[tuple[Tensor, Tensor | None, float]] = []
    step = fit.step

    class Watching:
        warm_up = staticmethod(step.warm_up)

        def __call__(
            self, natural: Tensor, noise: Tensor | None, *, phase_has_noise: bool
        ) -> Tensor:
            inputs.append((natural, noise, fit.optimizer.param_groups[0]["lr"]))
            return step(natural, noise, phase_has_noise=phase_has_noise)

    fit.step = Watching()  # type: ignore[assignment]
    labels: list[tuple[Tensor, nn.Module, bool]] = []
    before = fit._step

    def seen(plan, images, given, loss, noisy, epoch, at):  # type: ignore[no-untyped-def]
        labels.append((given, loss, noisy))
        return before(plan, images, given, loss, noisy, epoch, at)

    fit._step = seen  # type: ignore[method-assign]
    fit.run()

    model = network(recipe, prepare(recipe.data))
    if kind == "auxiliary":
        for name in ("bn1", "bn2", "bn3"):
            setattr(model, name, TwoNorms(getattr(model, name)))
    switches = [m for m in model.modules() if isinstance(m, TwoNorms)]
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9, weight_decay=2e-4, lr=0.1)
    has_begun = False
    for (natural, noise, lr), (target, loss, noisy) in zip(inputs, labels, strict=True):
        if noisy and not has_begun:  # the second sets begin where the first ones are
            has_begun = True
            for switch in switches:
                switch.sets[1].load_state_dict(switch.sets[0].state_dict())
        optimizer.param_groups[0]["lr"] = lr
        optimizer.zero_grad()
        if kind == "shared" or noise is None:
            out = model(natural if noise is None else torch.cat([natural, noise]))
        else:
            a = model(natural)
            for switch in switches:
                switch.noise = True
            b = model(noise)
            for switch in switches:
                switch.noise = False
            out = torch.cat([a, b])
        loss(out, target).backward()
        optimizer.step()
    assert any(noise is not None for _, noise, _ in inputs)
    drop_auxiliary(fit.model)
    found = fit.model.state_dict()
    for name, value in model.state_dict().items():
        if ".sets.1." not in name:
            torch.testing.assert_close(
                found[name.replace(".sets.0", "")], value, rtol=0, atol=1e-10, msg=name
            )


@pytest.mark.parametrize("kind", ["auxiliary", "shared"])
@pytest.mark.parametrize("steps", [2, 8])
def test_a_resumed_run_ends_the_same(kind: str, steps: int):
    """Stopped in the plain or the noise phase and continued, a run ends with the same weights."""
    recipe = recipe_of(f"batch_norm={kind}", "optimizer=sgd")
    whole = fit_of(recipe)
    whole.run()
    asked, kept = iter([False] * steps + [True]), list[State]()
    with pytest.raises(Interrupted):
        fit_of(recipe, save=kept.append, should_stop=lambda: next(asked)).run()
    other = fit_of(recipe)
    other.run(kept[-1])
    expected = whole.model.state_dict()
    assert all(torch.equal(v, expected[name]) for name, v in other.model.state_dict().items())


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_second_sets_rest_before_noise(optimizer: str):
    """Before the noise phase the second sets stay as they were; in it they learn."""
    recipe = recipe_of("batch_norm=auxiliary", f"optimizer={optimizer}", "lr=0.01")
    states: list[State] = []
    fit_of(recipe, on_epoch=lambda s: states.append(
        State(s.epoch, model={k: v.clone() for k, v in s.model.items()}))).run()  # fmt: skip
    first, last = states[1].model, states[-1].model
    assert torch.equal(
        first["bn1.auxiliary.weight"], torch.ones_like(first["bn1.auxiliary.weight"])
    )
    assert int(first["bn1.auxiliary.num_batches_tracked"]) == 0
    assert not torch.equal(last["bn1.auxiliary.weight"], first["bn1.auxiliary.weight"])
    assert int(last["bn1.auxiliary.num_batches_tracked"]) > 0


def test_what_only_noise_trains_is_a_group_of_its_own():
    """The optimiser has one group, and a second one with auxiliary batch norms alone."""
    model, train = build_model("small_cnn", 4), load_recipe("digits").train
    assert len(build_optimizer(model, train).param_groups) == 1
    groups = build_optimizer(add_auxiliary(model), train).param_groups
    assert [len(group["params"]) for group in groups] == [11, 6]


@pytest.mark.parametrize("kind", ["dar", "auxiliary", "shared"])
@pytest.mark.parametrize("method", ["open", "noise-augment"])
def test_saved_weights_are_plain(kind: str, method: str, tmp_path):
    """A finished run of two epochs has the weights of a plain network, which evaluates the same."""
    run = pn.train("digits", epochs=2, batch_size=128, threads=1, out=str(tmp_path),
                   batch_norm=kind, method=method)  # fmt: skip
    plain = set(build_model("small_cnn", 10, in_channels=1).state_dict())
    assert set(load_file(run.folder / "weights.safetensors")) == plain
    _, summary, model = load_run(run.folder)
    data = prepare(load_recipe("digits").data)
    again, _ = evaluate_split(model, data.dataset.test, data)
    assert again["accuracy"] == summary["test"]["accuracy"]


IDENTITY = {"device": "cpu", "threads": 1, "torch": "2", "fingerprint": "f", "subset_sha256": "s",
            "speed": {"step": "two-pass", "bf16": False}}  # fmt: skip


def test_which_first_phases_are_shared():
    """Plain first phases are one, whatever noise comes later, but for auxiliary batch norms."""

    def key(epoch: int, *words: str, **more: str) -> str:
        recipe = load_recipe("digits", ["epochs=10", "defer=0.6", *words])
        return prefix_key(recipe, {**IDENTITY, **more}, epoch)

    erm = key(6, "method=erm")
    assert key(6, "noise=uniform") == key(6, "batch_norm=shared") == erm
    assert key(6, "noise={kind: images, source: photographs}", noise_images="p") == erm
    assert key(6, "batch_norm=auxiliary") != erm
    assert key(6, "batch_norm=auxiliary", "method=erm") == erm
    later = {key(10, "noise=uniform"), key(10), key(10, "batch_norm=shared")}
    assert len(later) == 3
