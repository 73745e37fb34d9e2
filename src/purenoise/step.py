"""The forward of a training step, in the form that a run's switches ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from purenoise.auxbn import AuxiliaryPass, BatchNorm, SharedPass
from purenoise.errors import ModelError
from purenoise.maskedpass import MaskedPass
from purenoise.speed import Switches
from purenoise.team import Team
from purenoise.twopass import TwoPass, logits_of

Forward = Callable[[Tensor, Tensor | None], Tensor]


class Step:
    """Maps natural and noise images to the logits of all rows, natural first.

    Args:
        model: On its device, converted if there is noise.
        rows: Rows of a whole batch.
        switches: What is on.
        noisy: Whether noise will come.
        batch_norm: What batch norm does with noise rows; all but ``dar`` go with steps that are
            neither masked nor compiled.
        team: The processes that share each batch, which go with plain two-pass steps only.
    """

    def __init__(
        self,
        model: nn.Module,
        rows: int,
        switches: Switches,
        noisy: bool,
        batch_norm: BatchNorm = "dar",
        team: Team | None = None,
    ) -> None:
        if batch_norm != "dar" and (switches.step == "masked" or switches.compile):
            raise ModelError(f"batch_norm={batch_norm} goes with plain two-pass steps only.")
        self.team = team or Team()
        if not self.team.is_alone and (switches.step == "masked" or switches.compile):
            raise ModelError("Several processes go with plain two-pass steps only.")
        self.model, self.rows, self.noisy = model, rows, noisy
        self.device = next(model.parameters()).device
        self.batch_norm = batch_norm
        self._arrange(switches)

    def renew(self) -> None:
        """Take note that other parameters learn now."""
        if not self.team.is_alone:
            self._arrange(self.switches)

    def _arrange(self, switches: Switches) -> None:
        """Choose the forms of steps in phases with noise and without."""
        self.switches, model = switches, self.model
        # Without noise a step is the model's own forward, whatever the form of the others.
        kinds = {"dar": TwoPass, "auxiliary": AuxiliaryPass, "shared": SharedPass}
        both = kinds[self.batch_norm if self.noisy else "dar"](model)
        # All three take steps without noise too, and gradients are averaged by one wrapper only.
        self._plain: Forward = self.team.wrap(both, self.device)
        self._with_noise: Forward = self._plain
        compiler: Callable[..., Any] = partial(torch.compile, dynamic=False, fullgraph=True)
        if switches.compile:
            # A batch without padding or noise has few shapes: whole, and the last of an epoch.
            compiled = compiler(model)
            self._plain = lambda natural, _: logits_of(compiled(natural))
        if switches.step == "masked" and self.noisy:
            used = compiler if switches.compile else None
            self._with_noise = MaskedPass(model, self.rows, compiler=used)

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
            self._arrange(self.switches.without_compiling())
            return f"speed.compile cannot be had: {reason}; going on without."
        finally:
            self.model.zero_grad(set_to_none=True)
            with torch.no_grad():
                for name, buffer in self.model.named_buffers():
                    buffer.copy_(kept[name])
