"""Every method with every seed, on the same subset and by the same protocol.

A comparison is planned before anything is trained: every recipe is checked, the data are loaded
once, every network is built once. Then workers (:mod:`purenoise.lab.pool`) train the runs, each in
the folder that ``purenoise train`` would give it, seed by seed; what is finished is taken up, what
was begun goes on, and first phases that runs have in common are trained once
(:mod:`purenoise.lab.sharing`). The workers may be those of a Ray cluster
(:mod:`purenoise.lab.rayworkers`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from purenoise.data.arrays import ArrayData
from purenoise.errors import PureNoiseError, RunError
from purenoise.fitting import make_ready, phases_of
from purenoise.lab.comparison import Comparison, analyse
from purenoise.lab.place import Place
from purenoise.lab.planning import Plan, PlannedRun, plan_comparison
from purenoise.lab.records import Record
from purenoise.lab.scheduling import Execution, Job, Outcome
from purenoise.lab.sharing import alike, boundaries, prefix_key, shared_epochs
from purenoise.lab.starting import started
from purenoise.network import network
from purenoise.overrides import as_typed, plain
from purenoise.prepare import Prepared, prepare
from purenoise.recipe import Recipe
from purenoise.runidentity import run_identity
from purenoise.runlog import RunFolder, holding
from purenoise.runtime import stop_on_signal, torch_settings
from purenoise.speed import Switches
from purenoise.summaryform import fault_of, is_of_another

Listener = Callable[[str, dict[str, Any]], None]
IMAGES = ("fingerprint", "subset_sha256")


def carry_out(
    plan: Plan, listener: Listener = lambda *_: None, stopping: Callable[[], bool] = lambda: False
) -> Outcome:
    """Train what is not there yet.

    Args:
        plan: From :func:`plan_comparison`.
        listener: Told ``plan``, ``start``, ``epoch``, ``shared``, ``done``, ``failed``,
            ``warning``, ``note`` and what they are about.
        stopping: Asked again and again; True: runs keep their state and stop.

    Returns:
        What became of each run.

    Raises:
        PureNoiseError: If the data cannot be had, a method does not fit them, the executor cannot
            take the runs, or another process makes the same comparison.
    """
    pending = plan.pending()
    with started(plan, pending) as (workers, places):
        jobs = _jobs(plan, pending, places)
        # Nothing is written before all is well. Single runs may train side by side: each holds its
        # own folder.
        whole = bool(jobs) and plan.only is None
        with _held(plan.folder) if whole else nullcontext():
            listener("plan", {
                "runs": len(plan.runs), "finished": sum(r.finished for r in plan.runs),
                "jobs": jobs, "at_a_time": workers.jobs, "store": plan.store,
            })  # fmt: skip
            outcome = Execution(jobs, plan.store, workers, listener, stopping).run()
    outcome.failed |= {run.label: run.fault for run in plan.runs if run.fault}
    return outcome


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold the comparison's folder, so that no other process makes the same comparison.

    Raises:
        RunError: If another process holds it.
    """
    busy = RunError(
        f"This comparison is being made by another process, which holds {folder}.",
        "Wait for it; the same line then reads its result.",
    )
    try:
        with holding(folder, busy):
            yield
    finally:
        with suppress(OSError):
            folder.rmdir()  # if nothing came of it


def check_runs(plan: Plan, pending: Sequence[PlannedRun]) -> None:
    """Check that every run can be had, as before training, where nothing is trained here.

    Raises:
        PureNoiseError: If the data cannot be had, or a method does not fit them.
    """
    _jobs(plan, pending, None)


def _jobs(plan: Plan, pending: Sequence[PlannedRun], places: Sequence[Place] | None) -> list[Job]:
    """Check that every run can be had, and name the states that runs share."""
    prepared: dict[str, Prepared] = {}
    checked: set[str] = set()
    keys: list[dict[int, str]] = []
    images: list[dict[str, str]] = []
    around = plan.runs if plan.only else pending  # whose states one is to be of use for
    everyone = sorted({epoch for run in around for epoch in boundaries(run.recipe)})
    faults: list[str] = []
    for i, run in enumerate(pending):
        section = run.recipe.data.model_dump_json()
        if section not in prepared:
            prepared.clear()  # one set of images in memory is enough
            prepared[section] = prepare(run.recipe.data)
        data = prepared[section]
        if run.variant.label not in checked:
            checked.add(run.variant.label)
            faults += _fits(run, data)
        share = plan.share and places is not None
        keys.append(_keys(run.recipe, data, everyone, places[i]) if share and places else {})
        images.append({key: getattr(data.dataset, key) for key in IMAGES})
    if faults:
        raise RunError("The comparison cannot be made.\n" + "\n".join(faults))
    jobs = []
    shares = _shares_of_one(plan, pending, keys) if plan.only else shared_epochs(keys)
    for run, own, shared, seen in zip(pending, keys, shares, images, strict=True):
        ends = boundaries(run.recipe)[:-1]  # kept for methods that are added later
        useful = {e: key for e, key in own.items() if e in ends or plan.store.has(key)}
        known = {**useful, **shared}
        jobs.append(Job(run.label, run.recipe, run.folder, run.command, known, seen))
    return jobs


def _shares_of_one(
    plan: Plan, pending: Sequence[PlannedRun], keys: Sequence[dict[int, str]]
) -> list[dict[int, str]]:
    """Name the states that one run has in common with others, which other processes train."""
    found = alike([run.recipe for run in plan.runs])
    common = {run.label: at for run, at in zip(plan.runs, found, strict=True)}
    return [{e: key for e, key in own.items() if e in common[run.label]}
            for run, own in zip(pending, keys, strict=True)]  # fmt: skip


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
        elif why := fault_of(summary) or is_of_another(summary, run.recipe.digest()):
            left_out[run.label] = f"its summary.json is not used: {why}"
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
    executor: str = "local",
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
        executor: ``local``: processes of this machine; ``ray``: those of a Ray cluster, whose
            nodes share the folder of the runs.
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
        executor=executor,
    )  # fmt: skip
    with stop_on_signal() as stopping:
        outcome = carry_out(plan, stopping=stopping)
    if outcome.stopped:
        raise RunError("Stopped; what is finished is kept.", "The same call goes on.")
    return conclude(plan, outcome)


def _keys(recipe: Recipe, data: Prepared, epochs: Sequence[int], place: Place) -> dict[int, str]:
    """Name the states of a run that another might share."""
    switches = Switches(**place["speed"])
    if switches.compile:  # whether that succeeds, and so what was computed, is known only later
        return {}
    device = torch.device(place["device"])
    identity = run_identity(recipe, data, device, place["threads"], switches)
    identity |= {"environment": place["environment"]}  # program, machine, libraries
    usable = [e for e in epochs if e <= recipe.train.epochs]
    return {e: prefix_key(recipe, identity, e) for e in usable}
