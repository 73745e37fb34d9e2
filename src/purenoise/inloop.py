"""OPeN inside a training loop of one's own: one call in place of ``model(images)``.

:class:`PureNoise` is the paper's method, to be used with a class-balanced loader
(:class:`purenoise.ClassBalancedSampler`, or :class:`purenoise.DeferredSampler` where it begins at
the first learning-rate drop). :class:`NoiseAugment` is the paper's variant for balanced
data: nothing is replaced, noise with random labels is added.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from purenoise.errors import DataError, RecipeError
from purenoise.noise import DELTA, choose_noise, noise_images, replacement_probabilities
from purenoise.twopass import Call, TwoPass

PerChannel = Sequence[float] | NDArray[np.float64] | Tensor
Constants = tuple[PerChannel, PerChannel]


class _NoiseStep:
    """What both forms share: generators, noise images, the two passes.

    Attributes:
        active: Whether training steps have noise. False until the first learning-rate drop is how
            the method is deferred; a step is ``model(images)`` then.
        made: Noise rows that were made so far.
        n_noise: Noise rows of the last call; they are its last rows.
        order: Of the last call: which of its images each row of the logits shows or stands in for,
            int64 on the CPU. What else belongs to an image (a weight, say) follows by it. Rows that
            :class:`NoiseAugment` adds stand in for none, and are left out.
    """

    def __init__(
        self,
        mean: PerChannel,
        std: PerChannel,
        normalize: Constants | None,
        seed: int,
        call: Call | None,
    ) -> None:
        self.mean, self.std = torch.as_tensor(mean).float(), torch.as_tensor(std).float()
        _check_unit_range(self.mean, self.std)
        self.normalize = None if normalize is None else _constants(normalize, len(self.mean))
        self.call = call
        self.seed = seed
        self.active, self.made, self.n_noise = True, 0, 0
        self.order = torch.arange(0)
        self._choice = torch.Generator().manual_seed(seed)
        self._pixels: dict[torch.device, torch.Generator] = {}
        self._step: TwoPass | None = None

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Run a training step's forward: the natural pass and the noise pass.

        Args:
            model: A converted model, a :class:`TwoPass`, or ``DistributedDataParallel(TwoPass)``.
                In ``eval()`` mode, or while ``active`` is False, this is ``model(images)``, with no
                noise.
            images: What the loader yields, normalised, shape (B, C, H, W).
            labels: int64 of shape (B,). On the CPU, or the device has to be waited for.

        Returns:
            Logits of shape (rows, classes) and the labels of those rows on the logits' device.

        Raises:
            ModelError: See :func:`purenoise.noise_pass`.
            DataError: If images and labels do not fit the statistics that were given.

        Warns:
            UserWarning: In the first step with noise, if the images are not on its scale.
        """
        _check_rows(images, labels)
        natural, noise = images, None
        self.order, self.n_noise = torch.arange(len(images)), 0
        if model.training and self.active:
            natural, noise, labels = self.split(images, labels)
            self.n_noise = len(noise)
        if isinstance(getattr(model, "module", model), TwoPass):
            logits = model(natural, noise)
        else:
            if self._step is None or self._step.model is not model:
                self._step = TwoPass(model, self.call)
            logits = self._step(natural, noise)
        return logits, labels.to(logits.device, non_blocking=True)

    def split(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return natural rows, noise rows, and the labels of all rows, natural first."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Tensor]:
        """Return the states of the random generators, for an exact continuation."""
        pixels = {str(device): g.get_state() for device, g in self._pixels.items()}
        return {"choice": self._choice.get_state(), **pixels}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue the random numbers where :meth:`state_dict` was taken."""
        self._choice.set_state(state["choice"].cpu())
        for name in state.keys() - {"choice"}:
            device = torch.device(name)
            self._pixels[device] = torch.Generator(device)
            self._pixels[device].set_state(state[name].cpu())

    def make(self, n: int, like: Tensor) -> Tensor:
        """Return ``n`` noise images, normalised, with the size, dtype and device of ``like``."""
        if like.dim() != 4 or like.shape[1] != len(self.mean):
            raise DataError(
                f"Images of shape {tuple(like.shape)} do not fit statistics of {len(self.mean)} "
                "channels.",
                "Images are (B, C, H, W), and mean and std have one value per channel.",
            )
        generator = self._pixels.get(like.device)
        if generator is None:
            generator = torch.Generator(like.device).manual_seed(self.seed + 1)
            self._pixels[like.device] = generator
        if self.made == 0 and len(like):
            self._warn_of_another_scale(like)
        self.made += n
        noise = noise_images(n, like.shape[2:], self.mean, self.std, generator)
        if self.normalize is not None:
            shift, scale = (v.to(noise.device, non_blocking=True) for v in self.normalize)
            noise = (noise - shift) / scale
        return noise.to(like.dtype)

    def _warn_of_another_scale(self, images: Tensor) -> None:
        """Warn of images that are far from what pixels in [0, 1] become by ``normalize``."""
        ends = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)
        if self.normalize is not None:
            ends = (ends - self.normalize[0]) / self.normalize[1]
        low, high = float(ends.min()), float(ends.max())
        room = (high - low) / 2  # for augmentation that leaves the range
        found = images.detach().float()
        if float(found.min()) < low - room or float(found.max()) > high + room:
            warnings.warn(
                f"The images reach from {float(found.min()):.3g} to {float(found.max()):.3g}, and "
                f"pixels in [0, 1] would reach from {low:.3g} to {high:.3g}: noise is not on their "
                "scale. Give the constants of the loader's Normalize as normalize=.",
                UserWarning, stacklevel=5,
            )  # fmt: skip


class PureNoise(_NoiseStep):
    """OPeN: replace drawn images of rare classes by pure noise, in one's own loop.

    Args:
        counts: Training images per class, shape (C,).
        mean: Pixel mean per channel of the training images in [0, 1].
        std: Pixel standard deviation per channel.
        delta: Noise share of a vanishing class, in [0, 1].
        normalize: The (mean, std) with which the loader normalises its images; noise is normalised
            with the same. None if the loader yields images in [0, 1].
        seed: Of this object's own generators. With several processes give each another.
        call: See :func:`purenoise.two_pass`.

    Raises:
        RecipeError: If delta is outside [0, 1].
        DataError: If a class has no images, the statistics are not in [0, 1], or ``normalize``
            does not fit them.

    Example:
        >>> from purenoise.conversion import convert
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 6), nn.BatchNorm2d(4), nn.Flatten())
        >>> noise = PureNoise(counts=[90, 10], mean=[0.5], std=[0.2])
        >>> logits, labels = noise(convert(net), torch.rand(8, 1, 6, 6), torch.tensor([0, 1] * 4))
        >>> logits.shape, labels.shape
        (torch.Size([8, 4]), torch.Size([8]))

    Source: Zada et al. 2022, algorithm 1. Differs: where one natural row alone would be left, the
    first noise row stays natural too, because batch norm over 1 x 1 maps needs two.
    """

    def __init__(
        self,
        counts: ArrayLike,
        mean: PerChannel,
        std: PerChannel,
        delta: float = DELTA,
        normalize: Constants | None = None,
        *,
        seed: int = 0,
        call: Call | None = None,
    ) -> None:
        super().__init__(mean, std, normalize, seed, call)
        self.probabilities = replacement_probabilities(counts, delta)

    def split(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Choose the rows that become noise.

        Returns:
            Natural rows (n, C, H, W), noise rows (B - n, C, H, W), labels (B,) on the CPU.

        Raises:
            DataError: If a label is not below the number of counts.
        """
        host = labels.cpu()
        if len(host) and not 0 <= int(host.min()) <= int(host.max()) < len(self.probabilities):
            raise DataError(
                f"Labels reach from {int(host.min())} to {int(host.max())}, and there are counts "
                f"for {len(self.probabilities)} classes.",
                "Labels are 0..C-1, with one count each.",
            )
        is_noise = choose_noise(host, self.probabilities, self._choice)
        if int((~is_noise).sum()) == 1:  # batch norm may need two values: the first noise row stays
            is_noise[is_noise.nonzero()[:1]] = False
        keep = torch.nonzero(~is_noise).flatten()
        self.order = torch.cat([keep, torch.nonzero(is_noise).flatten()])
        natural = images[keep.to(images.device, non_blocking=True)]
        noise = self.make(len(host) - len(keep), images)
        return natural, noise, torch.cat([host[keep], host[is_noise]])


