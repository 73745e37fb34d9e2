"""Classifiers adjusted after training: priors of classes, and the lengths of weight vectors.

Logit adjustment: a network that was trained on classes with shares pi says z; z - tau log pi is
what it would say if all classes were equally common, and adding the logarithm of other shares turns
it to those. Source: Menon et al. 2021, equation 9. tau-normalisation: frequent classes have longer
weight vectors, so each is divided by its length to the power of tau, and the bias is left out.
Source: Kang et al. 2020, section 4.

Both can be folded into the last linear layer, so that what is saved is an ordinary network. Nothing
here is fitted to data.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize

from purenoise.errors import DataError, ModelError, RecipeError
from purenoise.twopass import logits_of


def check_prior(prior: ArrayLike, name: str = "prior") -> NDArray[np.float64]:
    """Return class shares that sum to 1.

    Args:
        prior: Shares or counts of the classes, shape (C,), each above 0.
        name: What to call them in a message.

    Returns:
        float64, shape (C,).

    Raises:
        DataError: If they are not finite numbers above 0, one for each class.

    Example:
        >>> check_prior([30, 10]).tolist()
        [0.75, 0.25]
    """
    try:
        p = np.asarray(prior, np.float64)
    except (TypeError, ValueError):
        p = np.zeros(0)
    if p.ndim != 1 or len(p) == 0 or not (np.isfinite(p) & (p > 0)).all():
        raise DataError(
            f"The {name} must have one finite number above 0 for each class, got {prior!r}.",
            "A class that never occurs has no logarithm: give it a small share, or leave it out.",
        )
    return p / p.sum()


def prior_shift(
    train_prior: ArrayLike, target_prior: ArrayLike | None = None, tau: float = 1.0
) -> NDArray[np.float64]:
    """Return what logit adjustment adds to the logit of each class.

    Args:
        train_prior: Shares or counts of the classes in training, shape (C,).
        target_prior: Those where the network will be used; None: all equal, which changes no
            prediction, so that nothing is added for it.
        tau: Strength, at least 0; 1 follows from Bayes' rule, 0 leaves the training prior in.

    Returns:
        -tau log(train_prior) + log(target_prior), float64, shape (C,).

    Raises:
        DataError: If a prior cannot be used, or the two have different lengths.
        RecipeError: If tau is negative or not finite.

    Example:
        >>> prior_shift([3, 1]).round(3).tolist()
        [0.288, 1.386]
    """
    shift = -check_tau(tau) * np.log(check_prior(train_prior, "training prior"))
    if target_prior is None:
        return shift
    target = check_prior(target_prior, "target prior")
    if len(target) != len(shift):
        raise DataError(
            f"The target prior has {len(target)} classes, and the training prior {len(shift)}."
        )
    return shift + np.log(target)


def adjust_logits(
    logits: Tensor,
    train_prior: ArrayLike,
    target_prior: ArrayLike | None = None,
    tau: float = 1.0,
) -> Tensor:
    """Adjust logits to another class prior than that of training.

    Args:
        logits: Shape (..., C).
        train_prior: See :func:`prior_shift`.
        target_prior: Likewise.
        tau: Likewise.

    Returns:
        logits - tau log(train_prior) + log(target_prior), shape and dtype of ``logits``.

    Raises:
        DataError: See :func:`prior_shift`; also if the logits are of another number of classes.
        RecipeError: If tau is negative or not finite.

    Example:
        >>> adjust_logits(torch.zeros(1, 2), [9, 1]).argmax(1).item()
        1

    Source: Menon et al. 2021, equation 9, for ``target_prior=None``.
    """
    shift = prior_shift(train_prior, target_prior, tau)
    if logits.dim() == 0 or logits.shape[-1] != len(shift):
        raise DataError(
            f"The logits have shape {tuple(logits.shape)}, and the prior {len(shift)} classes."
        )
    return logits + torch.from_numpy(shift).to(logits)


def tau_normalize(weight: Tensor, tau: float = 1.0) -> Tensor:
    """Divide the weight vector of each class by its length to the power of tau.

    Args:
        weight: One row per class, shape (C, D).
        tau: At least 0; 0 changes nothing, 1 makes all vectors equally long.

    Returns:
        Shape and dtype of ``weight``; a vector of zeros stays as it is.

    Raises:
        RecipeError: If tau is negative or not finite.

    Example:
        >>> tau_normalize(torch.tensor([[3.0, 4.0], [0.0, 2.0]])).tolist()
        [[0.6000000238418579, 0.800000011920929], [0.0, 1.0]]

    Source: Kang et al. 2020, section 4, tau-normalised classifier.
    """
    check_tau(tau)
    lengths = weight.double().norm(dim=1, keepdim=True)  # (C, 1)
    factor = torch.where(lengths > 0, lengths, 1.0) ** -tau
    return (weight.double() * factor).to(weight.dtype)


def check_tau(tau: float) -> float:
    """Return ``tau`` if it can be a strength.

    Raises:
        RecipeError: If it is negative or not finite.
    """
    if isinstance(tau, str | bool) or not (math.isfinite(tau) and tau >= 0):
        raise RecipeError(f"tau is {tau!r}, and must be a number from 0 on.", "1 is the usual one.")
    return float(tau)


@torch.no_grad()
def fold_shift(head: nn.Linear, shift: ArrayLike) -> None:
    """Add a number per class to the bias of a linear layer, in place.

    Args:
        head: The last layer, see :func:`head_of`.
        shift: Shape (C,), such as :func:`prior_shift` gives.

    Raises:
        ModelError: If the layer has no bias.
        DataError: If ``shift`` is of another number of classes.

    Example:
        >>> head = nn.Linear(4, 2)
        >>> fold_shift(head, prior_shift([9, 1]))
    """
    if head.bias is None:
        raise ModelError(
            "The last linear layer has no bias, which the shift of the logits would go into.",
            "Adjust the logits themselves, or choose a model whose last layer has a bias.",
        )
    values = torch.from_numpy(np.asarray(shift, np.float64))
    if values.shape != head.bias.shape:
        raise DataError(
            f"The shift has shape {tuple(values.shape)}, and the last layer {len(head.bias)} "
            "classes."
        )
    head.bias.add_(values.to(head.bias))


@torch.no_grad()
def fold_tau(head: nn.Linear, tau: float = 1.0) -> None:
    """Normalise the weights of a linear layer by :func:`tau_normalize`, in place; its bias is 0.

    Args:
        head: The last layer, see :func:`head_of`.
        tau: See :func:`tau_normalize`.

    Raises:
        RecipeError: If tau is negative or not finite.

    Example:
        >>> head = nn.Linear(4, 2)
        >>> fold_tau(head)
        >>> head.weight.norm(dim=1).tolist(), head.bias.tolist()
        ([1.0, 1.0], [0.0, 0.0])

    Source: Kang et al. 2020, section 4: the bias is left out.
    """
    head.weight.copy_(tau_normalize(head.weight, tau))
    if head.bias is not None:
        head.bias.zero_()


def last_layer(model: nn.Module, shape: Sequence[int]) -> tuple[str, nn.Module]:
    """Return the layer whose output is the model's output, with its name.

    It is found by running the model on two made-up images: a layer counts only if the very tensor
    that it returned is what the model returned, so nothing that comes after it is overlooked.

    Args:
        model: A classifier; left as it is.
        shape: Channels, height and width of its images.

    Returns:
        Name and layer: of several, one inside the other, the innermost that has weights.

    Raises:
        ModelError: If there is none.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> last_layer(net, (1, 2, 2))[0]
        '1'
    """
    returned: dict[str, list[object]] = {}
    layers = {name: m for name, m in model.named_modules() if name and _has_weights(m)}
    hooks = [
        layer.register_forward_hook(
            lambda _module, _inputs, out, name=name: returned.setdefault(name, []).append(out)
        )
        for name, layer in layers.items()
    ]
    try:
        with _looking_at(model):
            output = logits_of(model(_made_up(model, shape)))
    finally:
        for hook in hooks:
            hook.remove()
    found = [name for name, outs in returned.items() if len(outs) == 1 and outs[0] is output]
    if not found:
        raise ModelError(
            f"{type(model).__name__} does not end in one layer with weights whose output is its "
            "own output, so it has no head that could be adjusted or trained alone.",
            "Choose a model that ends in a linear layer, such as resnet32.",
        )
    return found[0], layers[found[0]]  # an inner layer returns before an outer one


def head_of(model: nn.Module, shape: Sequence[int]) -> nn.Linear:
    """Return the last linear layer of a classifier, found safely.

    Args:
        model: A classifier; left as it is.
        shape: Channels, height and width of its images.

    Returns:
        The layer itself: what is changed in it changes the model.

    Raises:
        ModelError: If the model does not end in a linear layer (see :func:`last_layer`), such as
            one with a cosine classifier, whose weight vectors have no length and no bias.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> head_of(net, (1, 2, 2)) is net[1]
        True
    """
    name, layer = last_layer(model, shape)
    if not isinstance(layer, nn.Linear):
        raise ModelError(
            f"The last layer, {name}, is {type(layer).__name__} and not a linear layer: it has no "
            "lengths of weight vectors and no bias to work on.",
            "Choose a loss without a cosine classifier (ldam has one), or a model that ends in a "
            "linear layer.",
        )
    probe = torch.linspace(-1, 1, 2 * layer.in_features).view(2, -1).to(layer.weight)
    with torch.no_grad():
        plain = torch.allclose(layer(probe), F.linear(probe, layer.weight, layer.bias))
    if not plain or parametrize.is_parametrized(layer):
        raise ModelError(
            f"The last layer, {name}, is {type(layer).__name__}, which is more than a product with "
            "its weights and a bias.",
            "Remove what was put around its weights, or choose a model that ends in nn.Linear.",
        )
    return layer


def _has_weights(module: nn.Module) -> bool:
    """Whether the module itself, and not only a part of it, has weights."""
    return parametrize.is_parametrized(module) or any(
        True for _ in module.parameters(recurse=False)
    )


def _made_up(model: nn.Module, shape: Sequence[int]) -> Tensor:
    """Two images in the model's precision and place."""
    first = next(model.parameters())
    values = torch.linspace(-1, 1, 2 * math.prod(shape), dtype=first.dtype, device=first.device)
    return values.view(2, *shape)


@contextmanager
def _looking_at(model: nn.Module) -> Iterator[None]:
    """Evaluate without gradients, and give every module its own mode back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
