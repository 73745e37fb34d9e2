"""What would make a noise pass differ from the paper's mixed batch, recognised and refused by name.

A noise pass is exact as long as nothing but DAR-BN layers keeps statistics and nothing is computed
again after the pass. Torch offers no hook for that, so each way of breaking it has its own look.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from purenoise.errors import ModelError
from purenoise.syncnorm import process_count


def unconverted(model: nn.Module, routed: type[nn.Module]) -> list[tuple[str, nn.Module]]:
    """Return the batch norms of a model that a noise pass would mislead, with their names.

    Args:
        model: Any module.
        routed: The class of layers that know a noise pass.

    Raises:
        ModelError: If the model is, or holds, what cannot be told of a noise pass at all.
    """
    plain: list[tuple[str, nn.Module]] = []
    for name, m in model.named_modules():
        if isinstance(m, nn.parallel.DistributedDataParallel):
            raise ModelError(
                "A noise pass is a second forward; DistributedDataParallel allows one per step.",
                "Put both passes into one: DistributedDataParallel(purenoise.TwoPass(model)).",
            )
        if isinstance(m, torch.jit.ScriptModule) and "BatchNorm" in m.original_name:
            raise ModelError(
                "A ScriptModule cannot be told which rows are noise, and "
                f"{name or 'the model'} ({m.original_name}) is one.",
                "Convert and train the model before torch.jit.script or torch.jit.trace.",
            )
        if isinstance(m, _BatchNorm) and not isinstance(m, routed):
            plain.append((name, m))
    return plain


def refuse_plain(norms: Sequence[tuple[str, nn.Module]]) -> None:
    """Refuse batch norms that are not converted and in training mode.

    Raises:
        ModelError: Naming the first of them.
    """
    plain = [f"{name or 'the model'} ({type(m).__name__})" for name, m in norms if m.training]
    if plain:
        more = f" and {len(plain) - 3} more" if len(plain) > 3 else ""
        raise ModelError(
            f"Noise would change the statistics of {', '.join(plain[:3])}{more}.",
            "Call purenoise.convert(model) first, and again after anything that swaps layers.",
        )


def refuse_checkpointing(grad_at_entry: bool) -> None:
    """Refuse to run inside ``torch.utils.checkpoint``, which recomputes in the backward pass.

    The noise pass is over then, and the layer would take noise for natural rows. The re-entrant
    form turns off gradients (were they on at entry?), the other sets hooks on saved tensors.
    """
    top = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
    hooks = top(True) if top is not None else None
    found = getattr(hooks and hooks[0], "__module__", None) == torch.utils.checkpoint.__name__
    recording = torch.is_grad_enabled()
    # Hooks may be another's, set further in; torch before 2.7 does not tell.
    unsure = top is None or hooks is not None or not recording
    if (recording or grad_at_entry) and (found or (unsure and _below_checkpoint())):
        raise ModelError(
            "Activation checkpointing inside a noise pass would feed noise to the running "
            "statistics when it recomputes.",
            "Turn it off for the noise pass (it keeps next to no activations), or altogether.",
        )


def refuse_many_processes() -> None:
    """Refuse a form of batch norm that knows the rows of its own process only.

    Raises:
        ModelError: If there are several processes.
    """
    if process_count() > 1:
        raise ModelError(
            "Masked steps and auxiliary batch norms cannot be synchronised over processes.",
            "Use two-pass steps and batch_norm=dar, or one process.",
        )


Place = tuple[str, str]  # name of the layer, name of its buffer


@dataclass(frozen=True)
class Seen:
    """The buffers at one moment: identity and version of each, and copies of some."""

    versions: dict[Place, tuple[int, int]]
    copies: dict[Place, Tensor]


class BufferWatch:
    """Tells whether a pass wrote to a buffer.

    Torch counts in-place writes, which costs nothing to read, but ``F.batch_norm`` writes running
    statistics without counting. So values are compared as well where asked for, which waits for the
    device and is done in a model's first pass only. Layers in ``eval()`` are trusted: torch counts
    a write for some of them that changes nothing.

    Args:
        model: Whose buffers.
        known: Layers whose buffers need no comparing of values.
    """

    def __init__(self, model: nn.Module, known: Collection[nn.Module]) -> None:
        self._owners = [(name, m) for name, m in model.named_modules() if m._buffers]
        self._known = {id(layer) for layer in known}

    def read(self, values: bool) -> Seen:
        """Return the versions of all buffers and, if asked for, copies of their values."""
        copies = {
            (prefix, name): buffer.clone()
            for prefix, module, name, buffer in self._buffers()
            if values and id(module) not in self._known
        }
        return Seen(self._versions(), copies)

    def refuse_changed(self, seen: Seen) -> None:
        """Refuse the pass if a buffer changed since ``seen`` was read.

        Raises:
            ModelError: Naming the first such buffer.
        """
        after = self._versions()
        changed = [p for p, version in after.items() if seen.versions.get(p, version) != version]
        if seen.copies:
            now = {(prefix, name): buffer for prefix, _, name, buffer in self._buffers()}
            changed += [p for p, old in seen.copies.items() if not _same(old, now.get(p))]
        if changed:
            more = f" and {len(set(changed)) - 1} more" if len(set(changed)) > 1 else ""
            raise ModelError(
                f"The noise pass changed the buffer {'.'.join(filter(None, changed[0]))!r}{more}: "
                "a layer that keeps state of its own saw noise, so the step is not exact.",
                "Freeze that layer with .eval(), or take it out of the model.",
            )

    def _versions(self) -> dict[Place, tuple[int, int]]:
        return {(prefix, name): (id(b), b._version) for prefix, _, name, b in self._buffers()}

    def _buffers(self) -> list[tuple[str, nn.Module, str, Tensor]]:
        """Return every buffer of layers in training mode, with the layer and its name."""
        if torch.compiler.is_compiling():
            return []
        return [
            (prefix, module, name, buffer)
            for prefix, module in self._owners
            if module.training
            for name, buffer in module._buffers.items()
            if buffer is not None and not buffer.is_inference()
        ]


def _same(old: Tensor, new: Tensor | None) -> bool:
    if new is None or old.shape != new.shape:
        return False
    both_nan = (old != old) & (new != new)
    return bool(((old == new) | both_nan).all())


def _below_checkpoint() -> bool:
    """Whether a caller of this function is torch.utils.checkpoint."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__") == torch.utils.checkpoint.__name__:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False
