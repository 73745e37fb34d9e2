"""DAR-BN: batch norm that normalises noise images with their own statistics.

Source: Zada, Benou & Irani, "Pure Noise to the Rescue of Insufficient Data", ICML 2022, section 4
and the listing in its appendix. In training, natural rows pass through ordinary batch norm, which
alone updates the running statistics; noise rows are normalised with *their own* mean and biased
variance and then take the *same* gamma and beta. Evaluation is ordinary batch norm.

The listing finds the noise rows of one mixed batch by a boolean index. We never mix the batch: the
model runs once on the natural rows and once, inside a noise pass (:mod:`purenoise.passes`), on the
noise rows. In the listing the whole noise branch runs without gradient
(``stop_gradient="branch"``), so what a batch norm returns for a noise row is a constant to autograd
and the two ways give the same update, while ours needs no mask, no index, no wait for the device
and almost no backward pass for noise.
:func:`dar_batch_norm` is the listing as a plain function; the tests hold the layers against it.

The paper can be read in two ways on where gradients stop, so that is a switch:

========== ===========================================================================
``branch``  nothing before the layer learns from noise (the listing; the default)
``affine``  only gamma and beta do not; convolutions learn from noise (the paper's figure)
``none``    nothing is stopped
========== ===========================================================================
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from purenoise.errors import ModelError, did_you_mean
from purenoise.exactness import refuse_checkpointing, refuse_many_processes
from purenoise.masked import masked_batch_norm
from purenoise.syncnorm import is_joined, process_count, synced_batch_norm, track

StopGradient = Literal["branch", "affine", "none"]


def check_stop_gradient(value: str) -> StopGradient:
    """Return ``value`` if it names a gradient stop.

    Raises:
        ModelError: If it does not.
    """
    known = get_args(StopGradient)
    if value not in known:
        raise ModelError(f"stop_gradient={value!r} is not known.", did_you_mean(value, known))
    return value  # type: ignore[return-value]


def noise_batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float = 1e-5,
    stop_gradient: StopGradient = "branch",
    running: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Normalise noise rows with their own statistics; touch no buffer.

    Args:
        x: Noise rows, shape (N, C) or (N, C, ...). One value per channel gives ``bias``.
        weight: gamma, shape (C,), or None.
        bias: beta, shape (C,), or None.
        eps: Added to the variance.
        stop_gradient: Where gradients stop, see the module's head.
        running: Mean and variance to use instead of the rows' own (a layer in ``eval()``).

    Returns:
        The normalised rows, shape of ``x``.

    Source: the noise branch of the paper's listing (biased variance, no running statistics).
    """
    if stop_gradient == "branch":
        x = x.detach()
    if stop_gradient != "none":
        weight = None if weight is None else weight.detach()
        bias = None if bias is None else bias.detach()
    if running is None and x.numel() == x.shape[1]:
        # A single value is its own mean; the kernel would leave rounding errors.
        shift = 0.0 if bias is None else bias.to(x.dtype).view(1, -1, *[1] * (x.dim() - 2))
        return x * 0.0 + shift
    mean, var = running if running is not None else (None, None)
    # torch.batch_norm, not F.batch_norm: the latter refuses what the paper's listing allows.
    return torch.batch_norm(
        x, weight, bias, mean, var, running is None, 0.0, eps, torch.backends.cudnn.enabled
    )


def dar_batch_norm(
    x: Tensor,
    is_noise: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    stop_gradient: StopGradient = "branch",
) -> Tensor:
    """Apply DAR-BN to one mixed batch, as the paper's listing does (slow; the reference).

    Args:
        x: Natural and noise rows in any order, shape (N, C) or (N, C, ...).
        is_noise: Which rows are noise, bool of shape (N,).
        running_mean: Updated in place from the natural rows when training, shape (C,).
        running_var: Likewise.
        weight: gamma, shape (C,), or None.
        bias: beta, shape (C,), or None.
        training: Whether to use batch statistics.
        momentum: Of the running statistics.
        eps: Added to the variance.
        stop_gradient: Where gradients stop, see the module's head.

    Returns:
        Normalised rows in their original order, shape of ``x``.

    Raises:
        ValueError: If training with one natural value per channel, as plain batch norm does.

    Source: appendix of Zada et al. 2022. Differs: the two other gradient stops.
    """
    natural = F.batch_norm(
        x[~is_noise], running_mean, running_var, weight, bias, training, momentum, eps
    )
    if not is_noise.any():
        return natural
    shape = (1, -1) + (1,) * (x.dim() - 2)  # (1, C, 1, ...)
    with torch.set_grad_enabled(torch.is_grad_enabled() and stop_gradient != "branch"):
        rows = x[is_noise]
        axes = [0, *range(2, x.dim())]
        if training or running_mean is None or running_var is None:
            mean, var = rows.mean(axes), rows.var(axes, unbiased=False)
        else:
            mean, var = running_mean, running_var
        noise = (rows - mean.view(shape)) / torch.sqrt(var.view(shape) + eps)
        frozen = stop_gradient != "none"
        if weight is not None:
            noise = noise * (weight.detach() if frozen else weight).view(shape)
        if bias is not None:
            noise = noise + (bias.detach() if frozen else bias).view(shape)
    out = torch.empty_like(x)
    out[~is_noise] = natural
    out[is_noise] = noise
    return out


# What a layer that was converted back must forget.
ROUTING = (
    "stop_gradient", "in_noise_pass", "row_kinds", "synchronised", "_grad_at_entry", "_watched"
)  # fmt: skip


