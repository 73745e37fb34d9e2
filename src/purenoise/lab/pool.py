"""Worker processes: they are given tasks and tell what happens; one that dies is replaced.

A process of its own for each run that is in progress, because threads and random state belong to a
process, and because a run that takes all memory then takes nothing else with it.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Any

from purenoise.lab.executors import Message

LAST_WORDS = 300  # characters of what a worker said before it died


@dataclass
class Worker:
    """One process.

    Args:
        number: Its place in the pool.
        process: The process.
        said: What it wrote to its error output.
        task: What it is doing, or None.
        listener: Reads what it tells.
        asked_to_stop: Whether it was told to keep its state and stop.
    """

    number: int
    process: subprocess.Popen[str]
    said: IO[bytes]
    task: Any = None
    listener: threading.Thread | None = None
    asked_to_stop: bool = False


@dataclass
class Pool:
    """Workers and what they tell.

    Args:
        jobs: How many.
        environments: What to set in the environment of each, such as its GPU.
        folder: Where they work; None: where this process does.
    """

    jobs: int
    environments: Sequence[Mapping[str, str]] = ()
    folder: str | None = None
    workers: list[Worker] = field(default_factory=list)
    _messages: queue.SimpleQueue[tuple[Worker, Message]] = field(default_factory=queue.SimpleQueue)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        """End all workers; those at work are ended in the middle of it."""
        for worker in self.workers:
            if worker.process.stdin is not None:
                with suppress(OSError):
                    worker.process.stdin.close()
        for worker in self.workers:
            try:
                worker.process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                worker.process.kill()
            _clear_away(worker)

    def idle(self) -> Worker | None:
        """Return a worker without a task, started if need be, or None if all have one."""
        for worker in self.workers:
            if worker.task is None:
                return worker
        if len(self.workers) < self.jobs:
            self.workers.append(self._start())
            return self.workers[-1]
        return None

    def give(self, worker: Any, task: Any, content: Message) -> None:
        """Give a worker a task."""
        worker.task = task
        try:
            assert worker.process.stdin is not None
            worker.process.stdin.write(json.dumps(content) + "\n")
            worker.process.stdin.flush()
        except (BrokenPipeError, OSError):
            pass  # it died: the reader says so

    def next_message(self, timeout: float) -> tuple[Worker, Message] | None:
        """Return what a worker told, or None after ``timeout`` seconds.

        A worker that died tells ``{"kind": "died", "said": ...}``, once, and another takes its
        place.
        """
        try:
            worker, message = self._messages.get(timeout=timeout)
        except queue.Empty:
            return None
        if message["kind"] == "died" and worker in self.workers:
            worker.process.wait()
            message["said"] = _last_words(worker)
            self.workers.remove(worker)
            _clear_away(worker)
        return worker, message

    def stop(self) -> None:
        """Ask all workers to keep the state of what they are doing and stop."""
        for worker in self.workers:
            if worker.task is not None and not worker.asked_to_stop:
                worker.asked_to_stop = True
                worker.process.terminate()

    def _start(self) -> Worker:
        taken = {worker.number for worker in self.workers}
        number = next(n for n in range(self.jobs) if n not in taken)
        extra = self.environments[number % len(self.environments)] if self.environments else {}
        said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the pool
        process = subprocess.Popen(
            [sys.executable, "-m", "purenoise.lab.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True,
            encoding="utf-8", env={**os.environ, **extra}, cwd=self.folder,
            start_new_session=True,
        )  # fmt: skip
        worker = Worker(number, process, said)
        worker.listener = threading.Thread(target=self._listen, args=(worker,), daemon=True)
        worker.listener.start()
        return worker

    def _listen(self, worker: Worker) -> None:
        assert worker.process.stdout is not None
        with worker.process.stdout as lines:
            for line in lines:
                try:
                    message = json.loads(line)
                except ValueError:
                    continue  # torn by the death that is told next
                self._messages.put((worker, message))
        self._messages.put((worker, {"kind": "died"}))


def _clear_away(worker: Worker) -> None:
    """Close what belonged to a process that has ended."""
    worker.process.wait()
    if worker.listener is not None:
        worker.listener.join()
    if worker.process.stdin is not None:
        with suppress(OSError):  # a task that it did not live to read
            worker.process.stdin.close()
    worker.said.close()


def _last_words(worker: Worker) -> str:
    worker.said.seek(0)
    text = worker.said.read().decode(errors="replace").strip()
    last = text.splitlines()[-1] if text else ""
    code = worker.process.returncode
    how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
    return f"{how}{'; ' * bool(last)}{last[-LAST_WORDS:]}"
