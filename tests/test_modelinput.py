"""What a recipe takes from weights, what it says about it, and images that do not fit."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from purenoise.errors import ModelError
from purenoise.modelinput import check_input, fit_recipe, input_note
from purenoise.models import build_model
from purenoise.prepare import placed, prepare
from purenoise.recipe import load_recipe


def data_of(*changes: str) -> object:
    """Return the data section of the digits recipe as a run sees it."""
    return placed(load_recipe("digits", list(changes))).data


PRETRAINED = ("model=timm:test_vit", "model.pretrained=true")


def test_nothing_is_taken_without_weights() -> None:
    """A recipe that begins with random weights is left as it is, whatever its model."""
    for name in ("resnet8", "timm:test_vit", "torchvision:resnet18"):
        recipe = load_recipe("digits", [f"model={name}"])
        assert fit_recipe(recipe) is recipe
        assert input_note(recipe, (1, 8, 8)) == []


def test_open_keys_are_taken_from_published_weights() -> None:
    """Size, channels and constants come from the library; what is set is kept."""
    data = data_of(*PRETRAINED)
    assert (data.image_size, data.channels) == (160, 3)
    assert (data.normalize.mean, data.normalize.std) == ([0.5] * 3, [0.5] * 3)
    own = data_of(*PRETRAINED, "image_size=32", "normalize=data", "channels=1")
    assert (own.image_size, own.channels, own.normalize) == (32, 1, "data")
    grey = data_of("model=timm:resnet18", "model.pretrained=true", "channels=1")
    assert grey.normalize.mean == [pytest.approx((0.485 + 0.456 + 0.406) / 3)]
    assert data_of(*PRETRAINED, "image_size=auto").image_size == 160


def test_taking_twice_is_taking_once() -> None:
    """A run's recipe, read again, is the recipe that was run."""
    once = placed(load_recipe("digits", list(PRETRAINED)))
    assert placed(once) == once
    assert once.digest() != load_recipe("digits", list(PRETRAINED)).digest()


def test_noise_is_drawn_from_the_data_and_normalised_with_the_models_constants() -> None:
    """Statistics of noise stay those of the training images in [0, 1]."""
    section = data_of(*PRETRAINED, "image_size=8")
    found, plain = prepare(section), prepare(load_recipe("digits").data)
    assert found.mean == (0.5, 0.5, 0.5)
    assert found.noise_mean == pytest.approx([plain.noise_mean[0]] * 3)
    assert found.noise_std == pytest.approx([plain.noise_std[0]] * 3)


def test_the_note_says_what_was_taken_and_what_was_not() -> None:
    """Size and constants are each told apart."""
    recipe = placed(load_recipe("digits", list(PRETRAINED)))
    (note,) = input_note(recipe, (3, 160, 160))
    assert note == (
        "Input of the published weights of timm:test_vit: size 160 x 160, used here; constants "
        "mean 0.5/0.5/0.5, std 0.5/0.5/0.5, used here."
    )
    other = placed(load_recipe("digits", [*PRETRAINED, "image_size=32", "normalize=data"]))
    (note,) = input_note(other, (3, 32, 32))
    assert note.count("but the recipe has its own") == 2


def test_a_file_beside_a_run_brings_the_runs_input(tmp_path: Path) -> None:
    """Own weights come with what their images were; other files with what the library says."""
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"")
    given = ("model=timm:test_vit", f"model.weights={tmp_path}")
    assert data_of(*given).image_size == 160
    summary = {"image_shape": [1, 24, 20], "normalize": [[0.25], [0.5]]}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    for name in ("timm:test_vit", "resnet8"):
        data = data_of(f"model={name}", f"model.weights={weights}")
        assert (data.image_size, data.channels) == ((24, 20), 1)
        assert data.normalize.mean == [0.25]


def test_a_path_of_weights_becomes_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run says where its weights were, wherever it is looked at from."""
    monkeypatch.chdir(tmp_path)
    recipe = placed(load_recipe("digits", ["model.weights=a.pth"]))
    assert recipe.model.weights == os.path.abspath(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("name", "shape", "reason"),
    [
        ("timm:test_vit", (3, 20, 20), "It was made for images of 160 x 160: set data.image_size"),
        ("timm:vit_tiny_patch16_224", (3, 64, 64), "Input height (64) doesn't match model (224)"),
        ("timm:test_resnet", (1, 32, 32), "cannot take images of 1 x 32 x 32"),
        ("torchvision:squeezenet1_1", (3, 8, 8), "cannot take images of 3 x 8 x 8"),
    ],
)
def test_images_that_do_not_fit_get_a_sentence(
    name: str, shape: tuple[int, int, int], reason: str
) -> None:
    """A size that is fixed, too small, or of other channels is refused before training."""
    model = build_model(name, 5)
    with pytest.raises(ModelError) as caught:
        check_input(model, name, shape, 5)
    assert f"{name} cannot take images of" in str(caught.value)
    assert reason in str(caught.value)
    assert all(m.training for m in model.modules())


def test_what_is_no_classifier_gets_a_sentence() -> None:
    """Logits must be one row per image and one value per class; a fitting model is left alone."""
    net = nn.Sequential(nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5))
    with pytest.raises(ModelError, match=r"an output of shape \(2, 5, 4, 4\) for 2 images of 3 x"):
        check_input(net, "timm:x", (3, 4, 4), 5)
    good = build_model("timm:test_resnet", 5)
    before = {k: v.clone() for k, v in good.state_dict().items()}
    check_input(good, "timm:test_resnet", (3, 32, 32), 5)
    assert all(torch.equal(v, before[k]) for k, v in good.state_dict().items())
