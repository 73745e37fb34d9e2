"""Where a run goes on from, and what is said of one that cannot."""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from purenoise.checkpoint import load_state, set_damaged_aside
from purenoise.data.types import Dataset
from purenoise.errors import RunError, TrainingError
from purenoise.prepare import check_unchanged
from purenoise.recipe import Recipe
from purenoise.runlog import RunFolder
from purenoise.stateform import fault_of_history
from purenoise.team import shared as shared_by_all
from purenoise.training import State

# What must be as it was, or the result would not be the same.
BOUND = ("recipe", "device", "threads", "torch", "speed", "noise_images", "processes")
ANEW = "Remove the run folder to begin again."
_SHORT = reprlib.Repr()
_SHORT.maxdict = 20  # all of a `speed`


def state_to_go_on(
    files: RunFolder,
    identity: Mapping[str, Any],
    recipe: Recipe,
    dataset: Dataset,
    resume: tuple[State, dict[str, Any]] | None,
    shared: State | None,
    warn: Callable[[str], None],
) -> State:
    """Return the state to continue from, or a new one.

    Args:
        files: Of the run.
        identity: All that its result depends on, as it is now.
        recipe: What it does.
        dataset: Its images.
        resume: A state and identity, unless the folder has a later one.
        shared: A state of another run, unless the folder has a later one.
        warn: Told of states that cannot be read.

    Raises:
        RunError: If no state can be read, or the run was begun with something else.
    """
    found = load_state(files.state)
    if resume is not None:
        given, known = resume
        if found is None or (given.epoch, given.step) > (found[0].epoch, found[0].step):
            found = given, known, []
    if shared is not None and (found is None or shared.epoch > found[0].epoch):
        return shared
    if found is None:
        return State()
    state, known, warnings = found
    for warning in warnings:
        warn(f"{warning}; the one before is used.")
    for key in BOUND:
        was, now = (one.get(key, 1 if key == "processes" else None) for one in (known, identity))
        if was != now:
            raise RunError(
                f"{files.path} was begun with {key} {_shown(was)} and would go on with {key} "
                f"{_shown(now)}: the result would not be the same.",
                "Go on where and with what it was begun, or begin another run with out=FOLDER.",
            )
    check_unchanged(known, dataset, recipe.data, files.path)
    fault = fault_of_history(state.history, state.epoch) or _fault_of_place(
        state, recipe.train.epochs, math.ceil(len(dataset.train) / recipe.train.batch_size)
    )
    if fault:
        raise RunError(f"The state in {files.state} cannot be used: {fault}.", ANEW)
    if warnings:  # a damaged one that stays would take the good one's place with the next save
        set_damaged_aside(files.state)
    return state


def _shown(value: object) -> str:
    """Show what a file holds: no long text, and none that reads on as a sentence of ours."""
    if isinstance(value, str) and re.fullmatch(r"[\w.+-]{1,64}", value):
        return value
    return _SHORT.repr(value)


def _fault_of_place(state: State, epochs: int, steps: int) -> str:
    """Say why a run of so many epochs and steps an epoch cannot go on there; empty if it can."""
    if state.epoch > epochs or state.step > (steps if state.epoch < epochs else 0):
        return f"step {state.step} of epoch {state.epoch} is none of {epochs} x {steps}"
    if state.step and not state.meters.get("rows"):
        return f"it is at step {state.step} and counts no images before that"
    return ""


def stopped(state: Path, command: str) -> RunError:
    """Return the error of a run that was asked to stop."""
    return shared_by_all(RunError(f"Stopped; the state is in {state}.", f"To go on: {command}"))


def single_image(error: ValueError) -> TrainingError:
    """Return the error for a batch with one natural image."""
    return TrainingError(
        f"A batch has one natural image, too few for batch norm: {error}.",
        "Choose train.batch_size so that no batch is left with a single image.",
    )


def too_little_memory(
    device: torch.device, batch_size: int, dataset: Dataset, *, held: bool
) -> TrainingError:
    """Return the error for a device whose memory is too small.

    Args:
        device: Where the run takes place.
        batch_size: Of its steps.
        dataset: Its images.
        held: Whether all training images lie in that memory.
    """
    return TrainingError(
        f"{device} has too little memory for batches of {batch_size} images of "
        f"{' x '.join(map(str, dataset.image_shape))}, beside "
        f"{len(dataset.train) if held else 0:,} images that lie there.",
        "Lower train.batch_size or data.image_size, take a smaller model, or set "
        f"{'data.memory_mib lower' if device.type == 'cpu' else 'speed.resident=false'}.",
    )
