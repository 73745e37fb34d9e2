"""A process that trains a comparison's runs, one by one: ``python -m purenoise.lab.worker``.

It reads tasks from its input, one JSON object per line, and tells on its output what happens, one
JSON object per line. When the input ends, because the work is done or because whoever started it is
gone, it ends at once: what it was training goes on later from the last state.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from purenoise.errors import DataError, PureNoiseError, RunError
from purenoise.recipe import Recipe
from purenoise.runlog import RunFolder

Tell = Callable[[dict[str, Any]], None]
LOOK = 0.5  # seconds between looks at a folder that another process may hold


def main() -> None:
    """Work until the input ends."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints must not come between our lines
    tasks: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(sys.stdin, tasks), daemon=True).start()
    lock = threading.Lock()

    def tell(message: dict[str, Any]) -> None:
        with lock:
            out.write(json.dumps(message) + "\n")
            out.flush()

    from purenoise.runtime import keep_freed_memory

    keep_freed_memory()
    trainer = _Trainer(tell)
    tell({"kind": "ready"})
    while True:
        _do(json.loads(tasks.get()), trainer, tell)


def _read(lines: TextIO, tasks: queue.SimpleQueue[str]) -> None:
    for line in lines:
        tasks.put(line)
    os._exit(0)  # in the middle of a run as well: files appear whole or not at all


def _do(task: dict[str, Any], trainer: _Trainer, tell: Tell) -> None:
    """Do a task and tell how it ended."""
    try:
        trainer.train(task)
    except PureNoiseError as error:
        stopped = error.message.startswith("Stopped;")
        tell({"kind": "stopped"} if stopped else
             {"kind": "failed", "message": error.message, "hint": error.hint})  # fmt: skip
    except Exception as error:  # told to the user by the comparison, which goes on with the others
        traceback.print_exc()
        text = f"{type(error).__name__}: {error}"
        tell({"kind": "failed", "message": text, "hint": ""})


class _Trainer:
    """Trains runs, keeping the data of the last one at hand."""

    def __init__(self, tell: Tell) -> None:
        self.tell = tell
        self._section: Any = None
        self._data: Any = None

    def train(self, task: dict[str, Any]) -> None:
        """Train one run in its folder, from a shared state if there is one."""
        from purenoise.experiment import run_recipe
        from purenoise.lab.sharing import PhaseStore, longest
        from purenoise.prepare import prepare

        recipe = Recipe.model_validate(task["recipe"])
        store = PhaseStore(Path(task["store"]))
        publish = {int(epoch): key for epoch, key in task["keys"].items()}
        if recipe.data != self._section:
            self._section, self._data = None, None
            self._section, self._data = recipe.data, prepare(recipe.data)
        _refuse_other_images(task["images"], self._data.dataset)
        _wait_until_free(RunFolder(task["folder"]), task["release"])
        resume = None
        while resume is None and (at := longest(publish, store)) is not None:
            resume = store.load(publish[at])  # a damaged one is gone then: the next is looked at

        from_shared = resume.epoch if resume is not None else None
        shown: set[str] = set()

        def listen(name: str, event: dict[str, Any]) -> None:
            if name == "start":
                at = event["resumed_at"]
                self.tell({"kind": "start", "epoch": at[0], "shared": at == [from_shared, 0]})
            elif name == "epoch":
                seconds = event["seconds"]
                self.tell({"kind": "epoch", "epoch": event["epoch"] + 1, "seconds": seconds})
            elif name == "warning" and event["text"] not in shown:
                shown.add(event["text"])
                self.tell({"kind": "warning", "text": event["text"]})

        def on_epoch(state: Any, identity: dict[str, Any]) -> None:
            key = publish.get(state.epoch)
            if key is not None and not store.has(key):
                store.save(key, state, identity)
                self.tell({"kind": "shared", "key": key})

        run = run_recipe(
            recipe, recipe, folder=Path(task["folder"]), command=task["command"],
            listeners=[listen], on_epoch=on_epoch, shared=resume, data=self._data,
        )  # fmt: skip
        self.tell({"kind": "done", "trained": run.trained})


def _refuse_other_images(planned: dict[str, Any], dataset: Any) -> None:
    """Refuse to train on images that are not those of the plan, or states would be mixed up."""
    if any(getattr(dataset, key) != value for key, value in planned.items()):
        raise DataError(
            "The images that are read here are not those that the comparison was planned with.",
            "They changed meanwhile, or this machine has others in the same place.",
        )


def _wait_until_free(files: RunFolder, seconds: float) -> None:
    """Wait until a process that was lost has let go of the folder; training says if it has not."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with files.held():
                return
        except RunError:
            time.sleep(LOOK)


if __name__ == "__main__":
    main()
