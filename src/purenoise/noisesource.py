"""Where the noise rows of each step come from: drawn anew, or made of images.

All that a step draws, also which images it takes, comes from (seed, epoch, step), so a resumed run
goes on with the same noise and no step waits for a device; images are read ahead. Noise is never
augmented.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from purenoise.augment import normalize
from purenoise.data.outside import load_outside, outside_paths, outside_sha256
from purenoise.data.types import MemoryImages, Split
from purenoise.feed import Feed
from purenoise.noise import noise_images, shuffle_pixels, uniform_images
from purenoise.noisesection import PHOTOGRAPHS, Noise
from purenoise.plan import StepPlan
from purenoise.prepare import Prepared
from purenoise.probes import photograph_patches
from purenoise.runtime import DRAWN, PIXELS, generator, stream_seed

N_PATCHES = 1000  # of the photographs


class NoiseSource:
    """Makes the noise rows of every step, normalised, on the device of the training.

    Args:
        noise: The noise section of a recipe.
        data: Prepared data.
        feed: Of the training images.
        dtype: Of the result.
        seed: Of the run.
        limit: Bytes that images of a folder may take.

    Raises:
        DataError: If images are wanted that are not there or cannot be used.
    """

    def __init__(
        self,
        noise: Noise,
        data: Prepared,
        feed: Feed,
        dtype: torch.dtype,
        seed: int,
        limit: int | None = None,
    ) -> None:
        self.noise, self.dtype, self.seed, self.device = noise, dtype, seed, feed.device
        self.shape = data.dataset.image_shape
        # Constants lie on the device from the start: a step copies nothing there.
        self.mean, self.std = (self._constant(v, dtype) for v in (data.mean, data.std))
        after = noise.space == "normalized"
        drawn = (data.mean, data.std) if after else (data.noise_mean, data.noise_std)
        self.noise_mean, self.noise_std = (self._constant(v, torch.float32) for v in drawn)
        self._ahead: Generator[Tensor] | None = None
        self._feed = feed if noise.kind == "shuffled" else None
        if noise.kind == "images":
            pool = noise_pool(noise, self.shape, limit)
            split = Split(MemoryImages(pool), np.zeros(len(pool), np.int64))
            self._feed = Feed(split, feed.device)

    @contextmanager
    def reading(self, plans: Sequence[StepPlan], epoch: int, first_step: int = 0) -> Iterator[None]:
        """Read the images that the steps of an epoch need ahead of them, where there are such.

        Args:
            plans: Of all steps of the epoch.
            epoch: Counted from 0.
            first_step: The step that comes first; :meth:`rows` is called for it and those after it
                that have noise, in order.
        """
        if self._feed is None:
            yield
            return
        steps = [step for step in range(first_step, len(plans)) if plans[step].n_noise]
        batches = [self._chosen(plans[step].n_noise, epoch, step) for step in steps]
        with closing(self._feed.images(batches)) as self._ahead:
            try:
                yield
            finally:
                self._ahead = None

    def rows(self, n: int, epoch: int, step: int) -> Tensor:
        """Return the noise rows of a step, shape (n, C, H, W)."""
        draws = generator(stream_seed(self.seed, PIXELS, epoch, step), self.device)
        kind = self.noise.kind
        if kind == "normal":
            made = noise_images(n, self.shape[1:], self.noise_mean, self.noise_std, draws,
                                clip=self.noise.clip)  # fmt: skip
            if self.noise.space == "normalized":
                return made.to(self.dtype)
        elif kind == "uniform":
            made = uniform_images(n, self.shape, draws)
        else:
            images = self._images(n, epoch, step)  # uint8
            made = (shuffle_pixels(images, draws) if kind == "shuffled" else images) / 255
        return normalize(made.to(self.dtype), self.mean, self.std)

    def _images(self, n: int, epoch: int, step: int) -> Tensor:
        """The images of a step: those that were read ahead, or read now."""
        if self._ahead is not None:
            return next(self._ahead)
        assert self._feed is not None
        return next(self._feed.images([self._chosen(n, epoch, step)]))

    def _chosen(self, n: int, epoch: int, step: int) -> NDArray[np.int64]:
        """Draw which images a step takes, all with equal chances, shape (n,)."""
        assert self._feed is not None
        draws = np.random.default_rng(stream_seed(self.seed, DRAWN, epoch, step))
        return draws.integers(len(self._feed.split), size=n)

    def _constant(self, values: Sequence[float], dtype: torch.dtype) -> Tensor:
        return torch.tensor(values, dtype=dtype, device=self.device)


def noise_pool(
    noise: Noise, shape: tuple[int, int, int], limit: int | None = None
) -> NDArray[np.uint8]:
    """Return the images that stand in for noise, uint8 of shape (N, C, H, W).

    Raises:
        DataError: See :func:`purenoise.data.outside.load_outside`.
    """
    assert noise.source is not None
    if noise.source == PHOTOGRAPHS:
        return photograph_patches(shape, N_PATCHES)
    return load_outside(noise.source, shape, limit)


def noise_fingerprint(noise: Noise) -> str | None:
    """Return a hash over the files that stand in for noise; None if there are none.

    Raises:
        DataError: If the folder is missing or empty.
    """
    if noise.kind != "images" or noise.source is None:
        return None
    return PHOTOGRAPHS if noise.source == PHOTOGRAPHS else outside_sha256(noise.source)


def check_source(noise: Noise) -> None:
    """Refuse a folder that is not there or empty, without decoding anything.

    Raises:
        DataError: If it is.
    """
    if noise.kind == "images" and noise.source not in (None, PHOTOGRAPHS):
        outside_paths(str(noise.source))
