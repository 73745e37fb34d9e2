"""First phases that methods have in common are trained once.

What a network is after its first e epochs depends on the recipe without its method, on the seed, on
where and with what it is computed, and on the phases *up to e*. A hash over all of that names a
state; runs with the same name at e can go on from one another's state, bit for bit. So ERM, DRS,
DRW, OPeN and everything else that begins with plain training share their first phase.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from purenoise.checkpoint import load_state, save_state
from purenoise.errors import RunError
from purenoise.headstage import stages_of
from purenoise.methodfile import PhaseSpec
from purenoise.methods import cut_at_mixing, phase_spans
from purenoise.recipe import Recipe
from purenoise.runlinks import refuse_links
from purenoise.stateform import fault_of_history
from purenoise.training import State
from purenoise.wholefile import make_folders, writing

# What only steps with noise read, and so cannot change a phase without.
ONLY_WITH_NOISE = ("delta", "stop_gradient", "noise", "batch_norm")
ABANDONED = 3600.0  # seconds after which nobody writes a state any more


def boundaries(recipe: Recipe) -> list[int]:
    """Return the epochs after which a run's phases end, the last epoch included."""
    return [end for _, _, end in _spans(recipe)]


def prefix_key(recipe: Recipe, identity: Mapping[str, Any], epoch: int) -> str:
    """Return the name of a run's state after its first epochs.

    Args:
        recipe: Of the run.
        identity: What a resumed run must agree with, without the recipe's own hash.
        epoch: How many epochs, at least 1.

    Returns:
        32 hex digits.
    """
    content = recipe.content()
    method = content.pop("method")
    spans = [(s, a, min(e, epoch)) for s, a, e in cut_at_mixing(_spans(recipe)) if a < epoch]
    stages = stages_of(_spans(recipe))
    phases: list[dict[str, Any]] = []
    for spec, first, end in spans:  # a phase's own loss takes the place of the method's
        phase = {"loss": method["loss"], **spec.model_dump(mode="json"), "first": first, "end": end}
        del phase["start"]
        stretch = next(s.stretch for s in stages if s.first <= first < s.end)
        if stretch != (0, recipe.train.epochs):  # a learning rate that is not the usual one
            phase["stretch"] = stretch
        same = phases and {**phases[-1], "end": 0, "first": 0} == {**phase, "end": 0, "first": 0}
        if same:
            phases[-1]["end"] = end
        else:
            phases.append(phase)
    kept = {key: value for key, value in identity.items() if key != "recipe"}
    del content["defer"]  # it is in the epochs of the phases
    content.pop("options", None)  # they are in the phases and in the loss
    if all(spec.noise == "none" for spec, _, _ in spans):
        for key in ONLY_WITH_NOISE:
            content.pop(key, None)
        kept.pop("noise_images", None)
        if _noisy(recipe) and recipe.batch_norm == "auxiliary":  # has other parameters at once
            content["batch_norm"] = recipe.batch_norm
    text = json.dumps([content, phases, kept], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _spans(recipe: Recipe) -> list[tuple[PhaseSpec, int, int]]:
    return phase_spans(recipe.resolved_method(), recipe.train.epochs, recipe.defer)


def _noisy(recipe: Recipe) -> bool:
    return any(spec.noise != "none" for spec, _, _ in _spans(recipe))


class PhaseStore:
    """States at the ends of phases, by their names.

    Args:
        folder: Where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._unusable: set[str] = set()

    def has(self, key: str) -> bool:
        """Whether there is a state of that name, as far as is known."""
        return key not in self._unusable and (self.folder / key / "state.pt").is_file()

    def save(self, key: str, state: State, identity: Mapping[str, Any]) -> None:
        """Keep a state, unless it is there already.

        Raises:
            RunError: If it cannot be written, or the store is a link that leads elsewhere.
        """
        if self.has(key):
            return
        refuse_links(self.folder.parent, self.folder.name)
        # Another process may save it as well; what lies in the place of a new folder is an error.
        beside = self.folder / f".{key}.{os.getpid()}-{time.time_ns():x}.part"
        with writing(beside):
            make_folders(self.folder)
            beside.mkdir()
        self._remove_left()
        try:
            save_state(beside, state, {**identity, "phase": key})
            with suppress(OSError):  # it was quicker
                beside.rename(self.folder / key)
                self._unusable.discard(key)
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def _remove_left(self) -> None:
        """Remove what processes that were killed while they wrote have left; nothing reads it."""
        for path in self.folder.glob(".*.part"):
            with suppress(OSError):
                if not path.is_symlink() and time.time() - path.stat().st_mtime > ABANDONED:
                    shutil.rmtree(path)

    def load(self, key: str) -> State | None:
        """Return a state, or None if there is none.

        One that is damaged, or that lies in the place of another, is removed, or not read again.
        """
        try:
            found = load_state(self.folder / key)
            if found is None:
                return None
            state, identity, _ = found
            if identity.get("phase") == key and not fault_of_history(state.history, state.epoch):
                return state
        except RunError:
            pass
        self._unusable.add(key)  # it may be a link, or not ours to remove
        shutil.rmtree(self.folder / key, ignore_errors=True)
        return None


def longest(keys: Mapping[int, str], store: PhaseStore) -> int | None:
    """Return the latest epoch whose state is in the store, of those that a run could go on from."""
    there = [epoch for epoch, key in keys.items() if store.has(key)]
    return max(there, default=None)


def shared_epochs(runs: Sequence[Mapping[int, str]]) -> list[dict[int, str]]:
    """Return, for each run, the epochs whose state another run has as well, with their names.

    Args:
        runs: Epochs and names of states of each run.
    """
    times: dict[str, int] = {}
    for key in _all(runs):
        times[key] = times.get(key, 0) + 1
    return [{e: key for e, key in keys.items() if times[key] > 1} for keys in runs]


def alike(recipes: Sequence[Recipe]) -> list[dict[int, str]]:
    """Return, for each recipe, the epochs up to which another does the same on the same machine.

    Args:
        recipes: Of the runs.

    Returns:
        Those epochs with names, which are not those of states: they know no machine, no images.
    """
    ends = sorted({end for recipe in recipes for end in boundaries(recipe)})
    return shared_epochs([
        {e: prefix_key(recipe, {}, e) for e in ends if e <= recipe.train.epochs}
        for recipe in recipes
    ])  # fmt: skip


def _all(runs: Iterable[Mapping[int, str]]) -> Iterable[str]:
    for keys in runs:
        yield from keys.values()
