"""ResNets for CIFAR: their size, their shortcuts, and the images they take."""

from __future__ import annotations

import pytest
import torch

from purenoise.models import CifarResNet, CosineLinear
from purenoise.models.cifar_resnet import BasicBlock


def n_parameters(model: torch.nn.Module) -> int:
    """Count the parameters of a model."""
    return sum(p.numel() for p in model.parameters())


def expected(depth: int, num_classes: int, in_channels: int = 3) -> int:
    """Count by hand: 3 x 3 convolutions without bias, two numbers per normalised channel."""
    n = (depth - 2) // 6
    total = 9 * in_channels * 16 + 2 * 16
    for previous, width in ((16, 16), (16, 32), (32, 64)):
        convolutions = [(previous, width)] + [(width, width)] * (2 * n - 1)
        total += sum(9 * a * b + 2 * b for a, b in convolutions)
    return total + 64 * num_classes + num_classes


@pytest.mark.parametrize(
    ("num_classes", "millions", "exact"), [(10, 0.464, 464_154), (100, 0.470, 470_004)]
)
def test_resnet32_has_the_published_size(num_classes: int, millions: float, exact: int) -> None:
    """ResNet-32 has the 0.46 million parameters of He et al., table 6."""
    n = n_parameters(CifarResNet(32, num_classes))
    assert n == exact
    assert n / 1e6 == pytest.approx(millions, abs=5e-4)


@pytest.mark.parametrize("depth", [8, 20, 44, 56, 110, 1202])
def test_sizes_follow_the_formula(depth: int) -> None:
    """Every depth has the number of parameters that follows from the layers."""
    with torch.device("meta"):
        model = CifarResNet(depth, 10, in_channels=1)
    assert n_parameters(model) == expected(depth, 10, in_channels=1)
    assert 1 + 2 * sum(isinstance(m, BasicBlock) for m in model.modules()) + 1 == depth


def test_shortcuts_subsample_and_add_zero_channels() -> None:
    """With silent convolutions a block returns every second pixel between zero channels."""
    block = BasicBlock(2, 4, stride=2).eval()
    torch.nn.init.zeros_(block.conv2.weight)
    x = torch.rand(3, 2, 5, 7)
    out = block(x)
    assert out.shape == (3, 4, 3, 4)
    assert torch.equal(out[:, 1:3], x[:, :, ::2, ::2])
    assert not out[:, [0, 3]].any()


@pytest.mark.parametrize("shape", [(3, 4, 4), (1, 8, 8), (3, 33, 17), (2, 5, 40)])
@pytest.mark.parametrize("rows", [0, 2])
@pytest.mark.parametrize("train", [True, False])
def test_takes_any_image_size_and_no_rows(
    shape: tuple[int, int, int], rows: int, train: bool
) -> None:
    """Odd, grey and empty batches give logits of the right shape, and finite gradients."""
    model = CifarResNet(8, 5, in_channels=shape[0]).train(train)
    logits = model(torch.rand(rows, *shape))
    assert logits.shape == (rows, 5)
    logits.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert all(b.isfinite().all() for b in model.buffers())


def test_weights_have_the_spread_of_kaiming_normal() -> None:
    """Convolutions and the last layer start with variance 2 / fan_in."""
    model = CifarResNet(56, 100)
    conv = model.layer3[2].conv2.weight
    assert conv.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)
    assert model.fc.weight.std().item() == pytest.approx((2 / 64) ** 0.5, rel=0.05)


def test_cosine_head_gives_cosines() -> None:
    """The head returns cosines, whatever the length of features and weights."""
    torch.manual_seed(0)
    head = CosineLinear(16, 4)
    torch.nn.init.normal_(head.weight, std=7.0)
    features = 30 * torch.randn(50, 16)
    expected = torch.cosine_similarity(features[:, None], head.weight[None], dim=2)
    torch.testing.assert_close(head(features), expected)
    assert head(features).abs().max() <= 1 + 1e-6
    assert head(head.weight).diagonal().detach() == pytest.approx(1.0)


def test_cosine_head_starts_with_unit_directions() -> None:
    """Class vectors start with length 1, and a zero feature has cosine 0."""
    head = CosineLinear(16, 4)
    torch.testing.assert_close(head.weight.norm(dim=1), torch.ones(4))
    assert not head(torch.zeros(1, 16)).any()
    assert "out_features=4" in repr(head)


def test_cosines_are_scaled_in_evaluation_only():
    """In training the loss scales; in evaluation the head does, and softmax is what was trained."""
    head, features = CosineLinear(8, 3), torch.randn(4, 8)
    head.scale = 30.0
    trained = head(features)
    assert trained.abs().max() <= 1
    assert torch.equal(head.eval()(features), 30.0 * trained)
