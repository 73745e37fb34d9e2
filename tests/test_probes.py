"""What a network says of noise and of images of no class, and that asking changes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch import nn

from purenoise.datasection import Data
from purenoise.errors import DataError
from purenoise.metrics import probabilities
from purenoise.prepare import Prepared, prepare
from purenoise.probes import auroc, describe, photograph_patches, probe, probe_folder


@pytest.fixture(scope="module")
def data() -> Prepared:
    """Return the digits."""
    return prepare(Data())


class Brightness(nn.Module):
    """Says class 1 the more, the brighter an image is; keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.seen: list[torch.Tensor] = []

    def forward(self, images):
        """Return logits of two classes."""
        self.seen.append(images.clone())
        bright = self.scale * images.mean(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(bright), bright], dim=1)


def test_auroc_is_scikit_learns():
    """The area equals scikit-learn's, with ties."""
    draws = np.random.default_rng(0)
    a, b = draws.integers(0, 9, 200) / 9, draws.integers(0, 7, 150) / 9
    labels = np.r_[np.ones(200), np.zeros(150)]
    assert auroc(a, b) == pytest.approx(roc_auc_score(labels, np.r_[a, b]), abs=1e-12)


def test_description_is_the_plain_form():
    """Mean of the largest probability, shares and area as written down plainly."""
    draws = np.random.default_rng(1)
    z, t = 2 * draws.normal(size=(60, 5)), 4 * draws.normal(size=(80, 5))
    found = describe(z, t, "x")
    largest = [max(np.exp(row) / np.exp(row).sum()) for row in z]
    assert found["confidence"] == pytest.approx(np.mean(largest))
    assert found["share"] == [np.mean([row.argmax() == c for row in z]) for c in range(5)]
    scores = [probabilities(t).max(axis=1), probabilities(z).max(axis=1)]
    pairs = [(x > y) + 0.5 * (x == y) for x in scores[0] for y in scores[1]]
    assert found["auroc"] == pytest.approx(np.mean(pairs))


def test_sureness_tells_apart_what_rounds_to_one():
    """Logits so large that both probabilities are 1.0 are still told apart."""
    assert describe([[50.0, 0.0]], [[60.0, 0.0]], "x")["auroc"] == 1.0


def test_what_cannot_be_said_is_none():
    """Without test images there is no area; with logits that are not finite, nothing."""
    assert describe([[1.0, 0.0]], None, "x")["auroc"] is None
    found = describe([[np.inf, 0.0]], [[1.0, 0.0]], "x")
    assert [found[k] for k in ("confidence", "share", "auroc")] == [None, None, None]


def test_noise_is_that_of_open(data):
    """The network is shown 500 normalised noise images with the statistics of the training set."""
    model = Brightness()
    found = probe(model, data, None)
    assert found["test"] is None
    assert found["noise"]["n"] == found["no_class"]["n"] == 500
    shown = torch.cat(model.seen)[:500]
    pixels = shown * torch.tensor(data.std).view(1, -1, 1, 1)
    pixels += torch.tensor(data.mean).view(1, -1, 1, 1)
    assert pixels.min() > -1e-6
    assert pixels.max() < 1 + 1e-6
    draws = np.random.default_rng(0)
    expected = np.clip(draws.normal(data.noise_mean[0], data.noise_std[0], 10**6), 0, 1)
    assert pixels.mean().item() == pytest.approx(expected.mean(), abs=0.01)
    assert pixels.std().item() == pytest.approx(expected.std(), abs=0.01)


def test_random_numbers_and_mode_stay(data):
    """Asking changes no random state and leaves the network as it was; twice gives the same."""
    model = Brightness().train()
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    logits = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    assert probe(model, data, logits) == probe(model, data, logits)
    assert model.training
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 20, 40)])
def test_patches_have_the_shape_and_vary(shape):
    """Patches come in the size and channels of the data, are not all alike, and always the same."""
    patches = photograph_patches(shape, 12)
    assert patches.shape == (12, *shape)
    assert patches.dtype == np.uint8
    assert len(np.unique(patches.reshape(12, -1), axis=0)) == 12
    assert np.array_equal(patches, photograph_patches(shape, 12))


def test_a_folder_of_ones_own(tmp_path, data):
    """Images of a folder are scaled and asked about; a broken one is left out; none is an error."""
    summary = {"image_shape": [1, 8, 8], "normalize": [list(data.mean), list(data.std)]}
    with pytest.raises(DataError, match="There is no folder"):
        probe_folder(Brightness(), summary, None, tmp_path / "nowhere")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(DataError, match="no image that can be read"):
        probe_folder(Brightness(), summary, None, tmp_path)
    for name, value in (("white", 255), ("black", 0)):
        Image.new("RGB", (30, 20), (value,) * 3).save(tmp_path / f"{name}.png")
    found = probe_folder(Brightness(), summary, None, tmp_path)
    assert found["n"] == 2
    assert found["share"] == [0.5, 0.5]
    assert str(Path(tmp_path)) in found["what"]
