"""How far a child is, told line by line on its standard error, and what a signal may do there.

A stop must save the last step that was taken. It may do otherwise only before training has begun,
when nothing could be lost, and once all epochs are told, when the end is written all the same.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from purenoise.checkpoint import load_state

MARK = "stage:"


def tell(name: str, event: dict[str, Any]) -> None:
    """Write down an event of the run; a listener. One call of the system: a kill cannot tear it."""
    if name == "start":
        epoch, step = event["resumed_at"]
        line = f"start {epoch} {step} {event['epochs']}"
    elif name == "step":
        line = f"step {event['epoch']} {event['step'] + 1} {event['steps']}"
    elif name == "epoch":
        line = f"epoch {event['epoch'] + 1} 0 0"
    elif name == "end":
        line = "end 0 0 0"
    else:
        return
    os.write(2, f"{MARK} {line}\n".encode())


@dataclass(frozen=True)
class Stage:
    """Where a child is.

    Args:
        began: Whether training began.
        position: Epoch and step that come next.
        after: The same place, said otherwise: after the last step of an epoch comes the next epoch.
        is_trained: Whether all epochs are told, so that the end is being written.
        is_over: Whether the end was told.
    """

    began: bool = False
    position: tuple[int, int] = (0, 0)
    after: tuple[int, int] = (0, 0)
    is_trained: bool = False
    is_over: bool = False


def stage_of(said: str) -> Stage:
    """Return how far a child was when it had said this."""
    began = is_over = False
    position, after, epochs = (0, 0), (0, 0), 0
    for line in said.splitlines():
        words = line.removeprefix(MARK).split()
        if not line.startswith(MARK) or len(words) != 4:
            continue
        epoch, step, number = map(int, words[1:])
        if words[0] == "end":
            is_over = True
            continue
        position = after = (epoch, step)
        if words[0] == "start":
            began, epochs = True, number
        elif words[0] == "step" and step == number:
            after = (epoch + 1, 0)
    return Stage(began, position, after, began and position == (epochs, 0), is_over)


def without_stages(said: str) -> str:
    """Return what a child said to people."""
    return "\n".join(line for line in said.splitlines() if not line.startswith(MARK))


def not_saved(folder: Path, stage: Stage) -> str:
    """Return what is wrong with the state of a run that was stopped; empty if nothing is lost."""
    found = load_state(folder / "state")
    if found is None:
        return f"it was stopped before {stage.position} and saved nothing"
    saved = (found[0].epoch, found[0].step)
    if saved in (stage.position, stage.after) and not found[2]:
        return ""
    return f"it was stopped before {stage.position} and saved {saved} {found[2] or ''}".rstrip()
