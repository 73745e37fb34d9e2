"""One experiment from recipe to finished run folder: what ``purenoise train`` does."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from purenoise import resuming
from purenoise.augment import Augment, build_augment
from purenoise.checkpoint import save_state, state_bytes, state_of_bytes, write_whole
from purenoise.data.arrays import ArrayData
from purenoise.data.types import MemoryImages
from purenoise.datasources import SAME_CALL, array_recipes
from purenoise.errors import PureNoiseError
from purenoise.finishing import finish
from purenoise.fitting import make_plain, make_ready, phases_of, refuse_alone_only
from purenoise.methods import Phase
from purenoise.network import lay_out, noted_network
from purenoise.ourlines import line_of
from purenoise.outofmemory import is_out_of_memory, memory_told
from purenoise.overrides import as_typed, plain
from purenoise.prepare import Prepared, check_folder_unchanged, placed, prepare
from purenoise.recipe import Recipe, load_recipe, plain_recipe
from purenoise.runidentity import run_identity, run_path
from purenoise.runlog import RunFolder, RunLog, inherited, put_aside, read_events
from purenoise.runtime import (
    environment,
    resolve_device,
    resolve_threads,
    stop_on_signal,
    torch_settings,
)
from purenoise.speed import resolve_speed
from purenoise.summaryform import read_summary
from purenoise.team import Team, is_loss, joined, losses_told
from purenoise.training import Fit, Interrupted, Listener, State

EpochHook = Callable[[State, dict[str, Any]], None]


@dataclass(frozen=True)
class Run:
    """A finished run.

    Args:
        folder: Where it lies.
        summary: What ``summary.json`` holds: metrics of the last epoch, data, environment.
        trained: False if the run was finished before and nothing was done.
    """

    folder: Path
    summary: dict[str, Any]
    trained: bool = True

    @property
    def metrics(self) -> dict[str, Any]:
        """Metrics on the test images after the last epoch; empty without test images."""
        return dict(self.summary["test"] or {})


def train(recipe: str | Path | Recipe | None = None, **overrides: Any) -> Run:
    """Train by a recipe; continue if the run was begun, return if it is finished.

    Args:
        recipe: Name of a recipe, path of a YAML file, a :class:`Recipe`, or None: digits, or what
            fits ``data=``.
        **overrides: Keys of the recipe; dots are written as they are: ``**{"train.lr": 0.05}``.
            Numbers of numpy, paths, tuples and mappings do as values.

    Returns:
        The run.

    Raises:
        PureNoiseError: Any fault of the recipe, the data, the folder or the training.

    Example:
        >>> import purenoise as pn
        >>> run = pn.train("digits", method="erm", epochs=20)  # doctest: +SKIP
        >>> run.metrics["accuracy"]  # doctest: +SKIP
    """
    arrays = overrides.get("data")
    if isinstance(arrays, ArrayData):
        given, base = array_recipes(recipe, arrays, overrides)
        return run_recipe(given, base, command=SAME_CALL, data=prepare(given.data, arrays=arrays))
    if isinstance(recipe, Recipe):
        return run_recipe(recipe, recipe)
    name = str(recipe) if recipe else None
    values = {key: plain(value) for key, value in overrides.items()}
    texts = [f"{key}={as_typed(value)}" for key, value in values.items()]
    words = ["purenoise", "train", *([name] if name else []), *texts]
    chosen = [f"data={values['data']}"] if isinstance(values.get("data"), str) else []
    base = plain_recipe(name, chosen)
    return run_recipe(load_recipe(name, values=values), base, command=shlex.join(words))


@memory_told()
def run_recipe(
    recipe: Recipe,
    base: Recipe,
    *,
    listeners: Sequence[Listener] = (),
    folder: Path | None = None,
    command: str = "",
    on_epoch: EpochHook = lambda *_: None,
    resume: tuple[State, dict[str, Any]] | None = None,
    shared: State | None = None,
    data: Prepared | None = None,
) -> Run:
    """Train a recipe in its folder.

    Args:
        recipe: With overrides applied.
        base: Without; overrides that change the result give the folder a suffix.
        listeners: Called with every event.
        folder: Another folder than ``out/recipe/method/seed-n``.
        command: The line that runs this again, for messages and the summary.
        on_epoch: Called after every epoch with the state and the run's identity.
        resume: Such a state and identity to go on from, unless the folder has a later one.
        shared: A state of another run to go on from, unless the folder has a later one; whoever
            gives it answers for its being what this run would have come to.
        data: The recipe's data, if they are at hand.
    """
    recipe, base = placed(recipe), placed(base)
    place = folder or run_path(recipe, base)
    with joined() as team:
        if (done := _finished(recipe, place, team)) is not None:
            return done

        def begin() -> _Experiment:
            device, threads = resolve_device(recipe.device), resolve_threads(recipe.threads)
            files = RunFolder(place)
            if team.leads:
                files.check_writable()
            return _Experiment(recipe, files, device, threads, listeners, command, data, team)

        experiment = team.together(begin)
        experiment.on_epoch, experiment.resume, experiment.shared = on_epoch, resume, shared
        with torch_settings(experiment.threads, experiment.device,
                            deterministic=recipe.deterministic, tell=experiment.warn):  # fmt: skip
            return experiment.run()


def _finished(recipe: Recipe, place: Path, team: Team) -> Run | None:
    """Return a run that is finished; a folder of another recipe is refused."""

    def read() -> bytes | None:
        if not team.leads:
            return None
        files, digest = RunFolder(place), recipe.digest()
        files.check_recipe(digest)
        if (done := read_summary(files, digest)) is None:
            return None
        check_folder_unchanged(done, recipe.data, place)
        return json.dumps(done).encode()

    found = team.sent(team.together(read))
    return None if found is None else Run(place, json.loads(found), trained=False)


class _Experiment:
    """The parts of one run, put together."""

    def __init__(
        self,
        recipe: Recipe,
        files: RunFolder,
        device: torch.device,
        threads: int,
        listeners: Sequence[Listener],
        command: str,
        data: Prepared | None,
        team: Team,
    ) -> None:
        self.recipe, self.files, self.device = recipe, files, device
        self.threads, self.team, self.listeners = threads, team, list(listeners)
        self.command = command or f"purenoise train {shlex.quote(str(files.path))}"
        self.begun_by = self.command  # until the log says otherwise: a run may have been moved
        self.started = time.perf_counter()
        self.switches = resolve_speed(recipe.speed, device, recipe.precision)
        if not team.is_alone:
            refuse_alone_only(recipe, self.switches)
        self.environment = environment(device, threads) | {"processes": team.size}
        self.on_epoch: EpochHook = lambda *_: None
        self.resume: tuple[State, dict[str, Any]] | None = None
        self.shared: State | None = None
        self.log: RunLog | None = None
        self.data = data or prepare(recipe.data)
        self.identity = run_identity(recipe, self.data, device, threads, self.switches, team.size)

    def run(self) -> Run:
        recipe, data, team = self.recipe, self.data, self.team
        team.refuse_differing(self.identity, recipe.to_yaml())
        phases, model, notes, augment = team.together(self._parts)
        with stop_on_signal() as should_stop:
            fit = Fit(
                recipe, data, model, phases, augment, self.switches, team,
                listener=self._tell,
                save=self._save,
                on_epoch=lambda kept: self.on_epoch(kept, self.identity),
                should_stop=should_stop,
            )  # fmt: skip
            warnings = [*self.switches.warnings, *fit.warm_up()]
            self._know_what_is_on(fit)
            with self.files.held() if team.leads else nullcontext(), closing(self):
                if (done := _finished(recipe, self.files.path, team)) is not None:
                    return done  # by another process, while this one got ready
                state = self._common_state()
                self._tell("start", self._start(augment.describe(), notes, state))
                self.warn(*warnings)
                history = self._fit(fit, state)
                notes += make_plain(model, recipe, phases, data) + inherited(self.files.events)
                head = {**self._about(augment.describe(), notes), "environment": self.environment}

                def end() -> str:
                    try:
                        summary = finish(
                            model, history, data, self.files, head, should_stop,
                            adjusted=recipe.resolved_method().post is not None,
                        )  # fmt: skip
                    except Interrupted as error:
                        raise resuming.stopped(self.files.state, self.command) from error
                    summary["seconds"] = time.perf_counter() - self.started
                    self._tell("end", {"test": summary["test"], "seconds": summary["seconds"]})
                    return self.files.write_summary(summary)

                written = team.together(lambda: end() if team.leads else "")
                content = team.sent(written.encode())
        return Run(self.files.path, json.loads(content or b"{}"))

    def _parts(self) -> tuple[list[Phase], nn.Module, list[str], Augment]:
        """Build phases, network, notes on it, and augmentation."""
        recipe, data = self.recipe, self.data
        phases = phases_of(recipe, data)
        model, notes = noted_network(recipe, data)
        model.to(self.device)
        if self.switches.channels_last:
            lay_out(model)
        notes = [*data.dataset.notes, *notes, *make_ready(model, recipe, phases, data, self.team)]
        flip = recipe.augment.flip
        flip = data.dataset.mirror_safe if flip is None else flip
        return phases, model, notes, build_augment(recipe.augment.policy, data.dataset.image_shape,
                                                   flip=flip)  # fmt: skip

    def close(self) -> None:
        """Close the log, if it was opened."""
        if self.log is not None:
            self.log.close()

    def _save(self, state: State) -> None:
        """Write a state; in a team, the process that leads does."""
        if self.team.leads:
            save_state(self.files.state, state, self.identity)

    def _common_state(self) -> State:
        """Open the run's files and return the state to continue from, the same in every process."""

        def find() -> State | None:
            if not self.team.leads:
                return None
            said = put_aside(self.files, self.recipe.digest())  # told when there is a log
            state = resuming.state_to_go_on(
                self.files, self.identity, self.recipe, self.data.dataset, self.resume,
                self.shared, said.append,
            )  # fmt: skip
            self._open(state)
            self.warn(*said)
            return state

        found = self.team.together(find)
        if self.team.is_alone:
            assert found is not None
            return found
        content = self.team.sent(None if found is None else state_bytes(found, self.identity))
        return state_of_bytes(content or b"")

    def _know_what_is_on(self, fit: Fit) -> None:
        """Record the switches that are on now that compiling has been tried, and what else is."""
        self.switches = fit.step.switches
        self.identity["speed"] = self.switches.record()
        self.environment |= {
            "resident": fit.feed.resident,
            "fused_update": bool(fit.optimizer.param_groups[0].get("fused")),
        }

    def _open(self, state: State) -> None:
        """Write the recipe and open the log, which drops what comes after the state."""
        head = f"# purenoise {self.environment['purenoise']}: the whole recipe of this run\n"
        digest = self.recipe.digest()
        write_whole(self.files.recipe, f"{head}{self.recipe.to_yaml()}digest: {digest}\n")
        self.begun_by = line_of(read_events(self.files.events), self.command, digest)
        theirs = state is self.shared or (self.resume is not None and state is self.resume[0])
        self.log = RunLog(self.files, state.epoch, state.history, shared=theirs)

    def _fit(self, fit: Fit, state: State) -> list[dict[str, Any]]:
        try:
            return fit.run(state)
        except Interrupted as error:
            raise resuming.stopped(self.files.state, self.command) from error
        except ValueError as error:
            if isinstance(error, PureNoiseError) or "more than 1 value" not in str(error):
                raise
            raise resuming.single_image(error) from error
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and is_loss(error):  # shows in a backward pass
                with losses_told():
                    raise
            if isinstance(error, PureNoiseError) or not is_out_of_memory(error):
                raise
            train, on_cpu = self.data.dataset.train, self.device.type == "cpu"
            held = fit.feed.resident or (on_cpu and isinstance(train.images, MemoryImages))
            raise resuming.too_little_memory(
                self.device, self.recipe.train.batch_size, self.data.dataset, held=held
            ) from error

    def _about(self, augment: str, notes: list[str]) -> dict[str, Any]:
        return {
            "recipe": self.recipe.name, "method": self.recipe.method_name(),
            "seed": self.recipe.seed, "digest": self.recipe.digest(), "command": self.begun_by,
            "augment": augment, "notes": notes, "speed": self.switches.record(),
            **self.data.summary(),
        }  # fmt: skip

    def _start(self, augment: str, notes: list[str], state: State) -> dict[str, Any]:
        return {
            **self._about(augment, notes), "epochs": self.recipe.train.epochs,
            "folder": str(self.files.path), "resumed_at": [state.epoch, state.step],
            "environment": self.environment,
        }  # fmt: skip

    def warn(self, *texts: str) -> None:
        """Tell of something that the user should know."""
        for text in texts:
            self._tell("warning", {"text": text})

    def _tell(self, name: str, event: dict[str, Any]) -> None:
        if not self.team.leads:
            return
        if self.log is not None:
            self.log(name, event)
        for listener in self.listeners:
            listener(name, event)
