"""Batch norm whose statistics are those of the rows of all processes.

N processes with B/N rows each then compute what one computes with B. torch's ``SyncBatchNorm``
refuses tensors on CPUs and knows one kind of rows only; this works on both, for natural rows and
for noise rows (:mod:`purenoise.darbn`), with unequal numbers of rows and with none at all.

Each process sends mean, sum of squared deviations and number of its rows; they are joined as in
Chan, Golub & LeVeque 1979, which does not subtract large numbers. The backward pass sums, over all
processes, the two terms that batch norm's gradient needs. Every process must run the same layers in
the same order, also with 0 rows, or the others wait for it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor


class Statistics(NamedTuple):
    """Of the rows of all processes.

    Args:
        mean: Shape (C,).
        var: Biased, shape (C,).
        n: Values per channel, a scalar.
    """

    mean: Tensor
    var: Tensor
    n: Tensor


def is_joined() -> bool:
    """Whether this process is one of ``torch.distributed``, be it alone there."""
    return dist.is_available() and dist.is_initialized()


def process_count(group: Any = None) -> int:
    """Return how many processes there are in a group; 1 where nothing is distributed."""
    return dist.get_world_size(group) if is_joined() else 1


def synced_batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float = 1e-5,
    group: Any = None,
) -> tuple[Tensor, Statistics]:
    """Normalise rows with the statistics of the rows of all processes.

    Args:
        x: This process's rows, shape (N, C) or (N, C, ...); N may be 0.
        weight: gamma, shape (C,), or None.
        bias: beta, shape (C,), or None.
        eps: Added to the variance.
        group: Of ``torch.distributed``; None: all processes.

    Returns:
        The normalised rows, shape and dtype of ``x``, and the statistics, without gradient.
    """
    values = x if x.dtype in (torch.float32, torch.float64) else x.float()
    normal, mean, var, n = _Normalise.apply(values, eps, group)
    shape = (1, -1) + (1,) * (x.dim() - 2)  # (1, C, 1, ...)
    if weight is not None:
        normal = normal * weight.to(values.dtype).view(shape)
    if bias is not None:
        normal = normal + bias.to(values.dtype).view(shape)
    return normal.to(x.dtype), Statistics(mean, var, n)


@torch.no_grad()
def track(
    seen: Statistics, running_mean: Tensor, running_var: Tensor, momentum: float | Tensor
) -> None:
    """Move running statistics towards what was seen, in place; from no rows nothing is learnt.

    Args:
        seen: From :func:`synced_batch_norm`.
        running_mean: Shape (C,).
        running_var: Unbiased, shape (C,).
        momentum: Share of what was seen, as in ``nn.BatchNorm2d``.
    """
    unbiased = seen.var * (seen.n / (seen.n - 1).clamp_min(1))
    for running, value in ((running_mean, seen.mean), (running_var, unbiased)):
        moved = running + momentum * (value.to(running.dtype) - running)
        running.copy_(torch.where(seen.n > 0, moved, running))


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(var + eps) over the rows of all processes."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, eps: float, group: Any
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mean, var, n = _statistics(x, group)
        ctx.group = group
        shape = (1, -1) + (1,) * (x.dim() - 2)
        inverse = (var + eps).rsqrt()
        normal = (x - mean.view(shape)) * inverse.view(shape)
        ctx.save_for_backward(normal, inverse, n)
        ctx.mark_non_differentiable(mean, var, n)
        return normal, mean, var, n

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, None, None]:
        normal, inverse, n = ctx.saved_tensors
        axes = [0, *range(2, grad.dim())]
        sums = torch.stack([grad.sum(axes), (grad * normal).sum(axes)])  # (2, C)
        dist.all_reduce(sums, group=ctx.group)
        shape = (1, -1) + (1,) * (grad.dim() - 2)
        of_mean, of_var = (part.view(shape) for part in sums / n.clamp_min(1))
        return (grad - of_mean - normal * of_var) * inverse.view(shape), None, None


def _statistics(x: Tensor, group: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean (C,), biased variance (C,) and number of values over all processes."""
    axes, channels = [0, *range(2, x.dim())], x.shape[1]
    n = x.numel() // channels
    if n:
        var, mean = torch.var_mean(x, axes, correction=0)
    else:
        var = mean = x.new_zeros(channels)
    own = torch.cat([mean, var * n, x.new_full((1,), float(n))])  # (2C + 1,)
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size(group))]
    dist.all_gather(parts, own, group=group)
    means, squares, counts = torch.stack(parts).split([channels, channels, 1], 1)
    total = counts.sum()
    mean = (means * counts).sum(0) / total.clamp_min(1)
    between = (counts * (means - mean) ** 2).sum(0)
    return mean, (squares.sum(0) + between) / total.clamp_min(1), total
