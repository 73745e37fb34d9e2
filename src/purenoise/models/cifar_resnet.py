"""Residual networks for CIFAR: ResNet-20 to ResNet-1202, and ResNet-8 for quick tries.

Source: He et al. 2016, "Deep residual learning for image recognition", section 4.2: three stages
of n blocks with 16, 32 and 64 channels, depth 6n + 2, and shortcuts without parameters (option A:
every second pixel, new channels zero).

Differs: the pooling is adaptive, so that any image of 4 pixels a side or more works; the zero
channels of a shortcut lie on both sides of the old ones, as in the code of LDAM-DRW.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CosineLinear(nn.Module):
    """Classify by the cosine between features and one weight vector per class.

    There is no bias, and in training no scale: a loss that wants larger logits, such as LDAM, has
    its own. In evaluation the cosines are multiplied by ``scale``, so that their softmax is the
    distribution that such a loss has trained.

    Args:
        in_features: Length of a feature vector.
        out_features: Number of classes.

    Example:
        >>> CosineLinear(8, 3)(torch.ones(2, 8)).abs().max() <= 1
        tensor(True)

    Source: Cao et al. 2019 (LDAM), section 3.2. Differs: weight vectors start uniform on the
    unit sphere, not as a normalised point of a cube.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.scale = 1.0
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new directions for all classes."""
        with torch.no_grad():
            nn.init.normal_(self.weight)
            self.weight.copy_(F.normalize(self.weight, dim=1))

    def forward(self, features: Tensor) -> Tensor:
        """Return the cosines, scaled in evaluation.

        Args:
            features: Floating point, shape (..., in_features).

        Returns:
            Values in [-1, 1] (times ``scale`` in evaluation), shape (..., out_features).
        """
        cosines = F.linear(F.normalize(features, dim=-1), F.normalize(self.weight, dim=-1))
        return cosines if self.training else self.scale * cosines

    def extra_repr(self) -> str:
        """Return the sizes, for ``print(model)``."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


def make_head(in_features: int, num_classes: int, *, cosine: bool) -> nn.Module:
    """Return the last layer of a classifier.

    Args:
        in_features: Length of a feature vector.
        num_classes: Number of logits.
        cosine: A `CosineLinear` instead of an ordinary linear layer.

    Returns:
        A module from (..., in_features) to (..., num_classes).
    """
    if cosine:
        return CosineLinear(in_features, num_classes)
    return nn.Linear(in_features, num_classes)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut without parameters.

    Args:
        in_channels: Channels of the input.
        channels: Channels of the output, at least as many.
        stride: Step of the first convolution and of the shortcut.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.new_channels = channels - in_channels
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, channels, ceil(H / stride), ceil(W / stride))."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self._shortcut(x))

    def _shortcut(self, x: Tensor) -> Tensor:
        """Return the input in the shape of the output."""
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        if self.new_channels:
            before = self.new_channels // 2
            x = F.pad(x, (0, 0, 0, 0, before, self.new_channels - before))
        return x


class CifarResNet(nn.Module):
    """A residual network of depth 6n + 2 for small images.

    Args:
        depth: Number of layers with weights, 6n + 2.
        num_classes: Number of logits.
        in_channels: Channels of an image.
        cosine: Use a cosine head.

    Example:
        >>> CifarResNet(8, num_classes=5)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 5])
    """

    def __init__(
        self, depth: int, num_classes: int, *, in_channels: int = 3, cosine: bool = False
    ) -> None:
        super().__init__()
        n_blocks, rest = divmod(depth - 2, 6)
        assert rest == 0, depth
        assert n_blocks >= 1, depth
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, n_blocks, stride=1)
        self.layer2 = _stage(16, 32, n_blocks, stride=2)
        self.layer3 = _stage(32, 64, n_blocks, stride=2)
        self.fc = make_head(64, num_classes, cosine=cosine)
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits.

        Args:
            images: Floating point, shape (B, in_channels, H, W), H and W at least 4; B may be 0.

        Returns:
            Shape (B, num_classes).
        """
        x = F.relu(self.bn1(self.conv1(images)))  # (B, 16, H, W)
        x = self.layer3(self.layer2(self.layer1(x)))  # (B, 64, ceil(H / 4), ceil(W / 4))
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)  # (B, 64)
        return self.fc(x)


def _stage(in_channels: int, channels: int, n_blocks: int, stride: int) -> nn.Sequential:
    """Return blocks of which the first changes size and width."""
    first = BasicBlock(in_channels, channels, stride)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1) for _ in range(n_blocks - 1)))


def _initialise(module: nn.Module) -> None:
    """Draw the weights of convolutions and linear layers as He et al. 2015 do."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight)
