"""Wide residual networks, WRN-depth-width.

Source: Zagoruyko & Komodakis 2016, "Wide residual networks": blocks of batch norm, ReLU,
convolution (twice), three stages of (depth - 4) / 6 blocks with 16, 32 and 64 times `width`
channels, and a batch norm after the last block. OPeN is trained on WRN-28-10 with dropout 0.3.

Differs: dropout stands right after the first convolution, as in most PyTorch versions; the paper
says "between the convolutions", and its Lua code puts it after the second batch norm and ReLU. The
pooling is adaptive, so that any image of 4 pixels a side or more works.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from purenoise.models.cifar_resnet import make_head


class WideBlock(nn.Module):
    """Two pre-activated 3 x 3 convolutions beside a shortcut.

    Args:
        in_channels: Channels of the input.
        channels: Channels of the output.
        stride: Step of the first convolution and of the shortcut.
        dropout: Probability with which a value between the convolutions becomes 0.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.shortcut: nn.Conv2d | None = None
        if stride > 1 or in_channels != channels:
            self.shortcut = nn.Conv2d(in_channels, channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, channels, ceil(H / stride), ceil(W / stride))."""
        active = F.relu(self.bn1(x))
        # A projection sees the activated input, an identity the input as it came.
        skipped = x if self.shortcut is None else self.shortcut(active)
        out = self.dropout(self.conv1(active))
        return skipped + self.conv2(F.relu(self.bn2(out)))


class WideResNet(nn.Module):
    """A wide residual network.

    Args:
        depth: Number of layers with weights, 6n + 4.
        width: Factor by which the stages are wider than 16, 32 and 64 channels.
        num_classes: Number of logits.
        in_channels: Channels of an image.
        dropout: Probability of dropout inside each block.
        cosine: Use a cosine head.

    Example:
        >>> import torch
        >>> WideResNet(10, 1, num_classes=5)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 5])
    """

    def __init__(
        self,
        depth: int,
        width: int,
        num_classes: int,
        *,
        in_channels: int = 3,
        dropout: float = 0.0,
        cosine: bool = False,
    ) -> None:
        super().__init__()
        n_blocks, rest = divmod(depth - 4, 6)
        assert rest == 0, depth
        assert n_blocks >= 1, depth
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.layer1 = _stage(16, 16 * width, n_blocks, 1, dropout)
        self.layer2 = _stage(16 * width, 32 * width, n_blocks, 2, dropout)
        self.layer3 = _stage(32 * width, 64 * width, n_blocks, 2, dropout)
        self.bn = nn.BatchNorm2d(64 * width)
        self.fc = make_head(64 * width, num_classes, cosine=cosine)
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits.

        Args:
            images: Floating point, shape (B, in_channels, H, W), H and W at least 4; B may be 0.

        Returns:
            Shape (B, num_classes).
        """
        x = self.conv1(images)  # (B, 16, H, W)
        x = self.layer3(self.layer2(self.layer1(x)))  # (B, 64 width, ceil(H / 4), ceil(W / 4))
        x = F.relu(self.bn(x))
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)  # (B, 64 width)
        return self.fc(x)


def _stage(
    in_channels: int, channels: int, n_blocks: int, stride: int, dropout: float
) -> nn.Sequential:
    """Return blocks of which the first changes size and width."""
    first = WideBlock(in_channels, channels, stride, dropout)
    others = (WideBlock(channels, channels, 1, dropout) for _ in range(n_blocks - 1))
    return nn.Sequential(first, *others)


def _initialise(module: nn.Module) -> None:
    """Draw convolutions by their fan-out and set the bias of linear layers to 0."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
