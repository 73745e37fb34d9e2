"""What batch norm does with noise rows: shared and auxiliary, against plain float64 formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

import purenoise as pn
from purenoise.augment import build_augment
from purenoise.auxbn import (
    AuxiliaryPass,
    SharedPass,
    add_auxiliary,
    auxiliary_pass,
    drop_auxiliary,
    fit_batch_norm,
)
from purenoise.conversion import convert
from purenoise.errors import ModelError
from purenoise.evaluate import evaluate_split
from purenoise.fitting import make_ready, phases_of
from purenoise.lab.sharing import prefix_key
from purenoise.models import build_model
from purenoise.network import load_run, network
from purenoise.optimizer import build_optimizer
from purenoise.prepare import prepare
from purenoise.recipe import Recipe, load_recipe
from purenoise.speed import Switches
from purenoise.step import Step
from purenoise.training import Fit, Interrupted, State

Array = NDArray[np.float64]
SHORT = ("epochs=4", "batch_size=128", "warmup=0", "defer=0.5", "precision=float64")
EPS, MOMENTUM = 1e-5, 0.1


pytestmark = pytest.mark.usefixtures("one_thread")


def images(n: int, seed: int, shift: float = 0.0) -> Tensor:
    """Draw float64 images."""
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, 4, 4, generator=draws, dtype=torch.float64) + shift


class Set:
    """gamma, beta and running statistics of one batch norm, with its textbook formulas."""

    def __init__(self, channels: int, seed: int) -> None:
        draws = np.random.default_rng(seed)
        self.gamma, self.beta = draws.normal(1, 0.3, channels), draws.normal(0, 0.3, channels)
        self.mean, self.var = np.zeros(channels), np.ones(channels)

    def forward(self, x: Array) -> Array:
        """Normalise rows with their own statistics, channel by channel, and keep them."""
        out = np.zeros_like(x)
        for c in range(x.shape[1]):
            values = x[:, c]
            mean = values.sum() / values.size
            var = ((values - mean) ** 2).sum() / values.size
            out[:, c] = self.gamma[c] * (values - mean) / np.sqrt(var + EPS) + self.beta[c]
            self.mean[c] = (1 - MOMENTUM) * self.mean[c] + MOMENTUM * mean
            unbiased = var * values.size / (values.size - 1)
            self.var[c] = (1 - MOMENTUM) * self.var[c] + MOMENTUM * unbiased
        return out

    def backward(self, x: Array, upstream: Array) -> tuple[Array, Array, Array]:
        """Return the gradients of rows, gamma and beta, by the textbook formula."""
        grad, of_gamma, of_beta = (
            np.zeros_like(x),
            np.zeros_like(self.gamma),
            np.zeros_like(self.beta),
        )
        for c in range(x.shape[1]):
            values, g = x[:, c], upstream[:, c]
            deviation = np.sqrt(values.var() + EPS)
            z = (values - values.mean()) / deviation
            of_gamma[c], of_beta[c] = (g * z).sum(), g.sum()
            grad[:, c] = self.gamma[c] / deviation * (g - g.mean() - z * (g * z).mean())
        return grad, of_gamma, of_beta


def put(layer: nn.Module, values: Set) -> None:
    """Give a layer the parameters of an oracle."""
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(values.gamma))
        layer.bias.copy_(torch.from_numpy(values.beta))


def check(layer: nn.Module, values: Set, of_gamma: Array, of_beta: Array) -> None:
    """Hold running statistics and gradients against an oracle's."""
    for found, wanted in ((layer.running_mean, values.mean), (layer.running_var, values.var),
                          (layer.weight.grad, of_gamma), (layer.bias.grad, of_beta)):  # fmt: skip
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-10, atol=1e-12)


def test_auxiliary_is_two_batch_norms():
    """Natural and noise rows each have gamma, beta, statistics and gradients of their own."""
    layer = nn.BatchNorm2d(3).double()
    add_auxiliary(layer)
    main, second = Set(3, 0), Set(3, 1)
    put(layer, main)
    put(layer.auxiliary, second)
    x, noise = images(6, 0), images(4, 1, shift=2)
    upstream = images(10, 2)
    rows = x.clone().requires_grad_(), noise.clone().requires_grad_()
    a = layer(rows[0])
    with auxiliary_pass(layer):
        b = layer(rows[1])
    (torch.cat([a, b]) * upstream).sum().backward()
    for values, given, out, grads, at in (
        (main, x, a, rows[0], slice(0, 6)), (second, noise, b, rows[1], slice(6, 10)),
    ):  # fmt: skip
        plain, g = given.numpy(), upstream[at].numpy()
        np.testing.assert_allclose(
            out.detach().numpy(), values.forward(plain), rtol=1e-10, atol=1e-12
        )
        of_x, of_gamma, of_beta = values.backward(plain, g)
        np.testing.assert_allclose(grads.grad.numpy(), of_x, rtol=1e-9, atol=1e-11)
        check(layer if values is main else layer.auxiliary, values, of_gamma, of_beta)
    assert int(layer.num_batches_tracked) == int(layer.auxiliary.num_batches_tracked) == 1


