"""The small network: its size, the images it takes, and that it learns."""

from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits

from purenoise.models import build_model


def test_is_small() -> None:
    """It stays under 100,000 parameters."""
    n = sum(p.numel() for p in build_model("small_cnn", 10).parameters())
    assert 50_000 < n < 100_000


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 4, 4), (1, 5, 7), (4, 40, 24)])
@pytest.mark.parametrize("rows", [0, 3])
@pytest.mark.parametrize("cosine", [False, True])
def test_takes_any_image_size_and_no_rows(
    shape: tuple[int, int, int], rows: int, cosine: bool
) -> None:
    """Small, oblong and empty batches give logits of the right shape, and gradients."""
    model = build_model("small_cnn", 6, in_channels=shape[0], cosine=cosine)
    logits = model(torch.rand(rows, *shape))
    assert logits.shape == (rows, 6)
    logits.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_learns_digits_in_three_epochs() -> None:
    """Three passes over 1,200 digits are enough for 90 % on the others."""
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(data.target)
    model = build_model("small_cnn", 10, in_channels=1, generator_seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    rows = torch.Generator().manual_seed(0)
    for _ in range(3):
        for batch in torch.randperm(1200, generator=rows).split(64):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
    model.eval()
    right = model(images[1200:]).argmax(1) == labels[1200:]
    assert right.float().mean() > 0.9