class NoiseRouting(_BatchNorm):
    """What turns a batch norm class into its DAR-BN form; comes before it in the bases.

    Outside :func:`purenoise.noise_pass` the parent's ``forward`` runs and nothing else, so training
    on natural rows and evaluation are bit-equal to the parent, with the same state dict.
    """

    stop_gradient: StopGradient = "branch"
    in_noise_pass: bool = False
    synchronised: bool = False  # over processes; see purenoise.syncnorm
    _grad_at_entry: bool = False
    _watched: bool = False
    row_kinds: Tensor | None = None  # of one mixed batch; see purenoise.passes.MaskedPass

    def forward(self, x: Tensor) -> Tensor:
        """Normalise natural rows, noise rows in a noise pass, or rows of given kinds."""
        if self.row_kinds is not None:
            return self._masked(x, self.row_kinds)
        spans = self.spans_processes
        if not self.in_noise_pass:
            return self._synced_natural(x) if spans else super().forward(x)
        if not torch.compiler.is_compiling():
            refuse_checkpointing(self._grad_at_entry)
        self._check_input_dim(x)
        if spans:
            return self.after_norm(self._synced_noise(x))
        running = None
        if not self.training and self.running_mean is not None and self.running_var is not None:
            running = (self.running_mean, self.running_var)
        out = noise_batch_norm(x, self.weight, self.bias, self.eps, self.stop_gradient, running)
        return self.after_norm(out)

    @property
    def _group(self) -> Any:
        """The processes that a SyncBatchNorm was given; None: all."""
        return getattr(self, "process_group", None)

    @property
    def spans_processes(self) -> bool:
        """Whether the statistics of a training pass are taken over several processes."""
        if not (self.synchronised and self.training):
            return False
        # torch's own form refuses CPUs wherever processes are joined, also for one alone.
        alone_too = isinstance(self, nn.SyncBatchNorm) and is_joined()
        return alone_too or process_count(self._group) > 1

    def _synced_natural(self, x: Tensor) -> Tensor:
        """Normalise natural rows with the statistics of all processes, and keep those."""
        self._check_input_dim(x)
        out, seen = synced_batch_norm(x, self.weight, self.bias, self.eps, self._group)
        if seen.n.device.type == "cpu" and seen.n == 1:  # on a GPU, asking would wait for it
            raise ValueError(f"Expected more than 1 value per channel when training, got {x.shape}")
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        if self.running_mean is not None and self.running_var is not None:
            momentum: float | Tensor | None = self.momentum
            if momentum is None:  # a cumulative average
                assert self.num_batches_tracked is not None
                momentum = 1.0 / self.num_batches_tracked.to(x.device, torch.float64)
            track(seen, self.running_mean, self.running_var, momentum)
        return self.after_norm(out)

    def _synced_noise(self, x: Tensor) -> Tensor:
        """Normalise noise rows with the statistics of all processes; touch no buffer."""
        if self.stop_gradient == "branch":
            x = x.detach()
        pair = (self.weight, self.bias)
        if self.stop_gradient != "none":
            pair = tuple(None if p is None else p.detach() for p in pair)  # type: ignore[assignment]
        return synced_batch_norm(x, *pair, self.eps, self._group)[0]

    def _masked(self, x: Tensor, kinds: Tensor) -> Tensor:
        """Normalise one mixed batch; counts batches and averages as the parent does."""
        if self.synchronised:
            refuse_many_processes()
        self._check_input_dim(x)
        momentum: float | Tensor = 0.0 if self.momentum is None else self.momentum
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:  # a cumulative average
                exact = torch.float32 if x.device.type == "mps" else torch.float64
                momentum = 1.0 / self.num_batches_tracked.to(x.device, exact)
        out = masked_batch_norm(
            x, kinds, self.running_mean, self.running_var, self.weight, self.bias,
            self.training, momentum, self.eps, self.stop_gradient,
        )  # fmt: skip
        return self.after_norm(out)

    def after_norm(self, x: Tensor) -> Tensor:
        """Apply what the parent applies after normalising (nothing, for plain batch norm)."""
        return x

    def extra_repr(self) -> str:
        """Return the parent's description and the gradient stop."""
        return f"{super().extra_repr()}, stop_gradient={self.stop_gradient!r}"


class _PlainInit(NoiseRouting):
    """The constructor that the DAR-BN forms of torch's own classes share."""

    def __init__(self, *args: Any, stop_gradient: StopGradient = "branch", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stop_gradient = check_stop_gradient(stop_gradient)


class DARBatchNorm1d(_PlainInit, nn.BatchNorm1d):
    """DAR-BN over (N, C) or (N, C, L); arguments and state dict of ``nn.BatchNorm1d``."""


class DARBatchNorm2d(_PlainInit, nn.BatchNorm2d):
    """DAR-BN over (N, C, H, W); arguments and state dict of ``nn.BatchNorm2d``.

    Example:
        >>> layer = DARBatchNorm2d(3)
        >>> natural = layer(torch.randn(8, 3, 4, 4))
        >>> from purenoise.passes import noise_pass
        >>> with noise_pass(layer):
        ...     noise = layer(torch.randn(2, 3, 4, 4))
        >>> int(layer.num_batches_tracked), noise.requires_grad
        (1, False)
    """


class DARBatchNorm3d(_PlainInit, nn.BatchNorm3d):
    """DAR-BN over (N, C, D, H, W); arguments and state dict of ``nn.BatchNorm3d``."""


class DARSyncBatchNorm(_PlainInit, nn.SyncBatchNorm):
    """DAR-BN synchronised over processes, natural and noise rows apart, on CPUs too.

    In one process it is ``nn.SyncBatchNorm``, whose arguments and state dict it has.
    """

    synchronised = True
