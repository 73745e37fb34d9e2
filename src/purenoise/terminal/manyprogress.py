"""What is shown while many runs train: one bar over all in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from purenoise.lab.scheduling import Job
from purenoise.lab.sharing import PhaseStore
from purenoise.terminal.progress import Watcher
from purenoise.terminal.tables import clock, plural

PLAIN_SECONDS = 30.0


class Overview(Watcher):
    """Shows the events of a comparison.

    Args:
        console: Where to.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._lines: dict[str, Any] = {}
        self._from: dict[str, int] = {}
        self._total, self._done, self._runs, self._finished = 0, 0, 0, 0
        self._started = self._printed_at = time.monotonic()

    def _on_plan(self, event: dict[str, Any]) -> None:
        jobs: Sequence[Job] = event["jobs"]
        self._runs, self._finished = event["runs"], event["finished"]
        self._from = expected_starts(jobs, event["store"])
        self._total = sum(job.recipe.train.epochs - self._from[job.label] for job in jobs)
        text = f"{event['runs']} runs"
        if event["finished"]:
            text += f", {event['finished']} of them there already"
        saved = sum(self._from.values())
        if jobs:
            text += f"; {plural(self._total, 'epoch')} to train, {event['at_a_time']} at a time"
        if saved:
            text += f"; {plural(saved, 'epoch is', 'epochs are')} shared"
        self._print(text)
        if jobs and self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(bar_width=None),
                TextColumn("{task.fields[left]}"),
                console=self.console, transient=True, expand=True,
            )  # fmt: skip
            self._task = self._bar.add_task(self._where(), total=max(1, self._total), left="")
            self._bar.start()

    def _on_start(self, event: dict[str, Any]) -> None:
        job: Job = event["job"]
        self._total += self._from[job.label] - event["epoch"]
        self._from[job.label] = event["epoch"]
        if self._bar is not None:
            epochs = job.recipe.train.epochs
            self._lines[job.label] = self._bar.add_task(
                f"  {job.label}", total=epochs, completed=event["epoch"], left=""
            )

    def _on_epoch(self, event: dict[str, Any]) -> None:
        job: Job = event["job"]
        self._done += 1
        self._from[job.label] = event["epoch"]
        if self._bar is not None:
            at = f"{event['epoch']}/{job.recipe.train.epochs}"
            if job.label in self._lines:
                self._bar.update(self._lines[job.label], completed=event["epoch"], left=at)
            self._refresh()
        elif time.monotonic() - self._printed_at > PLAIN_SECONDS:
            self._line(f"{job.label} at epoch {event['epoch']}/{job.recipe.train.epochs}")

    def _on_done(self, event: dict[str, Any]) -> None:
        self._finished += 1
        self._end(event["job"].label)
        if self._bar is None:
            self._line(f"{event['job'].label} done")

    def _on_failed(self, event: dict[str, Any]) -> None:
        self._end(event["job"].label)
        self._print(f"failed: {event['job'].label}: {event['message']}")

    def _on_stopped(self, event: dict[str, Any]) -> None:
        self._end(event["job"].label)

    def _on_warning(self, event: dict[str, Any]) -> None:
        self._end(event["job"].label, only_if_gone="its process ended" in event["text"])
        self._print(f"warning: {event['job'].label}: {event['text']}")

    def _on_note(self, event: dict[str, Any]) -> None:
        self._print(event["text"])

    def _end(self, label: str, only_if_gone: bool = True) -> None:
        if only_if_gone and self._bar is not None and label in self._lines:
            self._bar.remove_task(self._lines.pop(label))
        self._refresh()

    def _refresh(self) -> None:
        if self._bar is not None:
            self._bar.update(
                self._task, description=self._where(), total=max(1, self._total),
                completed=self._done, left=self._left(),
            )  # fmt: skip

    def _where(self) -> str:
        return f"{self._finished}/{self._runs} runs"

    def _left(self) -> str:
        passed = time.monotonic() - self._started
        if not self._done:
            return ""
        return f"{clock(passed / self._done * max(0, self._total - self._done))} left"

    def _line(self, text: str) -> None:
        self._printed_at = time.monotonic()
        left = self._left()
        self._print(f"{self._where()}: {text}{', ' * bool(left)}{left}")


def expected_starts(jobs: Sequence[Job], store: PhaseStore) -> dict[str, int]:
    """Return the epoch at which each job will begin, if they are done in this order."""
    there: set[str] = set()
    starts = {}
    for job in jobs:
        usable = [e for e, key in job.shared.items() if key in there or store.has(key)]
        starts[job.label] = max(usable, default=0)
        there.update(job.shared.values())
    return starts
