"""Mixing of natural images and their labels: mixup, Remix, CutMix and CMO.

Only natural rows are mixed; noise rows stay as they are. What a mixed label means for the loss is
in :mod:`purenoise.mixedlabels`.

Sources: mixup, Zhang et al. 2018, equation 1; Remix, Chou et al. 2020; CutMix, Yun et al.
2019, equations 1 and 2; CMO, Park et al. 2022, algorithm 1. One lambda (and one box) is drawn per
batch, as their codes do.

Differs: mixing takes place on augmented images in [0, 1], before they are normalised. The papers'
codes mix normalised images, which is the same: a mean and a deviation per channel commute with
weights that add up to 1. A method with a class prior (balanced softmax) uses that of the images as
they were drawn.

All random numbers are drawn on the host from the generator that is given, so that every device sees
the same ones and none is waited for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from purenoise.errors import DataError, RecipeError, did_you_mean
from purenoise.mixedlabels import MixedLabels

Mixed = tuple[Tensor, MixedLabels]


def mixup(
    images: Tensor, labels: Tensor, generator: torch.Generator, *, alpha: float = 1.0
) -> Mixed:
    """Mix each image with another of the batch.

    Args:
        images: Floating point, shape (n, C, H, W); n may be 0.
        labels: int64 of shape (n,).
        generator: Of the CPU.
        alpha: lambda is drawn from Beta(alpha, alpha); above 0.

    Returns:
        lambda x + (1 - lambda) x[p] with a permutation p, and the labels; one lambda for all rows.

    Raises:
        RecipeError: If alpha is not above 0.
        DataError: If there is not one label per image.

    Example:
        >>> x, y = torch.rand(4, 1, 2, 2), torch.arange(4)
        >>> mixed, target = mixup(x, y, torch.Generator().manual_seed(0))
        >>> mixed.shape, target.targets(4).sum(1).tolist()
        (torch.Size([4, 1, 2, 2]), [1.0, 1.0, 1.0, 1.0])

    Source: Zhang et al. 2018, equation 1; the partners are a permutation of the batch.
    """
    _check_rows(images, labels)
    lam = _draw_lambda(alpha, generator)
    partner = _to(torch.randperm(len(images), generator=generator), images)
    mixed = lam * images + (1 - lam) * images.index_select(0, partner)
    return mixed, MixedLabels(labels, labels.index_select(0, partner), _share(lam, images))


def remix(
    images: Tensor,
    labels: Tensor,
    generator: torch.Generator,
    *,
    counts: ArrayLike | Tensor,
    alpha: float = 1.0,
    kappa: float = 3.0,
    tau: float = 0.5,
) -> Mixed:
    """Mix images as mixup does, and give a label wholly to the smaller class where it leads enough.

    Args:
        images: See :func:`mixup`.
        labels: See :func:`mixup`.
        generator: See :func:`mixup`.
        alpha: See :func:`mixup`.
        counts: Training images per class, shape (C,); a tensor on the device of the images spares
            a transfer.
        kappa: How many times as many images the larger class must have, at least 1.
        tau: The larger class's part of the image must be below this, in [0, 1].

    Returns:
        Images of :func:`mixup`. The share of a label a with n_a images, mixed with b, is 0 if
        n_a >= kappa n_b and lambda < tau; 1 if n_b >= kappa n_a and 1 - lambda < tau; else lambda.

    Raises:
        RecipeError: If alpha is not above 0, kappa below 1 or tau outside [0, 1].
        DataError: If there is not one label per image.

    Example:
        >>> x, y = torch.rand(2, 1, 2, 2), torch.tensor([0, 1])
        >>> _, target = remix(x, y, torch.Generator().manual_seed(0), counts=[90, 10], tau=1.0)
        >>> target.targets(2).tolist() in ([[0.0, 1.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]])
        True

    Source: Chou et al. 2020, the three cases of the label's lambda.
    """
    if not (kappa >= 1 and 0 <= tau <= 1):
        raise RecipeError(f"kappa is {kappa} and tau is {tau}: at least 1, and from 0 to 1.")
    mixed, labelled = mixup(images, labels, generator, alpha=alpha)
    given = counts if isinstance(counts, Tensor) else torch.as_tensor(np.asarray(counts))
    n = _to(given, images)
    n_a, n_b, drawn = n[labelled.a], n[labelled.b], labelled.lam
    lam = drawn.masked_fill((n_b >= kappa * n_a) & (1 - drawn < tau), 1.0)
    lam = lam.masked_fill((n_a >= kappa * n_b) & (drawn < tau), 0.0)  # this rule is the first
    return mixed, MixedLabels(labelled.a, labelled.b, lam)


def cutmix(
    images: Tensor, labels: Tensor, generator: torch.Generator, *, alpha: float = 1.0
) -> Mixed:
    """Paste a box of another image of the batch into each image.

    Args:
        images: See :func:`mixup`.
        labels: See :func:`mixup`.
        generator: See :func:`mixup`.
        alpha: See :func:`mixup`.

    Returns:
        Images with one box, the same for all, taken from a permutation of the batch; the share of
        the first label is the share of the image that was not pasted over.

    Raises:
        RecipeError: If alpha is not above 0.
        DataError: If there is not one label per image.

    Example:
        >>> x, y = torch.rand(4, 1, 8, 8), torch.arange(4)
        >>> mixed, target = cutmix(x, y, torch.Generator().manual_seed(1))
        >>> kept = (mixed == x).flatten(1).double().mean(1)
        >>> bool((kept >= target.lam - 1e-6).all())
        True

    Source: Yun et al. 2019, equations 1 and 2; lambda is corrected to the area as in their code.
    """
    _check_rows(images, labels)
    partner = _to(torch.randperm(len(images), generator=generator), images)
    pasted, other = images.index_select(0, partner), labels.index_select(0, partner)
    return _paste(images, labels, pasted, other, generator, alpha)


def cmo(
    images: Tensor,
    labels: Tensor,
    generator: torch.Generator,
    *,
    patches: Tensor,
    patch_labels: Tensor,
    alpha: float = 1.0,
) -> Mixed:
    """Paste a box of an image that was drawn for rare classes into each image.

    Args:
        images: See :func:`mixup`.
        labels: See :func:`mixup`.
        generator: See :func:`mixup`.
        alpha: See :func:`mixup`.
        patches: Images from which the boxes are cut, shape (n, C, H, W), drawn with a probability
            proportional to 1 / n_c.
        patch_labels: Their labels, int64 of shape (n,).

    Returns:
        As :func:`cutmix`; row i has its box from patch i.

    Raises:
        RecipeError: If alpha is not above 0.
        DataError: If there is not one label and one patch per image.

    Example:
        >>> x, y = torch.zeros(2, 1, 8, 8), torch.zeros(2, dtype=torch.int64)
        >>> mixed, target = cmo(x, y, torch.Generator().manual_seed(0),
        ...                     patches=torch.ones_like(x), patch_labels=torch.tensor([1, 2]))
        >>> bool(torch.isclose(mixed.mean(), 1 - target.lam[0])), target.b.tolist()
        (True, [1, 2])

    Source: Park et al. 2022, algorithm 1.
    """
    _check_rows(images, labels)
    if patches.shape != images.shape or patch_labels.shape != labels.shape:
        raise DataError(
            f"Patches of shape {tuple(patches.shape)} with {len(patch_labels)} labels do not fit "
            f"images of shape {tuple(images.shape)}.",
            "Give one patch image and one patch label per image.",
        )
    return _paste(images, labels, patches, patch_labels, generator, alpha)


MIXERS: dict[str, Callable[..., Mixed]] = {
    "mixup": mixup,
    "remix": remix,
    "cutmix": cutmix,
    "cmo": cmo,
}


def mix(
    name: str,
    images: Tensor,
    labels: Tensor,
    generator: torch.Generator,
    *,
    n: int,
    counts: ArrayLike | Tensor,
    **options: Any,
) -> Mixed:
    """Mix the natural rows of a batch by the name of the mixing.

    Args:
        name: A key of ``MIXERS``.
        images: Shape (n + p, C, H, W): the rows, then p images that boxes are cut from (``cmo``
            has p = n, the others 0).
        labels: int64 of shape (n + p,).
        generator: Of the CPU.
        n: Number of rows.
        counts: Training images per class, shape (C,).
        **options: Further arguments of the mixing.

    Returns:
        Images of shape (n, C, H, W) and their labels.

    Raises:
        RecipeError: If the name or an option is unknown.
        DataError: If the numbers of rows do not fit.

    Example:
        >>> x, y = torch.rand(4, 1, 2, 2), torch.arange(4)
        >>> mix("mixup", x, y, torch.Generator(), n=4, counts=[1] * 4)[0].shape
        torch.Size([4, 1, 2, 2])
    """
    if name not in MIXERS:
        raise RecipeError(f"Mixing {name!r} is not known.", did_you_mean(name, MIXERS))
    if name == "cmo":
        options |= {"patches": images[n:], "patch_labels": labels[n:]}
    elif name == "remix":
        options |= {"counts": counts}
    try:
        return MIXERS[name](images[:n], labels[:n], generator, **options)
    except TypeError as error:
        raise RecipeError(f"Mixing {name!r} does not take these options: {error}.") from error


def _paste(
    images: Tensor,
    labels: Tensor,
    patches: Tensor,
    patch_labels: Tensor,
    generator: torch.Generator,
    alpha: float,
) -> Mixed:
    """Paste one box of each patch into its image, at the same place; lambda is the area left."""
    height, width = images.shape[2:]
    top, bottom, left, right = _draw_box(height, width, _draw_lambda(alpha, generator), generator)
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = patches[:, :, top:bottom, left:right]
    lam = 1 - (bottom - top) * (right - left) / (height * width)
    return mixed, MixedLabels(labels, patch_labels, _share(lam, images))


def _draw_box(
    height: int, width: int, lam: float, generator: torch.Generator
) -> tuple[int, int, int, int]:
    """Draw a box of 1 - lam of the area, its centre anywhere in the image, cut at the edges.

    Sides are twice the half side rounded down, as in the code of CutMix.
    """
    edges = []
    for size in (height, width):
        half = int(size * (1 - lam) ** 0.5) // 2
        centre = int(torch.randint(size, (1,), generator=generator))
        edges += [max(0, centre - half), min(size, centre + half)]
    return edges[0], edges[1], edges[2], edges[3]


def _draw_lambda(alpha: float, generator: torch.Generator) -> float:
    """Draw from Beta(alpha, alpha), for which torch takes no generator."""
    if not 0 < alpha < float("inf"):
        raise RecipeError(f"alpha is {alpha}, and must be a number above 0.")
    seed = int(torch.randint(2**62, (1,), generator=generator))
    return float(np.random.default_rng(seed).beta(alpha, alpha))


def _share(lam: float, images: Tensor) -> Tensor:
    """Return lambda once per row."""
    return torch.full((len(images),), lam, dtype=images.dtype, device=images.device)


def _to(values: Tensor, images: Tensor) -> Tensor:
    """Bring a tensor to the device of the images without waiting for it."""
    if images.is_cuda and not values.is_cuda:
        values = values.pin_memory()
    return values.to(images.device, non_blocking=True)


def _check_rows(images: Tensor, labels: Tensor) -> None:
    if labels.shape != images.shape[:1] or images.dim() != 4 or not images.is_floating_point():
        raise DataError(
            f"Images {tuple(images.shape)} of {images.dtype} and labels {tuple(labels.shape)} "
            "cannot be mixed.",
            "Images are floating point of shape (n, C, H, W), with one class index each.",
        )
