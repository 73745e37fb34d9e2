"""The order of a comparison's runs: which can begin, which wait for a state that another trains."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from purenoise.lab.executors import Busy, Message, Workers
from purenoise.lab.sharing import PhaseStore, longest
from purenoise.recipe import Recipe

TRIES = 3  # of a run whose process dies
RELEASE = 90.0  # seconds in which a lost process, or a file server, lets go of its run's folder
WAIT = 0.2  # seconds between looks at whether to stop


@dataclass(frozen=True)
class Job:
    """One run to be trained.

    Args:
        label: Names it in messages.
        recipe: What to do.
        folder: Where.
        command: The line that trains it alone.
        shared: Epochs whose state other runs have as well, with the names of the states.
        images: What names the images that the comparison was planned with.
    """

    label: str
    recipe: Recipe
    folder: Path
    command: str
    shared: Mapping[int, str]
    images: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Outcome:
    """What became of the runs that were to be trained.

    Args:
        trained: Labels of those that were finished.
        failed: Labels of those that were not, with the reason.
        stopped: Whether it was asked to stop before all was done.
        shared_epochs: Epochs that were not trained because another run had trained them.
        seconds: Wall time.
    """

    trained: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    stopped: bool = False
    shared_epochs: int = 0
    seconds: float = 0.0


class Execution:
    """Gives jobs to workers until none is left.

    Args:
        jobs: In the order in which they should begin.
        store: States at the ends of shared phases.
        workers: Who trains them, here or elsewhere.
        listener: Told what happens.
        stopping: Asked again and again; True: runs keep their state and stop.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        store: PhaseStore,
        workers: Workers,
        listener: Callable[[str, dict[str, Any]], None],
        stopping: Callable[[], bool],
    ) -> None:
        self.pending, self.store, self.workers = list(jobs), store, workers
        self.listener, self.stopping = listener, stopping
        self.active: list[Job] = []
        self.tries: Counter[str] = Counter()
        self.begun_at: dict[str, int] = {}
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """Do all jobs; a job that fails is named in the outcome and keeps none from being done."""
        started = time.monotonic()
        with self.workers as pool:
            while self.active or (self.pending and not self.outcome.stopped):
                if self.stopping() and not self.outcome.stopped:
                    self.outcome.stopped = True
                    pool.stop()
                if not self.outcome.stopped:
                    self._hand_out(pool)
                told = pool.next_message(WAIT)
                if told is not None:
                    self._hear(*told)
        self.outcome.seconds = time.monotonic() - started
        return self.outcome

    def _hand_out(self, pool: Workers) -> None:
        """Give work to idle workers."""
        while (job := self._next()) is not None and (worker := pool.idle()) is not None:
            self.pending.remove(job)
            self.active.append(job)
            self.tries[job.label] += 1
            pool.give(worker, job, {
                "recipe": job.recipe.model_dump(mode="json"), "folder": str(job.folder),
                "command": job.command, "store": str(self.store.folder), "keys": dict(job.shared),
                "images": dict(job.images), "release": RELEASE * (self.tries[job.label] > 1),
            })  # fmt: skip

    def _next(self) -> Job | None:
        """The first job that need not wait for a state that is being trained now."""
        coming = {
            key for job in self.active for epoch, key in job.shared.items()
            if epoch > self.begun_at.get(job.label, 0)  # an earlier one it will not pass again
        }  # fmt: skip
        for job in self.pending:
            there = longest(job.shared, self.store) or 0
            if not any(e > there and key in coming for e, key in job.shared.items()):
                return job
        return None

    def _hear(self, worker: Busy | None, message: Message) -> None:
        job: Job | None = worker.task if worker is not None else None
        kind = message["kind"]
        if kind == "note":
            self.listener(kind, message)
        if worker is None or job is None:
            return
        if kind in ("done", "failed", "stopped", "died"):
            worker.task = None
            self.active.remove(job)
        if kind == "died":
            kind = self._died(job, worker, message)
        if kind == "done":
            self.outcome.trained.append(job.label)
        elif kind == "failed":
            hint = message.get("hint")
            self.outcome.failed[job.label] = message["message"] + (f" {hint}" if hint else "")
        elif kind == "start":
            self.begun_at[job.label] = message["epoch"]
            self.outcome.shared_epochs += message["epoch"] if message["shared"] else 0
        self.listener(kind, {**message, "job": job})

    def _died(self, job: Job, worker: Busy, message: Message) -> str:
        """Decide what becomes of the job of a process that is gone."""
        if worker.asked_to_stop:
            return "stopped"
        if self.tries[job.label] < TRIES:
            self.pending.insert(0, job)
            message["text"] = f"its process ended ({message['said']}); it goes on in another"
            return "warning"
        message["message"] = f"Its process ended {TRIES} times ({message['said']})."
        return "failed"
