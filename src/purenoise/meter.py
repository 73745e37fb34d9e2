"""What an epoch came to so far, summed on the device."""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch
from torch import Tensor

from purenoise.team import Team

Meters = dict[str, float]


class Meter:
    """Sums over an epoch, kept on the device and read when somebody asks.

    Where several processes share the batches, each has its own part.
    """

    names = ("loss", "rows", "correct", "natural", "top5")

    def __init__(self, device: torch.device, sums: Mapping[str, float]) -> None:
        kind = torch.float32 if device.type == "mps" else torch.float64
        start = [sums.get(name, 0.0) for name in self.names]
        self._sums = torch.tensor(start, dtype=kind, device=device)
        self._before = sums.get("seconds", 0.0)
        self._started = time.perf_counter()

    def add(self, loss: Tensor, hits: Tensor, rows: int, natural: int, whole: int) -> None:
        """Add a step.

        Args:
            loss: Of the whole batch, or the part of it that this process's rows are.
            hits: Which natural rows of this process were right, (natural, best five).
            rows: Of this process.
            natural: Natural ones among them.
            whole: Rows of the whole batch.
        """
        self._sums[0] += loss * whole
        self._sums[1] += rows
        self._sums[2] += hits[:, 0].sum()
        self._sums[3] += natural
        self._sums[4] += hits.sum()

    def seconds(self, started: float) -> float:
        """Return the seconds since ``started``, and those of the steps before a resumption."""
        return self._before + time.perf_counter() - started

    def sums(self, team: Team | None = None) -> Meters:
        """Return all sums, as a state keeps them: over a team, which all of it must ask for."""
        whole = self._sums if team is None else team.sum(self._sums)
        values = dict(zip(self.names, whole.tolist(), strict=True))
        return values | {"seconds": self.seconds(self._started)}

    def means(self, team: Team | None = None) -> Meters:
        """Mean loss over all rows, accuracies over natural rows, and rows of each kind."""
        s = self.sums(team)
        return {
            "loss": s["loss"] / max(1.0, s["rows"]),
            "accuracy": s["correct"] / max(1.0, s["natural"]),
            "top5": s["top5"] / max(1.0, s["natural"]),
            "rows": int(s["rows"]),
            "noise_rows": int(s["rows"] - s["natural"]),
        }
