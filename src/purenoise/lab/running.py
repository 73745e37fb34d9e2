"""Every method with every seed, on the same subset and by the same protocol.

A comparison is planned before anything is trained: every recipe is checked, the data are loaded
once, every network is built once. Then workers (:mod:`purenoise.lab.pool`) train the runs, each in
the folder that ``purenoise train`` would give it, seed by seed; what is finished is taken up, what
was begun goes on, and first phases that runs have in common are trained once
(:mod:`purenoise.lab.sharing`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from purenoise.data.arrays import ArrayData
from purenoise.data.cacheroot import LOCK, locked
from purenoise.errors import PureNoiseError, RunError
from purenoise.fitting import make_ready, phases_of
from purenoise.lab.comparison import Comparison, analyse
from purenoise.lab.planning import Plan, PlannedRun, plan_comparison
from purenoise.lab.records import Record
from purenoise.lab.scheduling import Execution, Job, Outcome
from purenoise.lab.sharing import boundaries, prefix_key, shared_epochs
from purenoise.lab.summaryform import fault_of
from purenoise.network import network
from purenoise.overrides import as_typed, plain
from purenoise.prepare import Prepared, prepare
from purenoise.recipe import Recipe
from purenoise.runidentity import run_identity
from purenoise.runlog import RunFolder, writing
from purenoise.runtime import (
    environment,
    resolve_device,
    resolve_threads,
    stop_on_signal,
    torch_settings,
)
from purenoise.speed import resolve_speed

Listener = Callable[[str, dict[str, Any]], None]


def carry_out(
    plan: Plan, listener: Listener = lambda *_: None, stopping: Callable[[], bool] = lambda: False
) -> Outcome:
    """Train what is not there yet.

    Args:
        plan: From :func:`plan_comparison`.
        listener: Told ``plan``, ``start``, ``epoch``, ``shared``, ``done``, ``failed``,
            ``warning`` and what they are about.
        stopping: Asked again and again; True: runs keep their state and stop.

    Returns:
        What became of each run.

    Raises:
        PureNoiseError: If the data cannot be had, a method does not fit them, or another process
            makes the same comparison.
    """
    pending = [run for run in plan.runs if not (run.finished or run.fault)]
    jobs = _jobs(plan, pending) if pending else []
    done = sum(run.finished for run in plan.runs)
    listener("plan", {"runs": len(plan.runs), "finished": done,
                      "jobs": jobs, "at_a_time": plan.jobs, "store": plan.store})  # fmt: skip
    on_gpu = bool(pending) and resolve_device(pending[0].recipe.device).type == "cuda"
    places = gpu_places(pending[0].recipe.device) if on_gpu else []
    with _held(plan.folder) if jobs else nullcontext():
        outcome = Execution(jobs, plan.store, plan.jobs, listener, stopping, places).run()
    outcome.failed |= {run.label: run.fault for run in plan.runs if run.fault}
    return outcome


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold the comparison's folder, so that no other process makes the same comparison.

    Raises:
        RunError: If another process holds it.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder, wait=False))
        except BlockingIOError as error:
            raise RunError(
                f"This comparison is being made by another process, which holds {folder}.",
                "Wait for it; the same line then reads its result.",
            ) from error
        except OSError as error:
            raise RunError(f"{folder} cannot be written: {error.strerror}.") from error
        try:
            yield
        finally:
            with suppress(OSError):
                (folder / LOCK).unlink()
                folder.rmdir()  # if nothing came of it


def gpu_places(device: str) -> list[dict[str, str]]:
    """Return what to set in the environment of each worker, so that each has a GPU of its own.

    Args:
        device: Of the recipe; one with a number leaves all workers on that GPU.
    """
    n = torch.cuda.device_count()
    if n < 2 or ":" in device:
        return []
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    ids = given.split(",")[:n] if given else [str(i) for i in range(n)]
    return [{"CUDA_VISIBLE_DEVICES": i.strip()} for i in ids]


def _jobs(plan: Plan, pending: Sequence[PlannedRun]) -> list[Job]:
    """Check that every run can be had, and name the states that runs share."""
    prepared: dict[str, Prepared] = {}
    checked: set[str] = set()
    keys: list[dict[int, str]] = []
    epochs = {run.folder: boundaries(run.recipe) for run in pending}
    everyone = sorted({epoch for ends in epochs.values() for epoch in ends})
    faults: list[str] = []
    for run in pending:
        section = run.recipe.data.model_dump_json()
        if section not in prepared:
            prepared.clear()  # one set of images in memory is enough
            prepared[section] = prepare(run.recipe.data)
        data = prepared[section]
        if run.variant.label not in checked:
            checked.add(run.variant.label)
            faults += _fits(run, data)
        keys.append(_keys(run.recipe, data, everyone) if plan.share else {})
    if faults:
        raise RunError("The comparison cannot be made.\n" + "\n".join(faults))
    jobs = []
    for run, own, shared in zip(pending, keys, shared_epochs(keys), strict=True):
        ends = boundaries(run.recipe)[:-1]  # kept for methods that are added later
        useful = {e: key for e, key in own.items() if e in ends or plan.store.has(key)}
        jobs.append(Job(run.label, run.recipe, run.folder, run.command, {**useful, **shared}))
    return jobs


def _fits(run: PlannedRun, data: Prepared) -> list[str]:
    """Build phases and network of a variant, to find now what does not fit."""
    recipe = run.recipe
    try:
        with torch_settings(1, torch.device("cpu")):
            phases = phases_of(recipe, data)
            for phase in phases:
                phase.loss(phase.first)
            model = network(recipe, data)
            make_ready(model, recipe, phases, data)
    except PureNoiseError as error:
        return [f"{run.variant.label}: {error}"]
    return []


def conclude(plan: Plan, outcome: Outcome) -> Comparison:
    """Read the runs that are finished and compare them.

    Raises:
        RunError: If none is finished.
    """
    records, left_out = [], dict(outcome.failed)
    for run in plan.runs:
        summary = None if run.label in left_out else RunFolder(run.folder).summary()
        if summary is None:
            left_out.setdefault(run.label, "it is not finished")
        elif summary["test"] is None:
            left_out[run.label] = "it has no test images"
        elif fault := fault_of(summary):
            left_out[run.label] = f"its summary.json is damaged: {fault}"
        else:
            records.append(Record(run.variant.label, run.seed, run.folder, run.recipe, summary))
    there = {record.label for record in records}
    baseline = plan.baseline if plan.baseline in there else None
    found = analyse(records, baseline, mixed=True, left_out=left_out)
    notes = found.notes
    if baseline is None:
        notes = (f"The baseline {plan.baseline} has no finished run: differences are to "
                 f"{found.baseline}.", *notes)  # fmt: skip
    return replace(found, notes=notes, command=plan.command)


def compare(
    recipe: str | Path | None = None,
    *,
    methods: str | Sequence[str],
    seeds: int | str | Iterable[int] = 5,
    baseline: str | None = None,
    jobs: int | str = "auto",
    share: bool = True,
    **overrides: Any,
) -> Comparison:
    """Train every method with every seed, as far as it is not there yet, and compare.

    Args:
        recipe: Name of a recipe, path of a YAML file, or None: digits, or what fits ``data=``.
        methods: Such as ``["erm", "drs", "open", "open:stop_gradient=affine"]``.
        seeds: How many, from 0 on; or which.
        baseline: One of the methods; None: ``drs`` if it is among them, else the first.
        jobs: Runs at a time; ``auto``: as many as the cores allow, or one per GPU.
        share: Whether first phases in common are trained once. The numbers are the same.
        **overrides: Keys of the recipe, for all runs; see :func:`purenoise.train`.

    Returns:
        Means, intervals, differences to the baseline, and what may be concluded.

    Raises:
        PureNoiseError: Any fault of methods, seeds, recipe or data, before training begins; or if
            no run could be finished. Runs that fail are named in ``left_out``.

    Example:
        >>> import purenoise as pn
        >>> found = pn.compare("digits", methods=["erm", "open"], seeds=5)  # doctest: +SKIP
        >>> found.differences[0].headline.estimate.mean  # doctest: +SKIP
    """
    if isinstance(overrides.get("data"), ArrayData):
        raise RunError(
            "A comparison trains in processes of its own, which do not have the arrays.",
            "Keep them in a file (numpy.savez: train_images, train_labels, test_images, "
            "test_labels) and give data=FILE.npz.",
        )
    given = {key: plain(value) for key, value in overrides.items()}
    plan = plan_comparison(
        str(recipe) if recipe else None,
        [f"{key}={as_typed(value)}" for key, value in given.items()],
        methods=methods, seeds=seeds, baseline=baseline, jobs=jobs, share=share,
    )  # fmt: skip
    with stop_on_signal() as stopping:
        outcome = carry_out(plan, stopping=stopping)
    if outcome.stopped:
        raise RunError("Stopped; what is finished is kept.", "The same call goes on.")
    return conclude(plan, outcome)


def _keys(recipe: Recipe, data: Prepared, epochs: Sequence[int]) -> dict[int, str]:
    """Name the states of a run that another might share."""
    device, threads = resolve_device(recipe.device), resolve_threads(recipe.threads)
    switches = resolve_speed(recipe.speed, device, recipe.precision)
    if switches.compile:  # whether that succeeds, and so what was computed, is known only later
        return {}
    identity = run_identity(recipe, data, device, threads, switches)
    identity |= {"environment": environment(device, threads)}  # program, machine, libraries
    usable = [e for e in epochs if e <= recipe.train.epochs]
    return {e: prefix_key(recipe, identity, e) for e in usable}
