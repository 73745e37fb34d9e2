"""The forward of a training step, in the form that a run's switches ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial

import torch
from torch import Tensor, nn

from purenoise.errors import ModelError
from purenoise.maskedpass import MaskedPass
from purenoise.speed import Switches
from purenoise.twopass import TwoPass, logits_of

Forward = Callable[[Tensor, Tensor | None], Tensor]


class Step:
    """Maps natural and noise images to the logits of all rows, natural first.

    Args:
        model: On its device, converted if there is noise.
        rows: Rows of a whole batch.
        switches: What is on.
        noisy: Whether noise will come.
    """

    def __init__(self, model: nn.Module, rows: int, switches: Switches, noisy: bool) -> None:
        self.model, self.switches, self.noisy = model, switches, noisy
        self.device = next(model.parameters()).device
        compiler = partial(torch.compile, dynamic=False, fullgraph=True)
        masked = switches.step == "masked"
        self._eager: Forward = MaskedPass(model, rows) if masked and noisy else TwoPass(model)
        self._with_noise: Forward = self._eager
        self._plain: Forward = self._eager
        if switches.compile:
            # A batch without padding or noise has few shapes: whole, and the last of an epoch.
            compiled = compiler(model)
            self._plain = lambda natural, _: logits_of(compiled(natural))
            if masked and noisy:
                self._with_noise = MaskedPass(model, rows, compiler=compiler)

    def __call__(self, natural: Tensor, noise: Tensor | None, *, phase_has_noise: bool) -> Tensor:
        """Return logits of shape (N + M, classes), at least float32.

        Args:
            natural: Normalised, shape (N, C, H, W).
            noise: Normalised, shape (M, C, H, W), or None.
            phase_has_noise: Whether batches of this phase can have noise: the form stays the same
                for those that happen to have none.
        """
        natural, noise = self._lay_out(natural), None if noise is None else self._lay_out(noise)
        form = self._with_noise if phase_has_noise else self._plain
        bf16 = self.switches.bf16
        with torch.autocast(self.device.type, torch.bfloat16) if bf16 else nullcontext():
            logits = form(natural, noise)
        return logits if logits.dtype == torch.float64 else logits.float()

    def _lay_out(self, images: Tensor) -> Tensor:
        if not self.switches.channels_last:
            return images
        return images.contiguous(memory_format=torch.channels_last)

    def warm_up(self, shape: Iterable[int], rows: int, kinds: Iterable[bool]) -> str | None:
        """Compile now, on a made-up batch, so that what cannot be compiled is known before step 1.

        Args:
            shape: Channels, height and width of the images.
            rows: Of a whole batch.
            kinds: For each kind of phase to come, whether it has noise.

        Returns:
            Why the model is not compiled after all, or None.

        Raises:
            ModelError: If it cannot be compiled and that was forced.
        """
        if not self.switches.compile:
            return None
        kept = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        images = torch.zeros((rows, *shape), device=self.device,
                             dtype=next(self.model.parameters()).dtype)  # fmt: skip
        n = max(2, rows * 3 // 4)
        self.model.train()
        try:
            for has_noise in kinds:
                natural, noise = (images[:n], images[n:]) if has_noise else (images, None)
                self(natural, noise, phase_has_noise=has_noise).sum().backward()
            return None
        except Exception as error:  # compilers fail in many ways, none of them ours
            reason = str(error).strip().partition("\n")[0][:200] or type(error).__name__
            if self.switches.compile_forced:
                raise ModelError(
                    f"speed.compile=force, and the model cannot be compiled: {reason}",
                    "Use speed.compile=true, which goes on without, or false.",
                ) from error
            self._with_noise = self._plain = self._eager
            return f"speed.compile cannot be had: {reason}; going on without."
        finally:
            self.model.zero_grad(set_to_none=True)
            with torch.no_grad():
                for name, buffer in self.model.named_buffers():
                    buffer.copy_(kept[name])
