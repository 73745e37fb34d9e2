"""A small convolutional network for tiny images, such as 8 x 8 digits.

Three blocks of convolution, batch norm and ReLU, about 57,000 parameters: a network that learns the
embedded digits within seconds on a CPU and still has batch norm layers for DAR-BN to work on. It
follows no paper.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from purenoise.models.cifar_resnet import make_head

WIDTHS = (32, 64, 64)


class SmallCNN(nn.Module):
    """A network of three convolutions.

    Args:
        num_classes: Number of logits.
        in_channels: Channels of an image.
        cosine: Use a cosine head.

    Example:
        >>> import torch
        >>> SmallCNN(10, in_channels=1)(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """

    def __init__(self, num_classes: int, *, in_channels: int = 3, cosine: bool = False) -> None:
        super().__init__()
        first, second, third = WIDTHS
        self.conv1 = nn.Conv2d(in_channels, first, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        self.conv2 = nn.Conv2d(first, second, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(second)
        self.conv3 = nn.Conv2d(second, third, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(third)
        self.fc = make_head(third, num_classes, cosine=cosine)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits.

        Args:
            images: Floating point, shape (B, in_channels, H, W), H and W at least 4; B may be 0.

        Returns:
            Shape (B, num_classes).
        """
        x = F.relu(self.bn1(self.conv1(images)))  # (B, 32, H, W)
        x = F.max_pool2d(x, 2)  # (B, 32, H // 2, W // 2)
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.max_pool2d(x, 2)  # (B, 64, H // 4, W // 4)
        x = F.relu(self.bn3(self.conv3(x)))
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)  # (B, 64)
        return self.fc(x)
