"""Models by name: what is built, what is refused, and with which sentence."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from purenoise.errors import ModelError
from purenoise.models import CosineLinear, WideResNet, build_model, model_names


@pytest.mark.parametrize("name", model_names())
def test_all_names_can_be_built(name: str) -> None:
    """Every name that is listed is a model with the head asked for."""
    with torch.device("meta"):
        model = build_model(name, 7, in_channels=1)
    assert model.fc.out_features == 7
    assert model.conv1.in_channels == 1


def test_any_wide_resnet_can_be_built() -> None:
    """Depths of 6n + 4 and all widths are names, though not listed."""
    model = build_model("wide_resnet10_3", 7, dropout=0.25)
    assert isinstance(model, WideResNet)
    assert model.fc.in_features == 3 * 64
    assert model.layer1[0].dropout.p == 0.25


@pytest.mark.parametrize("name", ["resnet8", "small_cnn", "wide_resnet10_1"])
def test_cosine_head_is_bounded(name: str) -> None:
    """A cosine head gives logits of at most 1, and they reach beyond 0 both ways."""
    logits = build_model(name, 20, cosine=True)(100 * torch.rand(16, 3, 12, 12))
    assert logits.abs().max() <= 1 + 1e-6
    assert logits.min() < 0 < logits.max()


@pytest.mark.parametrize("name", ["resnet8", "small_cnn", "wide_resnet10_1", "timm:resnet10t"])
def test_a_seed_fixes_the_weights(name: str) -> None:
    """The same seed gives the same weights, another seed others; the global one stands still."""
    before = torch.get_rng_state()
    a, b, c = (build_model(name, 5, generator_seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert not all(torch.equal(p, q) for p, q in zip(a.parameters(), c.parameters(), strict=True))


def test_without_a_seed_the_global_generator_is_used() -> None:
    """Two models in a row differ, and torch.manual_seed repeats them."""
    torch.manual_seed(3)
    a, b = build_model("resnet8", 5), build_model("resnet8", 5)
    torch.manual_seed(3)
    c = build_model("resnet8", 5)
    assert torch.equal(a.fc.weight, c.fc.weight)
    assert not torch.equal(a.fc.weight, b.fc.weight)


def test_a_failed_build_puts_the_generator_back() -> None:
    """An error inside the seeded part leaves the global generator as it was."""
    before = torch.get_rng_state()
    with pytest.raises(ModelError):
        build_model("torchvision:squeezenet1_1", 5, cosine=True, generator_seed=1)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnt32", {}, "There is no model 'resnt32'.\nDid you mean 'resnet32'?"),
        ("ResNet32", {}, "Did you mean 'resnet32'?"),
        ("wide_resnet28", {}, "Did you mean 'wide_resnet28_10'?"),
        ("wide_resnet50_2", {}, "has depth 50; a wide ResNet has depth 6n + 4"),
        ("wide_resnet4_2", {}, "has depth 4; a wide ResNet has depth 6n + 4"),
        ("quux", {}, "Known: small_cnn, resnet8,"),
        ("quux", {}, "written torchvision:NAME or timm:NAME"),
        ("torchvision:", {}, "There is no model 'torchvision:'"),
        ("timm", {}, "There is no model 'timm'"),
        ("resnet32", {"pretrained": True}, "There are no published weights for resnet32"),
        ("wide_resnet28_10", {"pretrained": True}, "There are no published weights"),
        ("resnet32", {"dropout": 0.3}, "resnet32 has no dropout, but dropout is 0.3"),
        ("small_cnn", {"dropout": 0.3}, "small_cnn has no dropout"),
        ("wide_resnet10_1", {"dropout": 1.0}, "dropout is 1.0; it must be"),
        ("wide_resnet10_1", {"dropout": -0.1}, "dropout is -0.1; it must be"),
        ("resnet8", {"num_classes": 0}, "0 classes and 3 image channels; both must be"),
        ("resnet8", {"in_channels": 0}, "5 classes and 0 image channels; both must be"),
        ("torchvision:resnet19", {}, "torchvision has no classifier 'resnet19'.\nDid you mean"),
        ("torchvision:fcn_resnet50", {}, "torchvision has no classifier"),
        ("torchvision:resnet18", {"in_channels": 1}, "takes images of 3 channels"),
        (
            "torchvision:resnet18",
            {"in_channels": 1},
            "Set data.channels=3, or choose a model of timm",
        ),
        ("torchvision:resnet18", {"dropout": 0.3}, "torchvision:resnet18 has no dropout"),
        ("torchvision:squeezenet1_1", {"cosine": True}, "does not end in one linear layer"),
        ("timm:resnet18.foo", {}, "timm:resnet18 has no weights called 'foo'.\nDid you mean"),
        ("timm:halonet_h1", {"pretrained": True}, "no published weights for timm:halonet_h1."),
        ("timm:resnet18x", {}, "timm has no model 'resnet18x'.\nDid you mean 'resnet18'?"),
        ("timm:quux", {}, "timm.list_models() lists them"),
    ],
)
def test_what_cannot_be_built_gets_a_sentence(name: str, options: dict, message: str) -> None:
    """Unknown names and impossible wishes say what is wrong and what to do."""
    with pytest.raises(ModelError) as caught:
        build_model(name, **{"num_classes": 5, **options})
    assert message in str(caught.value)


def test_torchvision_model() -> None:
    """A torchvision network has the head asked for, and runs."""
    model = build_model("torchvision:mobilenet_v3_small", 7, dropout=0.4)
    assert next(m.p for m in model.modules() if isinstance(m, nn.Dropout)) == 0.4
    assert model.eval()(torch.rand(1, 3, 32, 32)).shape == (1, 7)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_side_heads_of_torchvision_are_left_out(name: str) -> None:
    """Networks with several outputs while they train have one here."""
    with torch.device("meta"):
        model = build_model(f"torchvision:{name}", 7, generator_seed=0).train()
        assert model(torch.rand(2, 3, 96, 96)).shape == (2, 7)


def test_torchvision_cosine_head() -> None:
    """The last linear layer is replaced, and only that."""
    model = build_model("torchvision:mobilenet_v3_small", 7, cosine=True).eval()
    assert isinstance(model.classifier[3], CosineLinear)
    assert isinstance(model.classifier[0], nn.Linear)
    assert model(torch.rand(2, 3, 32, 32)).abs().max() <= 1 + 1e-6


def test_timm_model() -> None:
    """A timm network takes grey images, and has the head and dropout asked for."""
    model = build_model("timm:resnet10t", 7, in_channels=1, dropout=0.4)
    assert model.drop_rate == 0.4
    assert model.eval()(torch.rand(1, 1, 32, 32)).shape == (1, 7)


def test_timm_cosine_head() -> None:
    """The classifier of timm is replaced, also where other linear layers come first."""
    model = build_model("timm:vit_tiny_patch16_224", 7, cosine=True).eval()
    assert isinstance(model.head, CosineLinear)
    assert isinstance(model.blocks[0].mlp.fc2, nn.Linear)
    with pytest.raises(ModelError, match="does not end in one linear layer"):
        build_model("timm:deit_tiny_distilled_patch16_224", 7, cosine=True)


def test_timm_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without timm, the sentence says what to install."""
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModelError, match=r'pip install "purenoise\[timm\]"'):
        build_model("timm:resnet18", 5)


