"""The masked step: natural, noise and padding rows in one batch whose shape never changes.

Slower than two passes where operations run one by one, and the form in which a compiler can work:
how many rows are noise stands in a tensor and not in a shape. See :mod:`purenoise.masked`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from purenoise.darbn import NoiseRouting
from purenoise.masked import row_kinds
from purenoise.passes import NoisePass
from purenoise.twopass import Call, logits_of


class _Routed(nn.Module):
    """A model that takes the kinds of its rows beside them."""

    def __init__(self, model: nn.Module, call: Call | None) -> None:
        super().__init__()
        self.model, self.call = model, call
        self._layers = [m for m in model.modules() if isinstance(m, NoiseRouting)]

    def forward(self, images: Tensor, kinds: Tensor) -> Tensor:
        """Return the logits of all rows, padding too, shape (rows, classes)."""
        for layer in self._layers:
            layer.row_kinds = kinds
        call = self.call or (lambda model, x: model(x))
        logits = logits_of(call(self.model, images))
        for layer in self._layers:
            layer.row_kinds = None
        return logits


class MaskedPass(nn.Module):
    """A model whose one ``forward`` takes natural and noise rows in one batch of a fixed shape.

    Args:
        model: A converted model. Build this after the last conversion.
        rows: Rows of a batch; shorter ones are padded, longer ones to the next multiple.
        call: See :func:`purenoise.two_pass`.
        compiler: Applied once to the function that runs the model, such as
            ``functools.partial(torch.compile, dynamic=False, fullgraph=True)``; None: nothing.

    Raises:
        ModelError: From the first noise rows on, for a model in which a noise pass would not be
            exact, see :func:`purenoise.noise_pass`.

    Example:
        >>> from purenoise.conversion import convert
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3))
        >>> step = MaskedPass(convert(net), rows=16)
        >>> step(torch.randn(6, 1, 2, 2), torch.randn(2, 1, 2, 2)).shape
        torch.Size([8, 3])
    """

    def __init__(
        self,
        model: nn.Module,
        rows: int,
        call: Call | None = None,
        compiler: Callable[[nn.Module], Callable[..., Tensor]] | None = None,
    ) -> None:
        super().__init__()
        routed = _Routed(model, call)
        self.model, self.call, self.rows = model, call, rows
        self._run = routed if compiler is None else compiler(routed)
        self._checked = False

    def forward(self, natural: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return logits of shape (N + M, classes), natural rows first.

        Args:
            natural: Natural images, normalised, shape (N, C, H, W). May have 0 rows.
            noise: Noise images, normalised, shape (M, C, H, W), or None.
        """
        n, m = len(natural), 0 if noise is None else len(noise)
        if noise is not None and m and not self._checked:
            self._refuse_inexact(noise)
        rows = max(1, -(-(n + m) // self.rows)) * self.rows
        parts = [natural] if noise is None else [natural, noise]
        if rows > n + m:
            parts.append(natural.new_zeros((rows - n - m, *natural.shape[1:])))
        images = torch.cat(parts)  # (rows, C, H, W)
        if natural.dim() == 4 and natural.is_contiguous(memory_format=torch.channels_last):
            images = images.contiguous(memory_format=torch.channels_last)
        logits: Tensor = self._run(images, row_kinds(n, m, rows, images.device))
        return logits[: n + m]

    def _refuse_inexact(self, noise: Tensor) -> None:
        """Run some noise rows in a pass of their own, where what would not be exact is found."""
        call = self.call or (lambda model, x: model(x))
        with NoisePass(self.model)():
            call(self.model, noise[:2])
        self._checked = True