def test_shared_is_one_batch_norm_over_all_rows():
    """All rows have one mean, one variance and one gradient, as rows of one kind have."""
    layer, values = nn.BatchNorm2d(3).double(), Set(3, 0)
    put(layer, values)
    x, noise = images(6, 0).requires_grad_(), images(4, 1, shift=2).requires_grad_()
    upstream = images(10, 2)
    out = SharedPass(layer)(x, noise)
    (out * upstream).sum().backward()
    rows = torch.cat([x, noise]).detach().numpy()
    np.testing.assert_allclose(out.detach().numpy(), values.forward(rows), rtol=1e-10, atol=1e-12)
    of_x, of_gamma, of_beta = values.backward(rows, upstream.numpy())
    np.testing.assert_allclose(torch.cat([x.grad, noise.grad]).numpy(), of_x, rtol=1e-9, atol=1e-11)
    check(layer, values, of_gamma, of_beta)


def test_frozen_layers_use_running_statistics_of_their_kind():
    """In evaluation mode each pass normalises with its own running statistics and keeps them."""
    layer = nn.BatchNorm2d(3).double()
    add_auxiliary(layer)
    layer.auxiliary.running_mean.fill_(5)
    layer.eval()
    noise = images(4, 1)
    with auxiliary_pass(layer):
        found = layer(noise)
    torch.testing.assert_close(found, (noise - 5) / (1 + EPS) ** 0.5)
    torch.testing.assert_close(layer(noise), noise / (1 + EPS) ** 0.5)


@pytest.mark.parametrize("name", ["small_cnn", "resnet8", "torchvision:resnet18"])
def test_a_network_with_second_sets_is_the_same_network(name: str):
    """Without noise nothing changes bit for bit, and taking the sets away leaves the plain keys."""
    plain, model = (build_model(name, 4, generator_seed=0).double() for _ in range(2))
    keys = set(model.state_dict())
    add_auxiliary(add_auxiliary(model))
    assert set(model.state_dict()) > keys
    x = images(6, 0).repeat(1, 1, 4, 4)
    assert torch.equal(AuxiliaryPass(model)(x), plain(x))
    with torch.no_grad():
        AuxiliaryPass(model)(x, x + 1)
    plain(x)
    drop_auxiliary(model)
    assert set(model.state_dict()) == keys
    assert all(torch.equal(v, plain.state_dict()[k]) for k, v in model.state_dict().items())


def test_timms_norm_and_activation_keep_their_activation():
    """A layer of timm that normalises and activates does both on its second set."""
    layers = pytest.importorskip("timm.layers")
    layer = layers.BatchNormAct2d(3).double()
    add_auxiliary(layer)
    noise = images(4, 1, shift=3)
    with auxiliary_pass(layer):
        found = layer(noise)
    torch.testing.assert_close(found, nn.BatchNorm2d(3).double()(noise).relu())


def test_gradients_of_noise_reach_convolutions():
    """With auxiliary and shared batch norm noise trains convolutions; with dar it does not."""
    reached = {}
    for kind in ("dar", "auxiliary", "shared"):
        model = build_model("small_cnn", 4, generator_seed=0).double()
        fit_batch_norm(model, kind)
        noise = images(4, 1).repeat(1, 1, 2, 2).requires_grad_()
        out = Step(model, 8, Switches(), True, kind)(images(6, 0).repeat(1, 1, 2, 2), noise,
                                                     phase_has_noise=True)  # fmt: skip
        out[6:].sum().backward()
        reached[kind] = noise.grad is not None and bool(noise.grad.abs().max() > 0)
    assert reached == {"dar": False, "auxiliary": True, "shared": True}


@pytest.mark.parametrize("kind", ["auxiliary", "shared"])
def test_no_step_waits_for_the_device(kind: str):
    """A step runs on the meta device, which has no values: nothing can be read back."""
    model = fit_batch_norm(build_model("small_cnn", 4), kind).to("meta")
    rows = torch.empty(8, 3, 8, 8, device="meta")
    out = Step(model, 12, Switches(), True, kind)(rows, rows[:4], phase_has_noise=True)
    out.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_what_cannot_be_done_is_refused():
    """Steps that are masked, converted models and a single noise value get a sentence."""
    model = build_model("small_cnn", 4)
    with pytest.raises(ModelError, match="two-pass"):
        Step(model, 8, Switches(step="masked"), True, "shared")
    with pytest.raises(ModelError, match="no second set"), auxiliary_pass(model):
        pass
    with pytest.raises(ModelError, match="converted to DAR-BN"):
        add_auxiliary(convert(build_model("small_cnn", 4)))
    net = add_auxiliary(nn.Sequential(nn.Flatten(), nn.Linear(48, 3), nn.BatchNorm1d(3)).double())
    with pytest.raises(ModelError, match="one noise image"):
        AuxiliaryPass(net)(images(4, 0), images(1, 1))


# Training


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
