"""Published weights, in the caches of torchvision and timm: the libraries' own way, no download."""

from __future__ import annotations

import math
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.models.published import environment, publish

from purenoise.errors import ModelError
from purenoise.models import CosineLinear, build_model
from purenoise.models.inputs import published_input
from purenoise.models.libraries import torchvision_weights
from purenoise.models.parts import head_names

SMALL = ["torchvision:squeezenet1_1", "torchvision:shufflenet_v2_x0_5", "timm:test_resnet"]
FAMILIES = [
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3",
    "maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_y_400mf", "resnet18",
    "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t", "swin_v2_t", "vgg11_bn", "vit_b_16",
]  # fmt: skip


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder in which both libraries look for weights; there is no network."""
    from huggingface_hub import constants

    for key, value in environment(tmp_path).items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def no_network(*args: Any, **options: Any) -> Any:
        raise OSError("there is no network here")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    return tmp_path


def check_taken(name: str, published: dict[str, torch.Tensor], n_classes: int = 5) -> None:
    """Build a pretrained model: everything but the head is what was published."""
    model = build_model(name, n_classes, pretrained=True, generator_seed=0)
    heads = tuple(f"{head}." for head in head_names(model))
    state = model.state_dict()
    assert {k for k in state if k.startswith(heads)}
    for key, value in state.items():
        if key.startswith(heads):
            assert value.shape[0] == n_classes
        else:
            assert torch.equal(value, published[key]), key
    again = build_model(name, n_classes, pretrained=True, generator_seed=0)
    assert all(torch.equal(state[k], v) for k, v in again.state_dict().items())


@pytest.mark.parametrize("name", SMALL)
def test_weights_of_the_cache_are_taken(cache: Path, name: str) -> None:
    """The libraries find what lies in their caches; the head is ours, drawn from the seed."""
    check_taken(name, publish(name, cache))
    model = build_model(name, 5, pretrained=True).eval()
    assert model(torch.rand(2, 3, 64, 64)).shape == (2, 5)


@pytest.mark.long
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_of_torchvision_gets_a_head(cache: Path, name: str) -> None:
    """The smallest model of every family starts from published weights with a head for us."""
    check_taken(f"torchvision:{name}", publish(f"torchvision:{name}", cache))


def test_families_are_all_of_torchvision() -> None:
    """No family of classifiers is left out of the long test."""
    from torchvision import models

    def family(name: str) -> str:
        return models.get_model_builder(name).__module__

    assert {family(n) for n in models.list_models(module=models)} == set(map(family, FAMILIES))


@pytest.mark.parametrize("name", ["torchvision:shufflenet_v2_x0_5", "timm:test_resnet"])
def test_a_cosine_head_on_published_weights(cache: Path, name: str) -> None:
    """LDAM's classifier takes the place of the published head."""
    publish(name, cache)
    model = build_model(name, 5, pretrained=True, cosine=True)
    (head,) = head_names(model)
    assert isinstance(model.get_submodule(head), CosineLinear)


@pytest.mark.parametrize("name", SMALL)
def test_what_is_not_in_the_cache_is_named(cache: Path, name: str) -> None:
    """Without network and cache: one sentence with the file or folder, and what to do."""
    with pytest.raises(ModelError) as caught:
        build_model(name, 5, pretrained=True)
    text = str(caught.value)
    assert f"The published weights of {name} could not be loaded: they are not in the cache" in text
    assert f"({cache}{os.sep}" in text
    assert "squeezenet1_1-" in text or "shufflenetv2_x0.5-" in text or "timm--test_resnet" in text
    assert "model.weights=FILE" in text
    assert "leave pretrained out" in text


def test_a_cached_file_that_would_run_code_is_not_read(cache: Path) -> None:
    """Torchvision would unpickle it; here it is a sentence, and nothing is run."""
    name = "squeezenet1_1"
    publish(f"torchvision:{name}", cache)
    (file,) = (cache / "torch" / "hub" / "checkpoints").iterdir()
    torch.save({"x": math.sqrt, "y": Path("x")}, file)
    with pytest.raises(ModelError, match="is damaged, or would run code") as caught:
        build_model(f"torchvision:{name}", 5, pretrained=True)
    assert str(file) in str(caught.value)
    file.write_bytes(b"half a fi")
    with pytest.raises(ModelError, match="is damaged"):
        build_model(f"torchvision:{name}", 5, pretrained=True)


@pytest.mark.parametrize(
    ("name", "shape", "mean"),
    [
        ("torchvision:resnet18", (3, 224, 224), 0.485),
        ("torchvision:inception_v3", (3, 299, 299), 0.485),
        ("timm:test_vit", (3, 160, 160), 0.5),
        ("timm:resnet18", (3, 224, 224), 0.485),
    ],
)
def test_published_input(name: str, shape: tuple[int, int, int], mean: float) -> None:
    """Size and constants are those that the library publishes with the weights."""
    found = published_input(name)
    assert found is not None
    assert (found.shape, found.mean[0], len(found.std)) == (shape, mean, 3)
    assert published_input("resnet32") is None


def test_every_classifier_of_torchvision_has_an_input() -> None:
    """All published weights say size and constants in the form that is read here."""
    from torchvision import models

    for name in models.list_models(module=models):
        found = published_input(f"torchvision:{name}")
        assert found is not None
        assert 32 <= found.shape[1] <= 1000
        assert torchvision_weights(name).url
