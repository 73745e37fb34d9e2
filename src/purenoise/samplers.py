"""Samplers for imbalanced data: which images an epoch shows, in which order.

Every order is a pure function of (seed, epoch), drawn at once for the whole epoch; each iteration
takes the next epoch, as with torch's samplers, unless ``set_epoch`` names one. That makes a
sampler resumable at any image and lets processes split an epoch exactly: process r of R takes
images r, r + R, ... of the one order, so R processes with batch B / R see the batches that one
process with batch B sees, and none is shown twice. Sampling is with replacement except for
:class:`InstanceSampler`, and an epoch is always as long as the data set (Zada et al. 2022).

They work on anything with labels: arrays, lists, ``Subset``, ``ConcatDataset``, ``DatasetFolder``,
and what has ``targets`` or ``labels``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import ConcatDataset, Sampler, Subset

from purenoise.errors import DataError, RecipeError
from purenoise.longtail import check_counts

BETA = 0.9999
MOST_LABEL = 2**63 - 1  # of int64; what is above would come out negative
STREAM = 1716  # sets the samplers' random numbers apart from others drawn with the same seed


def labels_of(source: Any) -> NDArray[np.int64]:
    """Find the labels of a data set without loading its images.

    Args:
        source: An array or list of labels, or a data set with ``targets``, ``labels`` or
            ``samples`` (pairs of path and label), or a ``Subset`` or ``ConcatDataset`` of such.

    Returns:
        int64 of shape (N,).

    Raises:
        DataError: If no labels are found, or they are not whole numbers from 0 to 2**63 - 1.

    Example:
        >>> labels_of(Subset(torch.utils.data.TensorDataset(torch.zeros(3), torch.arange(3)), [2]))
        array([2])
    """
    if isinstance(source, Subset):
        labels = labels_of(source.dataset)[np.asarray(source.indices, np.int64)]
    elif isinstance(source, ConcatDataset):
        labels = np.concatenate([labels_of(part) for part in source.datasets])
    elif isinstance(source, torch.utils.data.TensorDataset):
        labels = source.tensors[-1].cpu().numpy()
    else:
        labels = _own_labels(source)
    whole = labels.ndim == 1 and labels.dtype.kind in "iu"
    if whole and len(labels) and labels.max() > MOST_LABEL:
        raise DataError(
            f"Labels must be classes 0..C-1, got {labels.max()}; at most {MOST_LABEL} is allowed.",
            "Give the labels themselves: Sampler(labels).",
        )
    if not whole or (len(labels) and labels.min() < 0):
        raise DataError(
            f"Labels must be whole numbers 0..C-1 of shape (N,), got {labels.dtype} of shape "
            f"{labels.shape}.",
            "Give the labels themselves: Sampler(labels).",
        )
    return labels.astype(np.int64)


def _own_labels(source: Any) -> NDArray[Any]:
    for name in ("targets", "labels", "samples"):
        found = getattr(source, name, None)
        if found is None or callable(found):
            continue
        if name == "samples":
            found = [label for _, label in found]
        return _array(found)
    if isinstance(source, np.ndarray | torch.Tensor | list | tuple):
        return _array(source)
    raise DataError(
        f"No labels were found in {type(source).__name__}.",
        "Give the labels themselves, or a data set with .targets, .labels or .samples.",
    )


def _array(values: Any) -> NDArray[Any]:
    if isinstance(values, torch.Tensor):
        return values.cpu().numpy()
    try:
        return np.asarray(values)
    except ValueError as error:  # a ragged list
        raise DataError(
            "Labels must be one whole number per image, got lists of different lengths.",
            "Images with several labels are not supported.",
        ) from error


def _count(labels: NDArray[np.int64], n_classes: int | None) -> NDArray[np.int64]:
    """Count images per class, refusing labels beyond the classes and classes without images."""
    top = int(labels.max(initial=-1))
    if n_classes is not None and top >= n_classes:
        raise DataError(
            f"A label is {top}, and with {n_classes} classes labels end at {n_classes - 1}."
        )
    # With a label beyond the number of images some class is empty: name it, without an array as
    # long as the largest label.
    short = np.minimum(labels, len(labels))
    return check_counts(np.bincount(short, minlength=n_classes or min(top + 1, len(labels))))


class ClassSampler(Sampler[int]):
    """Draw images with replacement, with a probability per class.

    Args:
        source: Labels, or a data set that has them (:func:`labels_of`).
        seed: Of the order.
        num_replicas: Number of processes that share an epoch.
        rank: Which of them this is.
        even: Whether all processes get equally many images, so that none waits for ever for a step
            that the others do not take: the first of the order come again at its end where it has
            to be filled up, as in torch's ``DistributedSampler``. False splits the epoch exactly;
            shares may then differ by one image.
        n_classes: Number of classes; None: those in the labels.

    Raises:
        DataError: If a class has no images, a label is not below n_classes, or the labels cannot be
            found.
        RecipeError: If rank is not below num_replicas, or the seed is negative.
    """

    def __init__(
        self,
        source: Any,
        *,
        seed: int = 0,
        num_replicas: int = 1,
        rank: int = 0,
        even: bool = True,
        n_classes: int | None = None,
    ) -> None:
        if not 0 <= rank < num_replicas:
            raise RecipeError(f"rank={rank} is not in 0..num_replicas - 1 = {num_replicas - 1}.")
        if seed < 0:
            raise RecipeError(f"seed is {seed}, and must not be negative.")
        self.labels = labels_of(source)
        self.counts = _count(self.labels, n_classes)
        self.seed, self.num_replicas, self.rank, self.even = seed, num_replicas, rank, even
        self.epoch = 0
        self._start = 0  # where the next iteration begins
        self._done = 0  # images of this epoch that were read
        self._fresh = True  # whether the epoch was not iterated yet

    def class_shares(self, epoch: int) -> NDArray[np.float64]:
        """Return the expected share of each class among the drawn images, shape (C,)."""
        raise NotImplementedError

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the indices of the whole epoch, over all processes, int64 of shape (N,)."""
        shares = self.class_shares(epoch)
        image = np.cumsum((shares / self.counts)[self.labels])
        draws = self._generator(epoch).random(len(self.labels)) * image[-1]
        index = np.searchsorted(image, draws, side="right")
        return np.minimum(index, len(image) - 1).astype(np.int64)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0, that the next iteration draws.

        After :meth:`load_state_dict`, naming the same epoch keeps the place in it, so that a loop
        which calls this at the head of each epoch resumes without a special case.
        """
        self._start = self._start if epoch == self.epoch else 0
        self.epoch, self._done, self._fresh = epoch, self._start, True

    def state_dict(self, done: int | None = None) -> dict[str, int]:
        """Return what resumes the sampler.

        Args:
            done: Images that this process used in this epoch. A loader with workers reads ahead,
                so give steps * batch size, and `len(sampler)` at the end of an epoch, also where
                the loader dropped a short batch; None: as many as were read.
        """
        return {"epoch": self.epoch, "done": self._done if done is None else done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Resume: the next iteration (only) begins after the images that were used.

        After a whole epoch that is the next one, unless :meth:`set_epoch` names the same again.
        """
        self.epoch, self._start, self._done = state["epoch"], state["done"], state["done"]
        self._fresh = self._done < len(self) or self._done == 0

    def __iter__(self) -> Iterator[int]:
        """Draw an epoch: the one that was set, or the one after that of the last iteration."""
        self.epoch += not self._fresh
        self._done = self._start if self._fresh else 0
        self._fresh, self._start = False, 0
        whole = self.order(self.epoch)
        filled = np.resize(whole, len(self) * self.num_replicas)  # by images that come again
        for index in filled[self.rank :: self.num_replicas][self._done :]:
            self._done += 1
            yield int(index)

    def __len__(self) -> int:
        before = 0 if self.even else self.rank
        return -(-(len(self.labels) - before) // self.num_replicas)

    def _generator(self, epoch: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, STREAM, epoch])


