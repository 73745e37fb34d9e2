"""Wide ResNets: their size, dropout, and the images they take."""

from __future__ import annotations

import pytest
import torch

from purenoise.models import CosineLinear, WideResNet, build_model


def expected(depth: int, width: int, num_classes: int) -> int:
    """Count by hand: a projection in every first block, two numbers per normalised channel."""
    n = (depth - 4) // 6
    total, previous = 9 * 3 * 16, 16
    for channels in (16 * width, 32 * width, 64 * width):
        for _ in range(n):
            total += 2 * previous + 9 * previous * channels
            total += 2 * channels + 9 * channels * channels
            total += previous * channels if previous != channels else 0
            previous = channels
    return total + 2 * previous + previous * num_classes + num_classes


@pytest.mark.parametrize(
    ("name", "size", "millions"),
    [
        ("wide_resnet28_10", (28, 10), 36.5),
        ("wide_resnet40_10", (40, 10), 55.8),
        ("wide_resnet40_14", (40, 14), 109.4),
        ("wide_resnet16_1", (16, 1), 0.2),
    ],
)
def test_sizes(name: str, size: tuple[int, int], millions: float) -> None:
    """The number of parameters follows from the layers; WRN-28-10 has 36.5 million."""
    with torch.device("meta"):
        model = build_model(name, 10)
    n = sum(p.numel() for p in model.parameters())
    assert n == expected(*size, 10)
    assert n / 1e6 == pytest.approx(millions, abs=0.05)


def test_wrn_28_10_exactly() -> None:
    """The count that the OPeN experiments rest on, to the last parameter."""
    assert expected(28, 10, 10) == 36_479_194


@pytest.mark.parametrize("shape", [(3, 4, 4), (1, 8, 8), (3, 33, 17)])
@pytest.mark.parametrize("rows", [0, 2])
@pytest.mark.parametrize("train", [True, False])
def test_takes_any_image_size_and_no_rows(
    shape: tuple[int, int, int], rows: int, train: bool
) -> None:
    """Odd, grey and empty batches give logits of the right shape, and finite gradients."""
    model = WideResNet(10, 1, 5, in_channels=shape[0], dropout=0.3).train(train)
    logits = model(torch.rand(rows, *shape))
    assert logits.shape == (rows, 5)
    logits.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_dropout_lies_between_conv1_and_bn2() -> None:
    """The second batch norm of each block sees a share of zeros near p while training."""
    model = WideResNet(10, 2, 5, dropout=0.3)
    shares: list[float] = []
    for block in (model.layer1[0], model.layer2[0], model.layer3[0]):
        block.bn2.register_forward_pre_hook(
            lambda _, inputs: shares.append((inputs[0] == 0).float().mean().item())
        )
    images = torch.rand(16, 3, 16, 16)
    model(images)
    assert shares == pytest.approx([0.3] * 3, abs=0.03)
    shares.clear()
    model.eval()
    assert torch.equal(model(images), model(images))
    assert max(shares) < 0.01


def test_no_dropout_unless_asked_for() -> None:
    """With dropout 0 no dropout layer exists, and state dicts have the same keys either way."""
    plain, dropping = WideResNet(10, 1, 5), WideResNet(10, 1, 5, dropout=0.5)
    assert not any(isinstance(m, torch.nn.Dropout) for m in plain.modules())
    assert plain.state_dict().keys() == dropping.state_dict().keys()


def test_first_weights() -> None:
    """Convolutions have variance 2 / fan_out; the last bias is 0."""
    model = WideResNet(10, 4, 5)
    conv = model.layer3[0].conv1.weight  # (256, 128, 3, 3)
    assert conv.std().item() == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.02)
    assert not model.fc.bias.any()


def test_cosine_head() -> None:
    """A cosine head bounds the logits by 1."""
    model = WideResNet(10, 1, 5, cosine=True)
    assert isinstance(model.fc, CosineLinear)
    assert model(torch.rand(8, 3, 8, 8)).abs().max() <= 1 + 1e-6
