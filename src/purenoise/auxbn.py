"""Auxiliary batch norm: noise rows have a gamma, a beta and running statistics of their own.

Source: Xie et al. 2020 (AdvProp), "auxiliary batch norm", with noise in the place of adversarial
images; Zada et al. 2022 hold DAR-BN against it. In a noise pass every batch norm works on a second
set of parameters and statistics; outside of it, and in evaluation, on its own. Gradients flow: the
loss of the noise rows trains the convolutions and the second gamma and beta.

A layer keeps its class and its code. Its second set lies in a child module and is *exchanged* with
its own for the length of a noise pass, so that normalising is torch's (or timm's) in every case.
The second set starts as the layer's own is when noise begins (:func:`begin_auxiliary`), and rests
in steps without noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from purenoise.conversion import dar_layers, refuse_unknown, route
from purenoise.darbn import StopGradient
from purenoise.errors import ModelError
from purenoise.exactness import refuse_checkpointing, refuse_many_processes
from purenoise.twopass import Call, logits_of, natural_logits

CHILD = "auxiliary"

BatchNorm = Literal["dar", "shared", "auxiliary"]


class SecondSet(nn.Module):
    """A second set of what a batch norm learns and keeps.

    Args:
        layer: Whose set is copied.
    """

    def __init__(self, layer: _BatchNorm) -> None:
        super().__init__()
        for name, value in layer._parameters.items():
            copied = None if value is None else nn.Parameter(value.detach().clone())
            if copied is not None and value is not None:
                copied.requires_grad_(value.requires_grad)
            self.register_parameter(name, copied)
        for name, buffer in layer._buffers.items():
            self.register_buffer(name, None if buffer is None else buffer.detach().clone())

    @torch.no_grad()
    def copy_from(self, layer: _BatchNorm) -> None:
        """Take the values that the layer has now."""
        pairs: list[tuple[dict[str, Any], dict[str, Any]]] = [
            (self._parameters, layer._parameters),
            (self._buffers, layer._buffers),
        ]
        for mine, others in pairs:
            for name, value in others.items():
                kept = mine[name]
                if value is not None and kept is not None:
                    kept.copy_(value)

    def exchange(self, layer: _BatchNorm) -> None:
        """Exchange this set with that of its layer; twice is nothing."""
        for name in self._parameters:
            own = layer._parameters[name]
            layer._parameters[name], self._parameters[name] = self._parameters[name], own
        for name in self._buffers:
            kept = layer._buffers[name]
            layer._buffers[name], self._buffers[name] = self._buffers[name], kept


def add_auxiliary(model: nn.Module) -> nn.Module:
    """Give every batch norm of a model a second set for noise, in place.

    Args:
        model: Any module with known batch norms, see :func:`purenoise.convert`.

    Returns:
        ``model`` itself. Its state dict has more keys; without a noise pass it computes bit for bit
        what it did.

    Raises:
        ModelError: If a layer keeps running statistics in a way that is not known, or was converted
            to DAR-BN.

    Example:
        >>> model = add_auxiliary(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)))
        >>> sorted(key for key in model.state_dict() if "auxiliary" in key)[0]
        '1.auxiliary.bias'
    """
    if all(CHILD in layer._modules for layer in _batch_norms(model)):
        return model
    refuse_unknown(model)
    if dar_layers(model):
        raise ModelError(
            "The model is converted to DAR-BN, and cannot have auxiliary batch norms as well.",
            "Call purenoise.revert(model) first.",
        )
    for layer in _batch_norms(model):
        if CHILD not in layer._modules:
            layer.add_module(CHILD, SecondSet(layer))
    return model


def begin_auxiliary(model: nn.Module) -> None:
    """Let the second sets begin where the layers are now, after training without noise.

    From their first values (gamma 1, mean 0) a network whose other weights are trained would see
    noise rows as nothing like what it was trained on.

    Args:
        model: After :func:`add_auxiliary`; of another nothing is changed.
    """
    for layer in _batch_norms(model):
        second = layer._modules.get(CHILD)
        if isinstance(second, SecondSet):
            second.copy_from(layer)


def drop_auxiliary(model: nn.Module) -> nn.Module:
    """Take the second sets away, in place: what is left is the plain network.

    Returns:
        ``model`` itself; what it says in evaluation is unchanged.

    Example:
        >>> model = drop_auxiliary(add_auxiliary(nn.Sequential(nn.BatchNorm2d(8))))
        >>> sorted(model.state_dict())[:2]
        ['0.bias', '0.num_batches_tracked']
    """
    for layer in _batch_norms(model):
        layer._modules.pop(CHILD, None)
    return model


@contextmanager
def auxiliary_pass(model: nn.Module) -> Iterator[None]:
    """Let the batch norms of ``model`` work on their second sets.

    Raises:
        ModelError: If a batch norm has none, if activation checkpointing runs inside, or if
            synchronised batch norm runs in several processes.
    """
    layers = _batch_norms(model)
    missing = sum(CHILD not in layer._modules for layer in layers)
    if missing:
        raise ModelError(
            f"{missing} batch norms have no second set for noise.",
            "Call purenoise.auxbn.add_auxiliary(model) first.",
        )
    refuse_many_processes()
    recording = torch.is_grad_enabled()
    hooks = [
        layer.register_forward_pre_hook(lambda *_: refuse_checkpointing(recording))
        for layer in layers
    ]
    _exchange(layers)
    try:
        yield
    finally:
        _exchange(layers)
        for hook in hooks:
            hook.remove()


class AuxiliaryPass(nn.Module):
    """A model whose one ``forward`` takes natural rows, then noise rows with their second sets.

    Args:
        model: After :func:`add_auxiliary`, or one without batch norm.
        call: See :func:`purenoise.two_pass`.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3))
        >>> step = AuxiliaryPass(add_auxiliary(net))
        >>> step(torch.randn(6, 1, 2, 2), torch.randn(2, 1, 2, 2)).shape
        torch.Size([8, 3])
    """

    def __init__(self, model: nn.Module, call: Call | None = None) -> None:
        super().__init__()
        self.model, self.call = model, call or (lambda model, x: model(x))

    def forward(self, natural: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return logits of shape (N + M, classes), natural rows first."""
        logits = natural_logits(self.call, self.model, natural)
        if noise is None or len(noise) == 0:
            return logits
        with auxiliary_pass(self.model):
            try:
                of_noise = logits_of(self.call(self.model, noise))
            except ValueError as error:
                if "more than 1 value" not in str(error):
                    raise
                raise ModelError(
                    f"A batch has one noise image, too few for auxiliary batch norm: {error}.",
                    "Use larger batches, or batch_norm=dar, which can do with one.",
                ) from error
        return torch.cat([logits, of_noise])  # (N + M, classes)


