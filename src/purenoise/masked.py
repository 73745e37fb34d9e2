"""DAR-BN over one mixed batch of a fixed shape: no index, no branch, no wait for the device.

The paper's listing picks rows by a boolean index, so shapes depend on the data: a device has to be
waited for in every layer and a compiler gives up. Here each row carries its kind in a tensor, both
groups get their statistics by sums over masked rows, and nothing depends on how many rows are
noise. That is what ``torch.compile`` with static shapes needs. Rows of the third kind, padding,
keep the shape when a batch is short; they enter no statistics and come out as beta.

Differs from the listing: a natural group with a single value per channel gives beta, as nothing
here can look at a count and raise; an empty group leaves the running statistics as they were. A
layer counts a batch without natural rows all the same, as torch's own does with 0 rows and as two
passes do: with ``momentum=None`` later batches then weigh a little less.
"""

from __future__ import annotations

import torch
from torch import Tensor

NATURAL, NOISE, PADDING = 0, 1, 2


def row_kinds(n_natural: int, n_noise: int, rows: int, device: torch.device | str) -> Tensor:
    """Return the kinds of a batch with natural rows first, then noise, then padding.

    Args:
        n_natural: Number of natural rows.
        n_noise: Number of noise rows.
        rows: Number of all rows.
        device: Where the result lies.

    Returns:
        int8, shape (rows,).

    Example:
        >>> row_kinds(2, 1, 4, "cpu").tolist()
        [0, 0, 1, 2]
    """
    kinds = torch.full((rows,), PADDING, dtype=torch.int8, device=device)
    kinds[:n_natural] = NATURAL
    kinds[n_natural : n_natural + n_noise] = NOISE
    return kinds


def masked_batch_norm(
    x: Tensor,
    kinds: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = True,
    momentum: float | Tensor = 0.1,
    eps: float = 1e-5,
    stop_gradient: str = "branch",
) -> Tensor:
    """Apply DAR-BN to one mixed batch without looking at the number of rows of each kind.

    Args:
        x: Rows in any order, shape (N, C) or (N, C, ...). Every value must be finite, also in
            padding rows: 0 times infinity would spoil the sums.
        kinds: ``NATURAL``, ``NOISE`` or ``PADDING`` for each row, shape (N,), any integer type.
        running_mean: Updated in place from the natural rows when training, shape (C,).
        running_var: Likewise, with the unbiased variance.
        weight: gamma, shape (C,), or None.
        bias: beta, shape (C,), or None.
        training: Whether to use batch statistics.
        momentum: Of the running statistics.
        eps: Added to the variance.
        stop_gradient: ``branch``, ``affine`` or ``none``, see :mod:`purenoise.darbn`.

    Returns:
        Normalised rows in their order, shape and dtype of ``x``.

    Example:
        >>> x, kinds = torch.randn(6, 3, 4, 4), torch.tensor([0, 0, 0, 1, 1, 2])
        >>> out = masked_batch_norm(x, kinds, None, None)
        >>> bool(out[3:5].mean((0, 2, 3)).abs().max() < 1e-5)
        True

    Source: Zada et al. 2022, appendix. Statistics are taken mean first, then variance, in float32
    or better: one pass over x and x^2 has 2.9 % error in the variance at mean 30, deviation 0.05.
    """
    wide = x if x.dtype == torch.float64 else x.float()
    values = wide.flatten(2) if x.dim() > 2 else wide[:, :, None]  # (N, C, L)
    natural, noise = (kinds == NATURAL)[:, None], (kinds == NOISE)[:, None]  # (N, 1)
    shares = torch.stack([natural, noise]).to(values.dtype)  # (2, N, 1)
    if training or running_mean is None or running_var is None:
        size = shares.sum((1, 2)) * values.shape[2]  # values per channel in each group, (2,)
        count = size.clamp_min(1)[:, None]
        mean = (shares * values.sum(2)).sum(1) / count  # (2, C)
        centred = values - _of_rows(mean, natural, noise)[:, :, None]
        var = (shares * centred.square().sum(2)).sum(1) / count  # (2, C), biased
        if running_mean is not None and running_var is not None:
            _update(running_mean, running_var, mean[0], var[0], size[0], momentum)
    else:
        mean, var = (
            running.to(values.dtype).expand(2, -1) for running in (running_mean, running_var)
        )
        centred = values - _of_rows(mean, natural, noise)[:, :, None]
    scale = _of_rows(torch.rsqrt(var + eps), natural, noise)  # (N, C); 0 for padding
    frozen = noise & (stop_gradient != "none")
    if weight is not None:
        scale = scale * torch.where(frozen, weight.detach(), weight)
    out = centred * scale[:, :, None]
    if bias is not None:
        out = out + torch.where(frozen, bias.detach(), bias)[:, :, None]
    if stop_gradient == "branch":
        out = torch.where(noise[:, :, None], out.detach(), out)
    return out.reshape(x.shape).to(x.dtype)


def _of_rows(groups: Tensor, natural: Tensor, noise: Tensor) -> Tensor:
    """Return for each row what its group has; from (2, C) to (N, C), 0 for padding."""
    return torch.where(natural, groups[0], torch.where(noise, groups[1], 0.0))


@torch.no_grad()
def _update(
    running_mean: Tensor,
    running_var: Tensor,
    mean: Tensor,
    var: Tensor,
    size: Tensor,
    momentum: float | Tensor,
) -> None:
    """Move the running statistics towards those of the natural rows, unless there are none."""
    step = ((size > 0).to(running_mean.dtype) * momentum).to(running_mean.dtype)
    unbiased = var * (size / (size - 1).clamp_min(1))
    running_mean.lerp_(mean.to(running_mean.dtype), step)
    running_var.lerp_(unbiased.to(running_var.dtype), step)
