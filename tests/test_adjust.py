"""Adjusting a trained classifier: the formulas in a plain form, and the layer that is adjusted."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from purenoise.conversion import convert
from purenoise.errors import DataError, ModelError, RecipeError
from purenoise.models import build_model
from purenoise.posthoc.heads import (
    adjust_logits,
    check_prior,
    fold_shift,
    fold_tau,
    head_of,
    last_layer,
    prior_shift,
    tau_normalize,
)

COUNTS = [500, 120, 30, 7]
SHAPE = (3, 8, 8)


def generator(seed: int = 0) -> torch.Generator:
    """Return a generator."""
    return torch.Generator().manual_seed(seed)


def logits(n: int = 6, classes: int = 4) -> Tensor:
    """Return float64 logits."""
    return torch.randn(n, classes, generator=generator(), dtype=torch.float64)


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 2.5])
@pytest.mark.parametrize("target", [None, [1, 2, 3, 4]])
def test_logit_adjustment_is_the_formula(tau: float, target: list[int] | None):
    """Each logit is changed by -tau log(n / N), and by log(m / M) if there is a target prior."""
    z = logits()
    found = adjust_logits(z, COUNTS, target, tau)
    for i in range(len(z)):
        for c, n in enumerate(COUNTS):
            expected = z[i, c].item() - tau * math.log(n / sum(COUNTS))
            if target is not None:
                expected += math.log(target[c] / sum(target))
            assert found[i, c].item() == pytest.approx(expected, abs=1e-12)


def test_adjusted_probabilities_follow_bayes():
    """With tau 1, softmax becomes p(c) q(c) / pi(c), normalised, for target shares q."""
    z, target = logits(), np.array([0.1, 0.2, 0.3, 0.4])
    p, pi = torch.softmax(z, 1).numpy(), np.array(COUNTS) / sum(COUNTS)
    expected = p * target / pi
    expected /= expected.sum(1, keepdims=True)
    found = torch.softmax(adjust_logits(z, COUNTS, target), 1).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_uniform_target_and_training_prior_as_target():
    """A uniform target changes no probability; the training prior as target changes nothing."""
    z = logits()
    plain = torch.softmax(adjust_logits(z, COUNTS), 1)
    torch.testing.assert_close(torch.softmax(adjust_logits(z, COUNTS, [1] * 4), 1), plain)
    torch.testing.assert_close(adjust_logits(z, COUNTS, COUNTS), z)


def test_logits_keep_dtype_and_any_leading_shape():
    """float32 logits stay float32, and a single row is adjusted as well."""
    z = torch.zeros(4)
    assert adjust_logits(z, COUNTS).dtype == torch.float32
    assert adjust_logits(z[None, None], COUNTS).shape == (1, 1, 4)


@pytest.mark.parametrize("tau", [0.0, 0.7, 1.0])
def test_tau_normalisation_is_the_formula(tau: float):
    """Row c becomes w_c / ||w_c||^tau; a row of zeros stays."""
    weight = torch.randn(5, 7, generator=generator(), dtype=torch.float64)
    weight[3] = 0
    found = tau_normalize(weight, tau)
    for c in range(5):
        length = math.sqrt(sum(v * v for v in weight[c].tolist()))
        for d in range(7):
            expected = weight[c, d].item() / length**tau if length else 0.0
            assert found[c, d].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (lambda: check_prior([1, 0]), DataError),
        (lambda: check_prior([1, math.nan]), DataError),
        (lambda: check_prior([]), DataError),
        (lambda: check_prior([[1.0]]), DataError),
        (lambda: check_prior(["a"]), DataError),
        (lambda: prior_shift([1, 2], [1, 2, 3]), DataError),
        (lambda: adjust_logits(torch.zeros(2, 3), [1, 2]), DataError),
        (lambda: prior_shift([1, 2], tau=-1), RecipeError),
        (lambda: tau_normalize(torch.ones(2, 2), math.inf), RecipeError),
        (lambda: fold_shift(nn.Linear(2, 2), [1.0]), DataError),
        (lambda: fold_shift(nn.Linear(2, 2, bias=False), [1.0, 2.0]), ModelError),
    ],
)
def test_what_cannot_be_used_is_refused(bad, error: type):
    """Priors, strengths and layers that cannot be used get a sentence."""
    with pytest.raises(error, match=r"\.$|\. |\.\n"):
        bad()


def images(n: int = 5) -> Tensor:
    """Return float32 images."""
    return torch.randn(n, *SHAPE, generator=generator(1))


@pytest.mark.parametrize("name", ["small_cnn", "resnet8", "wide_resnet10_1"])
@pytest.mark.parametrize("converted", [False, True])
def test_folding_a_shift_is_adjusting_logits(name: str, converted: bool):
    """A network with the shift in its bias says what adjusting its logits gives."""
    model = build_model(name, 4, generator_seed=0).eval()
    expected = adjust_logits(model(images()), COUNTS, tau=1.5)
    if converted:
        convert(model)
    fold_shift(head_of(model, SHAPE), prior_shift(COUNTS, tau=1.5))
    torch.testing.assert_close(model(images()), expected)


@pytest.mark.parametrize("name", ["small_cnn", "resnet8"])
def test_folding_tau_is_a_classifier_of_normalised_vectors(name: str):
    """A network whose head is normalised multiplies features with w / ||w||^tau, without bias."""
    model = build_model(name, 4, generator_seed=0).eval()
    head = head_of(model, SHAPE)
    features: list[Tensor] = []
    head.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
    weight = head.weight.detach().clone()
    fold_tau(head, 0.8)
    found = model(images())
    torch.testing.assert_close(found, features[0] @ tau_normalize(weight, 0.8).T)


def test_looking_for_the_head_leaves_the_model_alone():
    """Modes, statistics, gradients and hooks are what they were."""
    model = build_model("resnet8", 4, generator_seed=0)
    model.bn1.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert head_of(model, SHAPE) is model.fc
    assert not model.bn1.training
    assert model.fc.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks for m in model.modules())


class Scaled(nn.Module):
    """A model that does something after its last linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(192, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Return twice what the layer returns."""
        return 2 * self.fc(x.flatten(1))


class Twice(nn.Module):
    """A model that uses its last layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(192, 192)

    def forward(self, x: Tensor) -> Tensor:
        """Return what the layer makes of its own output."""
        return self.fc(self.fc(x.flatten(1)))


@pytest.mark.parametrize(
    "model", [Scaled(), Twice(), nn.Sequential(nn.Conv2d(3, 4, 8), nn.Flatten())]
)
def test_models_without_a_head_are_refused(model: nn.Module):
    """What is computed after the last layer, or with it twice, is never overlooked."""
    with pytest.raises(ModelError, match="does not end in one layer"):
        head_of(model, SHAPE)


class Half(nn.Linear):
    """A linear layer that does something else as well."""

    def forward(self, x: Tensor) -> Tensor:
        """Return half of what a linear layer returns."""
        return super().forward(x) / 2


def test_layers_that_only_look_linear_are_refused():
    """A subclass with a forward of its own, and a layer with parametrised weights, are refused."""
    wrapped = nn.utils.parametrizations.weight_norm(nn.Linear(192, 4))
    for layer in (Half(192, 4), wrapped):
        with pytest.raises(ModelError, match="more than a product"):
            head_of(nn.Sequential(nn.Flatten(), layer), SHAPE)


def test_the_innermost_layer_is_the_head():
    """Of a layer inside another that returns its output, the inner one is found."""
    outer = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    outer.token = nn.Parameter(torch.zeros(1))
    assert last_layer(nn.Sequential(outer), SHAPE)[0] == "0.1"


def test_cosine_heads_are_refused_by_name():
    """A cosine classifier is the last layer, and no linear one."""
    model = build_model("resnet8", 4, cosine=True)
    assert last_layer(model, SHAPE)[0] == "fc"
    with pytest.raises(ModelError, match="fc, is CosineLinear and not a linear layer"):
        head_of(model, SHAPE)


def test_models_of_torchvision_have_a_head():
    """A ResNet of torchvision ends in its layer fc."""
    model = build_model("torchvision:resnet18", 4)
    assert head_of(model, (3, 32, 32)) is model.fc