class InstanceSampler(ClassSampler):
    """Every image once per epoch, in random order: plain training."""

    def class_shares(self, epoch: int) -> NDArray[np.float64]:  # noqa: ARG002
        """Return n_c / N."""
        return self.counts / self.counts.sum()

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return a permutation."""
        return self._generator(epoch).permutation(len(self.labels)).astype(np.int64)


class ClassBalancedSampler(ClassSampler):
    """Every class equally often: p(image) proportional to 1 / n_c.

    Example:
        >>> sampler = ClassBalancedSampler([0] * 90 + [1] * 10)
        >>> sampler.class_shares(0).tolist(), len(sampler)
        ([0.5, 0.5], 100)

    Source: Zada et al. 2022 (plain inverse frequency, not the effective number).
    """

    def class_shares(self, epoch: int) -> NDArray[np.float64]:  # noqa: ARG002
        """Return 1 / C."""
        return np.full(len(self.counts), 1 / len(self.counts))


class SquareRootSampler(ClassSampler):
    """Class shares proportional to the square root of the class size.

    Source: Mahajan et al. 2018; Kang et al. 2020.
    """

    def class_shares(self, epoch: int) -> NDArray[np.float64]:  # noqa: ARG002
        """Return sqrt(n_c), scaled to sum 1."""
        root = np.sqrt(self.counts)
        return root / root.sum()


class EffectiveNumberSampler(ClassSampler):
    """p(image) proportional to the effective-number weight of its class.

    Args:
        source: See :class:`ClassSampler`.
        beta: In [0, 1); 0 gives instance sampling, near 1 class-balanced.
        **options: Of :class:`ClassSampler`.

    Source: Cui et al. 2019; the sampler that LDAM-DRW's ``Resample`` builds.
    """

    def __init__(self, source: Any, *, beta: float = BETA, **options: Any) -> None:
        super().__init__(source, **options)
        effective_number_weights(self.counts, beta)  # refuses a beta that cannot be
        self.beta = beta

    def class_shares(self, epoch: int) -> NDArray[np.float64]:  # noqa: ARG002
        """Return n_c (1 - beta) / (1 - beta ** n_c), scaled to sum 1."""
        share = self.counts * effective_number_weights(self.counts, self.beta)
        return share / share.sum()


class ProgressiveSampler(ClassSampler):
    """From instance to class-balanced sampling over the epochs, linearly.

    Args:
        source: See :class:`ClassSampler`.
        epochs: Epochs of the whole course; class-balanced from then on.
        **options: Of :class:`ClassSampler`.

    Source: Kang et al. 2020, equation 3.
    """

    def __init__(self, source: Any, *, epochs: int, **options: Any) -> None:
        super().__init__(source, **options)
        self.epochs = epochs

    def class_shares(self, epoch: int) -> NDArray[np.float64]:
        """Return (1 - t) n_c / N + t / C with t = epoch / epochs."""
        t = min(1.0, epoch / max(1, self.epochs))
        return (1 - t) * self.counts / self.counts.sum() + t / len(self.counts)


def effective_number_weights(counts: Any, beta: float = BETA) -> NDArray[np.float64]:
    """Return class weights (1 - beta) / (1 - beta ** n_c), scaled to mean 1.

    Args:
        counts: Images per class, shape (C,), each at least 1.
        beta: In [0, 1); 0 weighs all classes alike.

    Returns:
        float64 of shape (C,), sum C.

    Raises:
        RecipeError: If beta is outside [0, 1).
        DataError: If a class has no images.

    Example:
        >>> effective_number_weights([1000, 10], 0.99).round(3).tolist()
        [0.175, 1.825]

    Source: Cui et al. 2019, equation 4; scaled as in LDAM-DRW.
    """
    if not 0 <= beta < 1:
        raise RecipeError(f"beta is {beta}, and must be at least 0 and below 1.")
    n = check_counts(counts).astype(np.float64)
    weights = (1 - beta) / -np.expm1(n * np.log(beta)) if beta > 0 else np.ones(len(n))
    return weights * len(n) / weights.sum()


SAMPLERS: dict[str, type[ClassSampler]] = {
    "instance": InstanceSampler,
    "class-balanced": ClassBalancedSampler,
    "square-root": SquareRootSampler,
    "effective-number": EffectiveNumberSampler,
    "progressive": ProgressiveSampler,
}
