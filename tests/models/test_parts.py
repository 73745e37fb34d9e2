"""Head and last block of networks that were built in very different ways."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from purenoise.models import build_model
from purenoise.models.parts import head_names, last_block


@pytest.mark.parametrize(
    ("name", "heads", "first"),
    [
        ("resnet8", ["fc"], "layer3.0.conv1"),
        ("wide_resnet10_1", ["fc"], "layer3.0.bn1"),
        ("torchvision:resnet18", ["fc"], "layer4.1.conv1"),
        ("torchvision:mobilenet_v3_small", ["classifier.3"], "features.11.block.0.0"),
        ("torchvision:squeezenet1_1", ["classifier.1"], "features.12.squeeze"),
        ("torchvision:densenet121", ["classifier"], "features.denseblock4.denselayer16.norm1"),
        ("torchvision:vgg11_bn", ["classifier.6"], "classifier.3"),
        ("torchvision:vit_b_16", ["heads.head"], "encoder.layers.encoder_layer_11.ln_1"),
        ("torchvision:convnext_tiny", ["classifier.2"], "features.7.2"),
        ("timm:vit_tiny_patch16_224", ["head"], "blocks.11.norm1"),
        ("timm:convnext_atto", ["head.fc"], "stages.3.blocks.1"),
        ("timm:deit_tiny_distilled_patch16_224", ["head", "head_dist"], "blocks.11.norm1"),
        ("timm:test_efficientnet", ["classifier"], "blocks.4.0.conv_pw"),
    ],
)
def test_head_and_last_block(name: str, heads: list[str], first: str) -> None:
    """The head is what gives the logits; the last block begins with its first layer."""
    with torch.device("meta"):
        model = build_model(name, 10)
    assert head_names(model) == heads
    block = last_block(model)
    assert block[0] == first
    assert not set(block) & set(heads)


def test_what_is_defined_after_the_block_belongs_to_it() -> None:
    """A last norm and a last convolution between block and head learn with the block."""
    with torch.device("meta"):
        model = build_model("timm:test_efficientnet", 10)
    assert {"conv_head", "bn2"} <= set(last_block(model))


@pytest.mark.parametrize("depth", [0, 1])
def test_a_network_of_hardly_any_layers(depth: int) -> None:
    """One layer is a head and leaves no block; of two, the first is the block."""
    net = nn.Sequential(*[nn.Linear(4, 4) for _ in range(depth)], nn.Linear(4, 2))
    assert head_names(net) == [str(depth)]
    assert last_block(net) == [str(i) for i in range(depth)]
