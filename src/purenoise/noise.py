"""Pure noise images: which drawn images become noise, and what the noise looks like.

Source: Zada, Benou & Irani 2022, section 3 (OPeN). A drawn image of class i is replaced with
probability (1 - n_i / n_max) * delta and keeps its label. Noise is i.i.d. normal per pixel and
channel, with the mean and deviation of all pixels of the long-tailed training images, clipped to
[0, 1]. It is drawn in pixel space and normalised afterwards with the constants that natural images
get; the best-known reproduction inserts it after normalisation, which we do not unless asked to
(:mod:`purenoise.noisesection`). Uniform noise and images with shuffled pixels are for ablations.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from purenoise.errors import DataError, RecipeError
from purenoise.longtail import check_counts

LEAST_SIDE, MOST_CHANNELS = 8, 4  # what (B, H, W, C) is known by
DELTA = 1 / 3


def replacement_probabilities(counts: ArrayLike, delta: float = DELTA) -> NDArray[np.float64]:
    """Return the probability with which a drawn image of each class becomes noise.

    Args:
        counts: Training images per class, shape (C,), each at least 1, in any order.
        delta: Noise share of a vanishing class, in [0, 1].

    Returns:
        (1 - n_i / n_max) * delta, float64 of shape (C,); 0 for the largest class.

    Raises:
        RecipeError: If delta is outside [0, 1].
        DataError: If a class has no images.

    Example:
        >>> replacement_probabilities([100, 50, 25], 0.5).tolist()
        [0.0, 0.25, 0.375]

    Source: Zada et al. 2022, equation 1.
    """
    if isinstance(delta, str) or not 0 <= delta <= 1:
        raise RecipeError(
            f"delta is {delta!r}, and must be a number between 0 and 1.",
            "It is the noise share of a very rare class; the paper uses 1/3.",
        )
    n = check_counts(counts).astype(np.float64)
    return (1 - n / n.max()) * delta


def choose_noise(labels: Tensor, probabilities: ArrayLike, generator: torch.Generator) -> Tensor:
    """Decide for each drawn image whether it becomes noise: one Bernoulli draw per image.

    Args:
        labels: Classes of the drawn images, int64 of shape (B,), on the CPU.
        probabilities: Per class, shape (C,), see :func:`replacement_probabilities`.
        generator: On the CPU.

    Returns:
        bool of shape (B,), True for noise.

    Raises:
        DataError: If a label is no class.
    """
    p = torch.as_tensor(np.asarray(probabilities, np.float64))
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(p):
        raise DataError(
            f"Labels go from {int(labels.min())} to {int(labels.max())}, and classes are 0 to "
            f"{len(p) - 1}."
        )
    return torch.rand(len(labels), generator=generator, dtype=torch.float64) < p[labels]


def noise_images(
    n: int,
    size: Sequence[int],
    mean: Sequence[float] | Tensor,
    std: Sequence[float] | Tensor,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
    clip: bool = True,
) -> Tensor:
    """Draw noise images in pixel space.

    Args:
        n: How many.
        size: Height and width (any number of spatial axes).
        mean: Per channel in [0, 1], shape (C,).
        std: Per channel, shape (C,).
        generator: Its device is where the images are made; None: the CPU's global generator.
        dtype: Of the result.
        clip: Whether to clip to [0, 1], which the paper does in its text and not in its listing.

    Returns:
        N(mean, std) clipped to [0, 1], shape (n, C, *size).

    Example:
        >>> noise_images(2, (4, 4), [0.5] * 3, [0.2] * 3, torch.Generator()).shape
        torch.Size([2, 3, 4, 4])

    Source: Zada et al. 2022, equations 2 to 4.
    """
    device = "cpu" if generator is None else generator.device
    shape = (1, -1) + (1,) * len(size)
    mu = torch.as_tensor(mean, dtype=dtype).to(device, non_blocking=True).view(shape)
    sigma = torch.as_tensor(std, dtype=dtype).to(device, non_blocking=True).view(shape)
    noise = torch.empty((n, mu.shape[1], *size), dtype=dtype, device=device)
    noise.normal_(generator=generator).mul_(sigma).add_(mu)
    return noise.clamp_(0, 1) if clip else noise


def uniform_images(n: int, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Draw uniform noise images in pixel space.

    Args:
        n: How many.
        shape: Channels, height and width.
        generator: Its device is where the images are made.

    Returns:
        i.i.d. U(0, 1) per pixel and channel, float32 of shape (n, C, H, W).

    Example:
        >>> uniform_images(2, (3, 4, 4), torch.Generator()).shape
        torch.Size([2, 3, 4, 4])
    """
    return torch.rand((n, *shape), generator=generator, device=generator.device)


