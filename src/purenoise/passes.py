"""The noise pass: a stretch of code in which a model's DAR-BN layers take their rows for noise.

A noise pass is exact only if nothing else in the model keeps statistics, so entering one looks at
every module. Over one model, step after step, a :class:`NoisePass` does that once and later only
sees whether the modules are still the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from purenoise.darbn import NoiseRouting
from purenoise.exactness import BufferWatch, refuse_plain, unconverted


class NoisePass:
    """A noise pass over one model, to be entered in every step.

    Args:
        model: See :func:`noise_pass`.

    Example:
        >>> from purenoise.darbn import DARBatchNorm1d
        >>> layer = DARBatchNorm1d(2)
        >>> noise = NoisePass(layer)
        >>> for _ in range(2):
        ...     with noise():
        ...         _ = layer(torch.randn(4, 2))
        >>> layer.running_mean
        tensor([0., 0.])
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._modules: list[tuple[nn.Module, type[nn.Module]]] = []

    def _look(self) -> None:
        """Find what matters among the modules, unless they are those of the last time."""
        # Modules compare by identity, and conversion gives a module another class.
        modules = [(module, type(module)) for module in self.model.modules()]
        if modules == self._modules:
            return
        self._plain = unconverted(self.model, NoiseRouting)
        self._layers = [module for module, _ in modules if isinstance(module, NoiseRouting)]
        self._watch = BufferWatch(self.model, self._layers)
        self._modules = modules

    @property
    def spans_processes(self) -> bool:
        """Whether other processes wait for this one in the pass, also where it has no rows."""
        self._look()
        return any(layer.spans_processes for layer in self._layers)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Enter the pass.

        Raises:
            ModelError: See :func:`noise_pass`.
        """
        self._look()
        refuse_plain(self._plain)
        layers = self._layers
        before = [(layer.in_noise_pass, layer._grad_at_entry) for layer in layers]
        first = any(not layer._watched for layer in layers)
        seen = self._watch.read(values=first)
        recording = torch.is_grad_enabled()
        for layer in layers:
            layer.in_noise_pass, layer._grad_at_entry = True, recording
        try:
            yield
        finally:
            for layer, (inside, recording) in zip(layers, before, strict=True):
                layer.in_noise_pass, layer._grad_at_entry = inside, recording
        self._watch.refuse_changed(seen)
        if first:
            for layer in layers:
                layer._watched = True


@contextmanager
def noise_pass(model: nn.Module) -> Iterator[None]:
    """Let the DAR-BN layers of ``model`` treat what they are given as noise rows.

    Args:
        model: A converted model (:func:`purenoise.convert`). A model without batch norm may be
            given too: it then learns from noise like from any image.

    Raises:
        ModelError: If a batch norm in training mode was not converted, if activation checkpointing
            runs inside the pass (its recomputation would come after the pass and change the
            running statistics), if the model is a ``ScriptModule`` or wrapped in
            ``DistributedDataParallel``, or if a buffer changed during the pass (named): a layer
            that keeps state of its own saw noise.

    Example:
        >>> from purenoise.darbn import DARBatchNorm1d
        >>> layer = DARBatchNorm1d(2)
        >>> with noise_pass(layer):
        ...     _ = layer(torch.randn(4, 2))
        >>> layer.running_mean
        tensor([0., 0.])
    """
    with NoisePass(model)():
        yield
