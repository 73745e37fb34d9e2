"""Who trains the runs of a comparison: processes of this machine, or those of a Ray cluster.

What both offer is small: an idle worker, a task for it, what it tells, and a request to stop. The
order of the runs, the states they share and the retries (:mod:`purenoise.lab.scheduling`) are the
same for both. Imports neither torch nor Ray.
"""

from __future__ import annotations

import importlib.util
from typing import Any, Protocol

from purenoise.errors import RecipeError, RunError, did_you_mean

Message = dict[str, Any]
EXECUTORS = ("local", "ray")


class Busy(Protocol):
    """A worker as the order of runs sees it: what it does, and whether it was asked to stop."""

    task: Any
    asked_to_stop: bool


class Workers(Protocol):
    """Workers and what they tell."""

    @property
    def jobs(self) -> int:
        """How many there are at most."""

    def __enter__(self) -> Workers:
        """Make ready."""

    def __exit__(self, *_: object) -> None:
        """End all workers."""

    def idle(self) -> Busy | None:
        """Return a worker without a task, or None."""

    def give(self, worker: Any, task: Any, content: Message) -> None:
        """Give a worker a task."""

    def next_message(self, timeout: float) -> tuple[Busy | None, Message] | None:
        """Return what a worker told, or None after ``timeout`` seconds."""

    def stop(self) -> None:
        """Ask all workers to keep the state of what they are doing and stop."""


def check_executor(name: str) -> str:
    """Return the name of an executor that can be used here.

    Raises:
        RecipeError: If there is none of that name.
        RunError: If what it needs is not installed.
    """
    if name not in EXECUTORS:
        raise RecipeError(f"executor={name} is not known.", did_you_mean(name, EXECUTORS))
    if name == "ray" and importlib.util.find_spec("ray") is None:
        raise RunError(
            "executor=ray needs Ray, which is not installed.",
            'Install it with: pip install "purenoise[ray]"',
        )
    return name
