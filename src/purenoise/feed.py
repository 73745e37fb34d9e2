"""Images and labels of each step of an epoch, on the device, before the step asks for them.

All that an epoch needs to know (which images, which labels, how many rows are noise) is planned
before its first step and goes to the device in one transfer. A set that fits lies there as uint8
and is read by index; other images are read ahead by a thread.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np
import torch
from torch import Tensor

from purenoise.data.prefetch import read_ahead
from purenoise.data.types import MemoryImages, Split
from purenoise.errors import RecipeError
from purenoise.plan import StepPlan
from purenoise.team import Team

SHARE = 0.25  # of the device's free memory that images may take unless that is asked for
AHEAD = 4  # batches that are read ahead


class Feed:
    """Feeds a split to the steps of any epoch.

    Args:
        split: Training images.
        device: Where they are wanted.
        resident: ``auto``, True (a wish), ``"force"`` or False: whether all images lie on the
            device. Those in the memory of a CPU are there already.

    Raises:
        RecipeError: If that is forced and cannot be done.
    """

    def __init__(self, split: Split, device: torch.device, resident: bool | str = "auto") -> None:
        self.split, self.device = split, device
        self.warning: str | None = None
        self._pixels: Tensor | None = None
        if resident is False or (device.type == "cpu" and isinstance(split.images, MemoryImages)):
            return
        if device.type == "cpu" and resident == "auto":
            return
        reason = _why_not_resident(split, device, 1.0 if resident == "force" else SHARE)
        if reason is None and isinstance(split.images, MemoryImages):
            self._pixels = torch.from_numpy(split.images.array).to(device)
        elif resident == "force":
            raise RecipeError(f"speed.resident=force: {reason}.", "Use speed.resident=auto.")
        elif resident is True:
            self.warning = f"speed.resident cannot be had: {reason}; images come batch by batch."

    @property
    def resident(self) -> bool:
        """Whether all images lie on another device than the CPU."""
        return self._pixels is not None

    def epoch(
        self, plans: Sequence[StepPlan], team: Team | None = None
    ) -> Generator[tuple[StepPlan, Tensor, Tensor]]:
        """Yield each plan with its images and labels; those of partners (``cmo``) come last.

        Args:
            plans: Of the steps that are left of an epoch.
            team: The processes that share each batch.

        Yields:
            The plan; uint8 of shape (n + p, C, H, W), natural images first (of a team: those that
            this process needs); int64 of shape
            (n + m + p,), natural rows, noise rows, partners.
        """
        if not plans:
            return
        labels = self._moved([_both(plan.labels, plan.partner_labels) for plan in plans])
        team = team or Team()
        images = self.images([_both(plan.shown(team), plan.partners) for plan in plans])
        yield from zip(plans, images, labels, strict=True)

    def images(self, batches: Sequence[np.ndarray]) -> Generator[Tensor]:
        """Yield the images at the indices of each batch, uint8 of shape (B, C, H, W)."""
        if not batches:
            return
        if self._pixels is not None:
            for index in self._moved(batches):
                yield self._pixels.index_select(0, index)
            return
        pin = self.device.type == "cuda"
        for images in read_ahead(self.split.images, batches, depth=AHEAD, pin=pin):
            yield images.to(self.device, non_blocking=True)

    def _moved(self, parts: Sequence[np.ndarray]) -> tuple[Tensor, ...]:
        """Bring arrays to the device in one transfer."""
        whole = torch.from_numpy(np.concatenate(parts)).to(self.device)
        return whole.split([len(part) for part in parts])


def _both(rows: np.ndarray, partners: np.ndarray) -> np.ndarray:
    return np.concatenate([rows, partners]) if len(partners) else rows


def _why_not_resident(split: Split, device: torch.device, share: float) -> str | None:
    """Return why the images cannot all lie on the device, or None."""
    if not isinstance(split.images, MemoryImages):
        return "the images are read from files (data.memory_mib bounds what is held in memory)"
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        needed = split.images.array.nbytes
        if needed > share * free:
            return (f"{needed / 2**20:,.0f} MiB of images, and {free / 2**20:,.0f} MiB are free "
                    f"on {device}")  # fmt: skip
    return None
