"""Image operations on a batch, each image with its own parameter.

Every function is pure: explicit parameters of shape (B,), one per image, no random numbers, no
conversation between device and host. With the same parameter an image comes out as from
``torchvision.transforms.v2.functional`` on a float tensor (to about 1e-6), which the tests check.

Differs: torchvision applies one parameter to a whole batch. Hue is shifted without going through
HSV images: value and chroma of a pixel stay, so that only the position of each channel between
smallest and largest value moves.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

LUMA = (0.2989, 0.587, 0.114)  # ITU-R 601-2, with the digits that torchvision and Pillow use


def hflip(images: Tensor, rows: Tensor) -> Tensor:
    """Mirror some images left to right.

    Args:
        images: Shape (B, C, H, W), any dtype.
        rows: Which images, int64, shape (n,), no row twice.

    Returns:
        New tensor of the shape and dtype of `images`.
    """
    return images.index_copy(0, rows, images.index_select(0, rows).flip(-1))


def crop(images: Tensor, pad: tuple[int, int], top: Tensor, left: Tensor) -> Tensor:
    """Surround images with zeros and cut a window of the old size out of each.

    Args:
        images: Shape (B, C, H, W), any dtype.
        pad: Zeros above and below, zeros left and right.
        top: First row of the window in the padded image, int64 in [0, 2 pad[0]], shape (B,).
        left: First column, int64 in [0, 2 pad[1]], shape (B,).

    Returns:
        New tensor of the shape and dtype of `images`.
    """
    n_images, _, height, width = images.shape
    padded = F.pad(images, (pad[1], pad[1], pad[0], pad[0]))
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # (B, C, tops, lefts, H, W), a view
    return windows[torch.arange(n_images, device=images.device), :, top, left]


def cutout(images: Tensor, side: int, centre_y: Tensor, centre_x: Tensor) -> Tensor:
    """Blacken a square in each image; what lies outside the image is lost.

    Args:
        images: Shape (B, C, H, W), any dtype.
        side: Side of the square in pixels.
        centre_y: Row of the centre, int64, shape (B,). An even square reaches one pixel further up.
        centre_x: Column of the centre, int64, shape (B,).

    Returns:
        New tensor of the shape and dtype of `images`.
    """
    in_rows = _within(images.shape[2], centre_y - side // 2, side)  # (B, H)
    in_columns = _within(images.shape[3], centre_x - side // 2, side)  # (B, W)
    square = in_rows[:, None, :, None] & in_columns[:, None, None, :]  # (B, 1, H, W)
    return images.masked_fill(square, 0)


def _within(size: int, first: Tensor, length: int) -> Tensor:
    """Say which of `size` places lie in [first, first + length), shape (B, size)."""
    places = torch.arange(size, device=first.device)
    return (places >= first[:, None]) & (places < first[:, None] + length)


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply images by a factor.

    Args:
        images: Floating point in [0, 1], shape (B, C, H, W).
        factor: At least 0, shape (B,); 1 leaves an image as it is.

    Returns:
        New tensor in [0, 1], shape (B, C, H, W).
    """
    return (images * per_image(factor)).clamp_(0, 1)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Move pixels away from, or towards, the mean grey of their image.

    Args:
        images: Floating point in [0, 1], shape (B, C, H, W), C is 1 or 3.
        factor: At least 0, shape (B,); 1 leaves an image as it is.

    Returns:
        New tensor in [0, 1], shape (B, C, H, W).
    """
    mean = images.mean((2, 3), keepdim=True)  # (B, C, 1, 1); the grey of a mean is a mean of greys
    grey = luma(mean) if images.shape[1] == 3 else mean
    return _blend(images, grey, factor)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Move pixels away from, or towards, their own grey; images without colour stay as they are.

    Args:
        images: Floating point in [0, 1], shape (B, C, H, W), C is 1 or 3.
        factor: At least 0, shape (B,); 1 leaves an image as it is.

    Returns:
        Tensor in [0, 1], shape (B, C, H, W).
    """
    if images.shape[1] == 1:
        return images
    return _blend(images, luma(images), factor)


