"""The operations of AutoAugment, RandAugment and TrivialAugment on a batch of uint8 images.

Every function is pure like those of `image_ops`: one explicit parameter per image, no random
numbers, no conversation between device and host. Inputs and outputs are uint8 of shape
(B, C, H, W), C is 1 or 3, and no input is changed; where there is nothing to do an operation may
return its input. With the same parameter an image comes out as from
``torchvision.transforms.v2.functional`` on a uint8 tensor, which the tests check bit by bit.

Source: Cubuk et al. 2019, *AutoAugment*, which took these operations from Pillow; geometry and
rounding are torchvision's.

Differs: torchvision applies one parameter to a whole batch. Factors of 1 + `change` are given by
the change, since that is what the policies draw and since 1 - factor would round it. Coordinates
are formed from the same products and sums as torchvision's, one after another, so that no device
fuses them; torchvision's matrix product may add in another order on other devices, and its tangent
of an arc tangent may be off by a last digit. Where a pixel lies halfway between two, such a digit
decides: in 0 of 77 million pixels, 76 sizes from 5 x 5 to 77 x 154 (torch 2.6 and 2.14, one x86
processor with AVX-512).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from purenoise.image_ops import luma, per_image

__all__ = [
    "autocontrast", "brightness", "contrast", "equalize", "invert", "posterize", "rotate",
    "saturation", "sharpness", "shear_x", "shear_y", "solarize", "translate_x", "translate_y",
]  # fmt: skip


def shear_x(images: Tensor, slope: Tensor) -> Tensor:
    """Move every row to the left in proportion to its distance from the upper border.

    Args:
        images: uint8, shape (B, C, H, W).
        slope: Pixels to the left per row, float32, shape (B,).

    Returns:
        uint8, shape (B, C, H, W); what comes in from outside is black.

    Source: Cubuk et al. 2019.
    """
    one, none = torch.ones_like(slope), torch.zeros_like(slope)
    return _warp(images, (one, slope, slope * (0.5 * images.shape[2])), (none, one, none))


def shear_y(images: Tensor, slope: Tensor) -> Tensor:
    """Move every column up in proportion to its distance from the left border.

    Args:
        images: uint8, shape (B, C, H, W).
        slope: Pixels up per column, float32, shape (B,).

    Returns:
        uint8, shape (B, C, H, W); what comes in from outside is black.

    Source: Cubuk et al. 2019.
    """
    one, none = torch.ones_like(slope), torch.zeros_like(slope)
    return _warp(images, (one, none, none), (slope, one, slope * (0.5 * images.shape[3])))


def translate_x(images: Tensor, pixels: Tensor) -> Tensor:
    """Move images to the right.

    Args:
        images: uint8, shape (B, C, H, W).
        pixels: How far; whole numbers as float32, negative to the left, shape (B,).

    Returns:
        uint8, shape (B, C, H, W); what comes in from outside is black.

    Source: Cubuk et al. 2019.
    """
    one, none = torch.ones_like(pixels), torch.zeros_like(pixels)
    return _warp(images, (one, none, -pixels), (none, one, none))


def translate_y(images: Tensor, pixels: Tensor) -> Tensor:
    """Move images down.

    Args:
        images: uint8, shape (B, C, H, W).
        pixels: How far; whole numbers as float32, negative up, shape (B,).

    Returns:
        uint8, shape (B, C, H, W); what comes in from outside is black.

    Source: Cubuk et al. 2019.
    """
    one, none = torch.ones_like(pixels), torch.zeros_like(pixels)
    return _warp(images, (one, none, none), (none, one, -pixels))


def rotate(images: Tensor, angle: Tensor) -> Tensor:
    """Turn images counterclockwise around their centre.

    Args:
        images: uint8, shape (B, C, H, W).
        angle: Degrees, float32, shape (B,).

    Returns:
        uint8, shape (B, C, H, W); what comes in from outside is black.

    Source: Cubuk et al. 2019.
    """
    # In float32, sines would be off by a last digit; MPS has nothing wider.
    wide = torch.float32 if images.device.type == "mps" else torch.float64
    radians = torch.deg2rad(angle.to(wide))
    cos, sin = radians.cos().float(), radians.sin().float()
    none = torch.zeros_like(cos)
    return _warp(images, (cos, -sin, none), (sin, cos, none))


def _warp(images: Tensor, to_x: tuple[Tensor, ...], to_y: tuple[Tensor, ...]) -> Tensor:
    """Fetch each pixel from where x' = a x + b y + c, and y' likewise; pixels from the centre."""
    height, width = images.shape[2:]
    x = torch.arange(width, device=images.device) - 0.5 * (width - 1)
    y = (torch.arange(height, device=images.device) - 0.5 * (height - 1))[:, None]
    axes = []
    for parts, size in ((to_x, width), (to_y, height)):
        # Divided before the sum, and summed in this order without fused operations: bit for bit.
        a, b, c = (part.div(0.5 * size)[:, None, None] for part in parts)  # (B, 1, 1)
        axes.append(x * a + y * b + c)  # (B, H, W), -1 and 1 at the borders
    return F.grid_sample(
        images.float(), torch.stack(axes, dim=3), mode="nearest", align_corners=False
    ).to(torch.uint8)


def brightness(images: Tensor, change: Tensor) -> Tensor:
    """Multiply images by 1 + `change`.

    Args:
        images: uint8, shape (B, C, H, W).
        change: At least -1, float32, shape (B,); 0 leaves an image as it is.

    Returns:
        uint8, shape (B, C, H, W); fractions are cut off.

    Source: Cubuk et al. 2019.
    """
    return (images * per_image(1 + change)).clamp_(0, 255).to(torch.uint8)


def saturation(images: Tensor, change: Tensor) -> Tensor:
    """Move pixels away from, or towards, their own grey; images without colour stay as they are.

    Args:
        images: uint8, shape (B, C, H, W), C is 1 or 3.
        change: At least -1 (grey), float32, shape (B,); 0 leaves an image as it is.

    Returns:
        uint8, shape (B, C, H, W); fractions are cut off.

    Source: Cubuk et al. 2019, where it is called Color.
    """
    return images if images.shape[1] == 1 else _blend(images, luma(images).floor_(), change)


def contrast(images: Tensor, change: Tensor) -> Tensor:
    """Move pixels away from, or towards, the mean grey of their image.

    Args:
        images: uint8, shape (B, C, H, W), C is 1 or 3.
        change: At least -1 (mean grey), float32, shape (B,); 0 leaves an image as it is.

    Returns:
        uint8, shape (B, C, H, W); fractions are cut off.

    Source: Cubuk et al. 2019.
    """
    grey = images.float() if images.shape[1] == 1 else luma(images).floor_()
    return _blend(images, grey.mean((1, 2, 3), keepdim=True), change)


def _blend(images: Tensor, other: Tensor, change: Tensor) -> Tensor:
    """Return (1 + change) images - change other, clipped and cut to whole numbers."""
    mixed = (images * per_image(1 + change)).addcmul_(other, per_image(-change))
    return mixed.clamp_(0, 255).to(torch.uint8)


def sharpness(images: Tensor, change: Tensor) -> Tensor:
    """Move pixels away from, or towards, the weighted mean of their 3 x 3 neighbourhood.

    Args:
        images: uint8, shape (B, C, H, W). Pixels at the border stay as they are, and so does an
            image less than 3 pixels high or wide.
        change: At least -1 (smooth), float32, shape (B,); 0 leaves an image as it is.

    Returns:
        uint8, shape (B, C, H, W); fractions are cut off.

    Source: Cubuk et al. 2019; Pillow's SMOOTH filter, with 5 of 13 parts at the centre.
    """
    whole = images.float()
    middle = whole[..., 1:-1, 1:-1]
    across = whole[..., :-2] + whole[..., 1:-1] + whole[..., 2:]
    nine = across[..., :-2, :] + across[..., 1:-1, :] + across[..., 2:, :]  # (B, C, H - 2, W - 2)
    smooth = nine.add_(middle, alpha=4).div_(13).round_()  # sums of whole numbers are exact
    mixed = middle.addcmul(smooth.sub_(middle), per_image(-change)).clamp_(0, 255)
    out = images.clone()
    out[..., 1:-1, 1:-1] = mixed.to(torch.uint8)
    return out


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep the highest bits of each value and clear the others.

    Args:
        images: uint8, shape (B, C, H, W).
        bits: How many bits to keep; whole numbers in [0, 8] of any dtype, shape (B,).

    Returns:
        uint8, shape (B, C, H, W).

    Source: Cubuk et al. 2019.
    """
    all_masks = 256 - 2 ** torch.arange(8, -1, -1, device=images.device)  # for 0, ..., 8 bits
    mask = all_masks.index_select(0, bits.to(torch.int64)).to(torch.uint8)
    return images & per_image(mask)


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert the values from a threshold upwards.

    Args:
        images: uint8, shape (B, C, H, W).
        threshold: In [0, 255], float32, shape (B,).

    Returns:
        uint8, shape (B, C, H, W).

    Source: Cubuk et al. 2019.
    """
    return torch.where(images >= per_image(threshold), invert(images), images)


def autocontrast(images: Tensor) -> Tensor:
    """Stretch each channel so that its darkest value becomes 0 and its brightest 255.

    Args:
        images: uint8, shape (B, C, H, W). A channel of one value stays as it is.

    Returns:
        uint8, shape (B, C, H, W); fractions are cut off.

    Source: Cubuk et al. 2019.
    """
    low, high = (end.float() for end in (images.amin((2, 3), True), images.amax((2, 3), True)))
    flat = low == high  # (B, C, 1, 1)
    scale = (high - low).mul_(1 / 255).masked_fill_(flat, 1)
    stretched = (images - low.masked_fill(flat, 0)).div_(scale)
    return stretched.clamp_(0, 255).to(torch.uint8)


def equalize(images: Tensor) -> Tensor:
    """Change the values of each channel so that they are spread evenly over 0 to 255.

    Args:
        images: uint8, shape (B, C, H, W). A channel stays as it is where fewer than 255 pixels are
            below its brightest value.

    Returns:
        uint8, shape (B, C, H, W).

    Source: Cubuk et al. 2019; the whole numbers are those of Pillow.
    """
    values = images.flatten(2).to(torch.int64)  # (B, C, H W)
    counts = values.new_zeros((*values.shape[:2], 256))
    counts.scatter_add_(2, values, values.new_ones(1).expand_as(values))
    up_to = counts.cumsum(2)  # (B, C, 256); pixels of this value or less
    # Pixels below the brightest value are the largest sum that is not yet the sum of all.
    below = up_to.masked_fill(up_to == values.shape[2], 0).amax(2, keepdim=True)
    step = below.div(255, rounding_mode="floor")  # pixels per new value
    start = up_to - counts + step.div(2, rounding_mode="floor")
    new = start.div(step.clamp_min(1), rounding_mode="floor").clamp_(max=255)
    spread = new.gather(2, values).to(torch.uint8).view_as(images)
    return torch.where((step == 0)[..., None], images, spread)


def invert(images: Tensor) -> Tensor:
    """Turn dark into bright: each value becomes 255 minus itself.

    Args:
        images: uint8, shape (B, C, H, W).

    Returns:
        uint8, shape (B, C, H, W).

    Source: Cubuk et al. 2019.
    """
    return images.bitwise_not()
