"""What the tests hold the library against: DAR-BN from the paper, and the mixed-batch step.

:func:`dar_bn_oracle` is written from the paper's description alone, in float64 with a loop over the
channels. :func:`mixed_batch` runs a converted model the slow way: natural and noise rows in one
batch, told apart by a mask in every layer. Beside them, a small net and images to try things on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from purenoise.darbn import NoiseRouting, dar_batch_norm

Array = NDArray[np.float64]


def small(norm: nn.Module | None = None) -> nn.Sequential:
    """Build a net that takes a moment to run."""
    norm = nn.BatchNorm2d(4) if norm is None else norm
    return nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(64, 10))


def images(n: int, size: int = 6, seed: int = 0) -> Tensor:
    """Draw float32 images."""
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


@dataclass
class Oracle:
    """Output, the running statistics after the step, and gradients for a given upstream one."""

    out: Array
    running_mean: Array
    running_var: Array
    grad_x: Array
    grad_weight: Array
    grad_bias: Array


def dar_bn_oracle(
    x: Array,
    is_noise: NDArray[np.bool_],
    running: tuple[Array, Array],
    weight: Array,
    bias: Array,
    upstream: Array,
    stop_gradient: str = "branch",
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Oracle:
    """Compute DAR-BN and its gradients channel by channel, by the textbook formulas.

    Args:
        x: Shape (N, C, ...).
        is_noise: Shape (N,).
        running: Mean and variance before the step, shape (C,).
        weight: gamma, shape (C,).
        bias: beta, shape (C,).
        upstream: Gradient of the loss with respect to the output, shape of ``x``.
        stop_gradient: ``branch``, ``affine`` or ``none``.
        training: Whether to use batch statistics.
        momentum: Of the running statistics.
        eps: Added to the variance.
    """
    out, grad_x = np.zeros_like(x), np.zeros_like(x)
    new_mean, new_var = running[0].copy(), running[1].copy()
    grad_weight, grad_bias = np.zeros_like(weight), np.zeros_like(bias)
    for c in range(x.shape[1]):
        for noise in (False, True):
            rows = is_noise == noise
            values, g = x[rows, c], upstream[rows, c]
            n = values.size
            if n == 0:
                continue
            if training:
                mean, var = values.sum() / n, ((values - values.sum() / n) ** 2).sum() / n
            else:
                mean, var = running[0][c], running[1][c]
            deviation = np.sqrt(var + eps)
            z = (values - mean) / deviation
            out[rows, c] = weight[c] * z + bias[c]
            if training and not noise:
                new_mean[c] = (1 - momentum) * running[0][c] + momentum * mean
                new_var[c] = (1 - momentum) * running[1][c] + momentum * var * n / (n - 1)
            if not noise or stop_gradient == "none":
                grad_weight[c] += (g * z).sum()
                grad_bias[c] += g.sum()
            if not noise or stop_gradient != "branch":
                centred = g - g.mean() - z * (g * z).mean() if training else g
                grad_x[rows, c] = weight[c] / deviation * centred
    return Oracle(out, new_mean, new_var, grad_x, grad_weight, grad_bias)


@contextmanager
def mixed_layers(model: nn.Module, is_noise: Tensor) -> Iterator[None]:
    """Let every DAR-BN layer of ``model`` take mixed batches, as the paper's listing does."""
    layers = [m for m in model.modules() if isinstance(m, NoiseRouting)]

    def mixed(layer: NoiseRouting, x: Tensor) -> Tensor:
        if layer.training and layer.num_batches_tracked is not None:
            layer.num_batches_tracked.add_(1)
        out = dar_batch_norm(
            x,
            is_noise,
            layer.running_mean,
            layer.running_var,
            layer.weight,
            layer.bias,
            layer.training or layer.running_mean is None,
            layer.momentum,
            layer.eps,
            layer.stop_gradient,
        )
        return layer.after_norm(out)

    for layer in layers:
        layer.forward = lambda x, layer=layer: mixed(layer, x)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def mixed_batch(model: nn.Module, natural: Tensor, noise: Tensor) -> Tensor:
    """Return the logits of natural and noise rows, run as one mixed batch with noise first."""
    is_noise = torch.arange(len(natural) + len(noise)) < len(noise)
    with mixed_layers(model, is_noise):
        logits = model(torch.cat([noise, natural]))
    return torch.cat([logits[len(noise) :], logits[: len(noise)]])