def test_pretrained_torchvision_model_gets_a_new_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """Published weights stay below a new head; downloads are replaced by what is made here."""
    from torchvision import models
    from torchvision.models._api import WeightsEnum

    published = models.mobilenet_v3_small().state_dict()
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda self, **_: published)
    model = build_model("torchvision:mobilenet_v3_small", 7, pretrained=True)
    assert model.classifier[3].out_features == 7
    assert torch.equal(model.classifier[0].weight, published["classifier.0.weight"])
    cosine = build_model("torchvision:mobilenet_v3_small", 7, pretrained=True, cosine=True)
    assert isinstance(cosine.classifier[3], CosineLinear)


@pytest.mark.parametrize("error", [OSError("no route to host"), RuntimeError("")])
def test_pretrained_without_a_connection(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """A failed download is a sentence, for torchvision and for timm."""
    import timm
    from torchvision.models._api import WeightsEnum

    def fail(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(WeightsEnum, "get_state_dict", fail)
    monkeypatch.setattr(timm, "create_model", fail)
    for name in ("torchvision:mobilenet_v3_small", "timm:resnet18"):
        with pytest.raises(ModelError) as caught:
            build_model(name, 5, pretrained=True)
        assert f"weights of {name} could not be loaded: " in str(caught.value)
        assert (str(error) or "RuntimeError") in str(caught.value)
        assert "leave pretrained out" in caught.value.hint


def test_faults_of_a_library_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a download there is no excuse: an error inside timm stays what it is."""
    import timm

    def fail(*args: object, **options: object) -> None:
        raise RuntimeError("a fault of its own")

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(RuntimeError, match="a fault of its own"):
        build_model("timm:resnet18", 5)


def test_importing_models_imports_no_model_zoo() -> None:
    """`purenoise.models` needs torch, but neither torchvision nor timm."""
    code = "import sys, purenoise.models as m; m.build_model('resnet8', 2); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "torch" in loaded
    assert not {"torchvision", "timm"} & loaded