class NoiseAugment(_NoiseStep):
    """The paper's variant for balanced data: add noise images with uniformly drawn labels.

    Args:
        n_classes: Number of classes.
        mean: See :class:`PureNoise`.
        std: See :class:`PureNoise`.
        ratio: Noise rows per natural row; the paper uses 1:4.
        normalize: See :class:`PureNoise`.
        seed: See :class:`PureNoise`.
        call: See :func:`purenoise.two_pass`.

    Raises:
        RecipeError: If the ratio is negative or not finite.

    Source: Zada et al. 2022, section 5; the labels' distribution as in its reproduction.
    """

    def __init__(
        self,
        n_classes: int,
        mean: PerChannel,
        std: PerChannel,
        ratio: float = 0.25,
        normalize: Constants | None = None,
        *,
        seed: int = 0,
        call: Call | None = None,
    ) -> None:
        super().__init__(mean, std, normalize, seed, call)
        if not 0 <= ratio < float("inf"):
            raise RecipeError(
                f"The noise ratio is {ratio}, and must be at least 0 and finite.",
                "It is the number of noise rows per natural row; the paper uses 0.25.",
            )
        self.n_classes, self.ratio = n_classes, ratio

    def split(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Add round(B * ratio) noise rows.

        Returns:
            The images (B, C, H, W), noise rows, labels of all rows on the CPU.
        """
        n = round(len(images) * self.ratio)
        drawn = torch.randint(self.n_classes, (n,), generator=self._choice)
        return images, self.make(n, images), torch.cat([labels.cpu(), drawn])


def _check_rows(images: Tensor, labels: Tensor) -> None:
    """Refuse images that are not normalised floats, and labels that are not one per image."""
    if not images.is_floating_point():
        raise DataError(
            f"Images are {images.dtype}, in which normalised noise cannot be written.",
            "Give them as floats in [0, 1], or normalised with the constants in normalize.",
        )
    if labels.dim() != 1 or len(labels) != len(images) or labels.is_floating_point():
        raise DataError(
            f"Labels of shape {tuple(labels.shape)} and {labels.dtype} do not fit {len(images)} "
            "images.",
            "Give one class number per image, int64 of shape (B,).",
        )


def _constants(normalize: Constants, channels: int) -> tuple[Tensor, Tensor]:
    """Mean and deviation as tensors of shape (1, C, 1, 1)."""
    parts = [torch.as_tensor(v).float() for v in normalize]
    fits = len(parts) == 2 and all(part.shape == (channels,) for part in parts)
    if not fits or not bool((parts[1] > 0).all()):
        raise DataError(
            f"normalize={normalize} is not a mean and a positive deviation for each of {channels} "
            "channels.",
            "Give the two arguments of the loader's Normalize: (means, deviations).",
        )
    shift, scale = parts
    if bool((shift.abs() > 1).any() | (scale > 1).any()):
        raise DataError(
            f"normalize={normalize} is not of pixels in [0, 1].",
            "Constants for pixels from 0 to 255 are divided by 255, as are the images.",
        )
    return shift.view(1, -1, 1, 1), scale.view(1, -1, 1, 1)


def _check_unit_range(mean: Tensor, std: Tensor) -> None:
    """Refuse statistics that are not those of pixels in [0, 1]."""
    fits = mean.dim() == 1 and mean.shape == std.shape and len(mean) > 0
    if not fits or not bool(((mean >= 0) & (mean <= 1) & (std >= 0) & (std <= 1)).all()):
        raise DataError(
            f"mean={mean.tolist()} and std={std.tolist()} are not pixel statistics in [0, 1].",
            "Give one value per channel, of the training images scaled to [0, 1].",
        )
