"""What batch norm does with noise rows: shared and auxiliary, against plain float64 formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

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
from purenoise.models import build_model
from purenoise.speed import Switches
from purenoise.step import Step

Array = NDArray[np.float64]
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