def adjust_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the colours of images around the colour circle; images without colour stay as they are.

    Args:
        images: Floating point in [0, 1], shape (B, C, H, W), C is 1 or 3.
        shift: Share of a full turn, in [-0.5, 0.5], shape (B,).

    Returns:
        Tensor in [0, 1], shape (B, C, H, W).

    Source: "HSV to RGB alternative": channel k is V - V S clamp(min(k, 4 - k), 0, 1), where k is
    the hue in sixths of a turn plus 5, 3 or 1, modulo 6, for red, green and blue.
    """
    if images.shape[1] == 1:
        return images
    hue, value, chroma = _hue_value_chroma(images)
    hue += per_image(shift * 6)
    offsets = torch.tensor([5.0, 3.0, 1.0]).to(images.device, non_blocking=True)
    place = (hue + offsets[:, None, None]).remainder_(6)  # (B, 3, H, W)
    # min(k, 4 - k) = 2 - |k - 2|
    share = place.sub_(2).abs_().neg_().add_(2).clamp_(0, 1)
    return share.mul_(chroma).neg_().add_(value)


def _hue_value_chroma(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return hue in sixths of a turn, largest value, and range of each pixel; (B, 1, H, W) each."""
    red, green, blue = images.split(1, dim=1)
    least, value = torch.aminmax(images, dim=1, keepdim=True)
    chroma = value - least
    scale = 1 / chroma.clamp_min(1e-20)  # where there is no chroma the hue does not matter
    from_blue = torch.add((red - green).mul_(scale), 4)
    from_green = torch.add((blue - red).mul_(scale), 2)
    hue = torch.where(green == value, from_green, from_blue)
    return torch.where(red == value, (green - blue).mul_(scale), hue), value, chroma


def luma(images: Tensor) -> Tensor:
    """Return the grey of each pixel.

    Args:
        images: Floating point, shape (B, 3, H, W).

    Returns:
        Shape (B, 1, H, W).
    """
    red, green, blue = images.split(1, dim=1)
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def gaussian_blur3(images: Tensor, sigma: Tensor) -> Tensor:
    """Blur images with a 3 x 3 Gaussian kernel; the border is mirrored.

    Args:
        images: Floating point, shape (B, C, H, W), H and W at least 2.
        sigma: Standard deviation of the kernel in pixels, above 0, shape (B,).

    Returns:
        New tensor, shape (B, C, H, W).
    """
    side = torch.exp(-0.5 / sigma.square())  # weight beside the centre, of which the weight is 1
    side = per_image(side / (1 + 2 * side))
    middle = 1 - 2 * side
    padded = F.pad(images, (1, 1, 1, 1), mode="reflect")  # (B, C, H + 2, W + 2)
    across = (padded[..., :-2] + padded[..., 2:]).mul_(side).addcmul_(padded[..., 1:-1], middle)
    down = (across[..., :-2, :] + across[..., 2:, :]).mul_(side)
    return down.addcmul_(across[..., 1:-1, :], middle)


def normalize(
    images: Tensor, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor
) -> Tensor:
    """Subtract a mean and divide by a standard deviation per channel.

    Args:
        images: Floating point, shape (B, C, H, W).
        mean: One per channel, shape (C,).
        std: One per channel, above 0, shape (C,).

    Returns:
        New tensor, shape (B, C, H, W).

    Example:
        >>> normalize(torch.ones(1, 1, 2, 2), mean=[0.5], std=[0.25]).unique()
        tensor([2.])
    """
    return (images - _per_channel(mean, images)).div_(_per_channel(std, images))


def per_image(values: Tensor) -> Tensor:
    """Return values per image in a shape that broadcasts over images.

    Args:
        values: Any dtype, shape (B,).

    Returns:
        A view, shape (B, 1, 1, 1).
    """
    return values[:, None, None, None]


def _per_channel(values: Sequence[float] | Tensor, images: Tensor) -> Tensor:
    """Return values per channel beside images, shape (C, 1, 1)."""
    tensor = torch.as_tensor(values, dtype=images.dtype)
    return tensor.to(images.device, non_blocking=True)[:, None, None]


def _blend(images: Tensor, grey: Tensor, factor: Tensor) -> Tensor:
    """Return factor * images + (1 - factor) * grey in [0, 1]."""
    factor = per_image(factor)
    return (images * factor).addcmul_(grey, 1 - factor).clamp_(0, 1)