def shuffle_pixels(images: Tensor, generator: torch.Generator) -> Tensor:
    """Put the pixels of each image into a random order, the same for all its channels.

    Args:
        images: Any dtype, shape (n, C, H, W).
        generator: On the device of the images.

    Returns:
        Shape and dtype of ``images``; each image has an order of its own, all orders equally
        likely.

    Example:
        >>> image = torch.arange(8).view(1, 2, 2, 2)
        >>> out = shuffle_pixels(image, torch.Generator().manual_seed(0))
        >>> (out[0, 1] - out[0, 0]).flatten().tolist()
        [4, 4, 4, 4]
    """
    n, channels, *size = images.shape
    keys = torch.rand(
        (n, math.prod(size)), generator=generator, device=images.device, dtype=torch.float32
    )
    order = keys.argsort(dim=1, stable=True)[:, None].expand(n, channels, -1)  # (n, C, H W)
    return images.flatten(2).gather(2, order).view(images.shape)


class PixelStatistics:
    """Mean and standard deviation per channel over all pixels, gathered batch by batch.

    The deviation is that of all pixels around the overall mean, not the mean of each image's own
    deviation (which is where the customary .2023 for CIFAR-10 comes from).

    Example:
        >>> stats = PixelStatistics()
        >>> stats.update(np.full((2, 1, 4, 4), 255, np.uint8))
        >>> stats.mean.tolist(), stats.std.tolist()
        ([1.0], [0.0])
    """

    def __init__(self) -> None:
        self._n = 0
        self._sum: NDArray[np.int64] = np.zeros(0, np.int64)
        self._squares: NDArray[np.int64] = np.zeros(0, np.int64)

    def update(self, images: NDArray[np.uint8]) -> None:
        """Take in images, uint8 of shape (B, C, H, W): NumPy's or tensors on the CPU.

        Raises:
            DataError: If they are not uint8 or have another number of channels.
        """
        if not hasattr(images, "dtype"):
            raise DataError(
                f"Pixel statistics need arrays of images, got {type(images).__name__}.",
                "Of pairs of images and labels give the images: `(x for x, _ in loader)`.",
            )
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] == 0:
            raise DataError(
                f"Pixel statistics need uint8 images of shape (B, C, H, W), got {images.dtype} of "
                f"shape {images.shape}.",
                "Give the images before they are scaled and normalised.",
            )
        channels = images.shape[1]
        if min(images.shape[1:3]) >= LEAST_SIDE and images.shape[3] <= MOST_CHANNELS:
            raise DataError(
                f"Images of shape {images.shape} have their channels last.",
                "Bring them to (B, C, H, W): `numpy.moveaxis(images, -1, 1)`.",
            )
        if len(self._sum) == 0:
            self._sum = np.zeros(channels, np.int64)
            self._squares = np.zeros(channels, np.int64)
        elif channels != len(self._sum):
            raise DataError(
                f"Images with {channels} channels came after images with {len(self._sum)}.",
                "Decode all images to the same number of channels.",
            )
        values = np.arange(256, dtype=np.int64)
        for c in range(channels):
            histogram = np.bincount(images[:, c].ravel(), minlength=256)
            self._sum[c] += histogram @ values
            self._squares[c] += histogram @ values**2  # whole numbers: exact
        self._n += images.size // channels

    @property
    def n(self) -> int:
        """Pixels so far, of one channel."""
        return self._n

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean per channel in [0, 1], shape (C,)."""
        return self._sum / (255 * max(1, self._n))

    @property
    def std(self) -> NDArray[np.float64]:
        """Standard deviation per channel (population form) in [0, 1], shape (C,)."""
        n = max(1, self._n)
        spread = [n * int(q) - int(s) ** 2 for q, s in zip(self._squares, self._sum, strict=True)]
        return np.sqrt(np.array(spread, np.float64)) / (255 * n)


def pixel_statistics(
    batches: Iterable[NDArray[np.uint8]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and deviation per channel over all pixels of the batches.

    Args:
        batches: uint8 arrays or tensors of shape (B, C, H, W).

    Returns:
        Two float64 arrays of shape (C,), in [0, 1].

    Raises:
        DataError: If there are no images.
    """
    statistics = PixelStatistics()
    for batch in batches:
        statistics.update(batch)
    if statistics.n == 0:
        raise DataError("There are no images to take statistics of.")
    return statistics.mean, statistics.std