class SharedPass(nn.Module):
    """A model whose one ``forward`` takes natural and noise rows as one batch, kinds unknown to it.

    Batch norm then has one set of statistics over all rows, and the running ones hold noise too.

    Args:
        model: Any classifier.
        call: See :func:`purenoise.two_pass`.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3))
        >>> SharedPass(net)(torch.randn(6, 1, 2, 2), torch.randn(2, 1, 2, 2)).shape
        torch.Size([8, 3])
    """

    def __init__(self, model: nn.Module, call: Call | None = None) -> None:
        super().__init__()
        self.model, self.call = model, call or (lambda model, x: model(x))

    def forward(self, natural: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return logits of shape (N + M, classes), natural rows first."""
        rows = natural if noise is None else torch.cat([natural, noise])
        return logits_of(self.call(self.model, rows))


def fit_batch_norm(
    model: nn.Module, kind: BatchNorm, stop_gradient: StopGradient = "branch"
) -> nn.Module:
    """Make a plain model ready for steps with noise, in place.

    Args:
        model: With plain batch norms.
        kind: ``dar`` (:func:`purenoise.convert`), ``auxiliary`` (:func:`add_auxiliary`) or
            ``shared`` (nothing to do).
        stop_gradient: Of ``dar``.

    Raises:
        ModelError: If a layer keeps running statistics in a way that is not known.

    Example:
        >>> type(fit_batch_norm(nn.BatchNorm2d(8), "dar")).__name__
        'DARBatchNorm2d'
    """
    if kind == "dar":
        route(model, stop_gradient)
    elif kind == "auxiliary":
        add_auxiliary(model)
    return model


def _batch_norms(model: nn.Module) -> list[_BatchNorm]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def _exchange(layers: list[_BatchNorm]) -> None:
    for layer in layers:
        second = layer._modules[CHILD]
        assert isinstance(second, SecondSet)
        second.exchange(layer)
