"""The two-pass step: natural rows and noise rows through one model, logits in one tensor.

``a = model(natural)``, then ``b = model(noise)`` inside :func:`purenoise.noise_pass`, then one loss
over both. :class:`TwoPass` does both in a single ``forward``, which is what
``DistributedDataParallel`` and ``torch.compile`` need.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from purenoise.errors import ModelError
from purenoise.passes import NoisePass

Call = Callable[[nn.Module, Tensor], Any]


def logits_of(output: Any) -> Tensor:
    """Return the logits in what a model returned: a tensor, or an object or dict with ``logits``.

    Raises:
        ModelError: If there are none, or if auxiliary logits come along (they would be dropped).
    """
    if isinstance(output, Tensor):
        return output
    parts = output if isinstance(output, Mapping) else getattr(output, "__dict__", {})
    if hasattr(output, "_asdict"):  # a named tuple, such as torchvision's InceptionOutputs
        parts = output._asdict()
    if any("aux" in str(name) and value is not None for name, value in parts.items()):
        raise ModelError(
            "The model returns auxiliary logits, which would be left out of the loss.",
            "Build it with aux_logits=False, or pass call=lambda model, x: <one tensor of logits>.",
        )
    logits = parts.get("logits")
    logits = getattr(output, "logits", None) if logits is None else logits
    if not isinstance(logits, Tensor):
        raise ModelError(
            f"The model returned {type(output).__name__}, in which no logits were found.",
            "Pass call=lambda model, x: <the tensor of logits, shape (N, classes)>.",
        )
    return logits


def two_pass(
    model: nn.Module, natural: Tensor, noise: Tensor | None = None, call: Call | None = None
) -> Tensor:
    """Run natural rows and noise rows through ``model``, each with its own statistics.

    Args:
        model: A converted model, or one without batch norm.
        natural: Natural images, normalised, shape (N, C, H, W). May have 0 rows: gradients are
            then zero, not None.
        noise: Noise images, normalised, shape (M, C, H, W). With None or 0 rows this is
            ``model(natural)``, bit for bit. Where batch norms are synchronised over processes, all
            processes give None or none does: one without noise rows gives 0 rows.
        call: How to call the model; ``call(model, images)`` must return the logits. Needed only if
            the model returns neither a tensor nor something with ``logits``.

    Returns:
        Logits of shape (N + M, classes), natural rows first.

    Raises:
        ModelError: See :func:`purenoise.noise_pass`; also if the model cannot run on 0 rows.
        ValueError: If there is one natural value per channel, as plain batch norm raises.

    Source: equals the mixed batch of the paper's listing, see :mod:`purenoise.darbn`.
    """
    return _both(NoisePass(model), natural, noise, call)


def _both(
    noise_pass: NoisePass, natural: Tensor, noise: Tensor | None, call: Call | None
) -> Tensor:
    """Do the two passes; the noise pass knows its model."""
    run, model = call or (lambda model, x: model(x)), noise_pass.model
    of_natural = natural_logits(run, model, natural)
    if noise is None or (len(noise) == 0 and not noise_pass.spans_processes):
        return of_natural
    with noise_pass():
        noise_logits = logits_of(run(model, noise))
    return torch.cat([of_natural, noise_logits])  # (N + M, classes)


def natural_logits(run: Call, model: nn.Module, natural: Tensor) -> Tensor:
    """Run the natural rows; say what is wrong if there are too few and the model minds.

    Raises:
        ModelError: If there are no rows, or one, and the model cannot run on so few.
    """
    try:
        return logits_of(run(model, natural))
    except (RuntimeError, ValueError, IndexError, ZeroDivisionError) as error:
        if len(natural) == 1 and "more than 1 value per channel" in str(error):
            raise ModelError(
                f"One natural row is too few for a batch norm of this model: {error}",
                "Leave the short last batch out (drop_last=True in the loader), or take larger "
                "batches.",
            ) from error
        if len(natural):
            raise
        raise ModelError(
            f"All rows of this batch are noise, and the model cannot run on 0 rows: {error}",
            "Use torch.flatten(x, 1) in place of x.view(n, -1) in the model, or larger batches.",
        ) from error


class TwoPass(nn.Module):
    """A model whose one ``forward`` does both passes.

    Args:
        model: A converted model, or one without batch norm.
        call: See :func:`two_pass`.

    Example:
        >>> from purenoise.conversion import convert
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3))
        >>> step = TwoPass(convert(net))
        >>> step(torch.randn(6, 1, 2, 2), torch.randn(2, 1, 2, 2)).shape
        torch.Size([8, 3])
    """

    def __init__(self, model: nn.Module, call: Call | None = None) -> None:
        super().__init__()
        self.model = model
        self.call = call
        self._noise_pass = NoisePass(model)

    def forward(self, natural: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return logits of shape (N + M, classes), natural rows first; see :func:`two_pass`."""
        if torch.compiler.is_compiling() or self._noise_pass.model is not self.model:
            return two_pass(self.model, natural, noise, self.call)
        return _both(self._noise_pass, natural, noise, self.call)
