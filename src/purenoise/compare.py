"""Every method with every seed, on the same subset and by the same protocol.

A comparison is planned before anything is trained: every recipe is checked, the data are loaded
once, every network is built once. Then workers (:mod:`purenoise.pool`) train the runs, each in the
folder that ``purenoise train`` would give it, seed by seed; what is finished is taken up, what was
begun goes on, and first phases that runs have in common are trained once
(:mod:`purenoise.sharing`).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from purenoise.conversion import convert
from purenoise.errors import PureNoiseError, RecipeError, RunError, did_you_mean
from purenoise.experiment import plain_recipe, run_identity, run_path
from purenoise.methods import build_phases
from purenoise.network import network
from purenoise.prepare import Prepared, absolute_root, check_folder_unchanged, prepare
from purenoise.recipe import Recipe, load_recipe
from purenoise.runlog import RunFolder
from purenoise.runtime import available_cores, resolve_device, resolve_threads, torch_settings
from purenoise.scheduling import Execution, Job, Outcome
from purenoise.sharing import PhaseStore, boundaries, prefix_key, shared_epochs
from purenoise.speed import resolve_speed
from purenoise.variants import Variant, parse_seeds, parse_variants

OWN_KEYS = ("methods", "seeds", "baseline", "jobs", "share")
FAIR_BASELINE = "drs"
Listener = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True)
class PlannedRun:
    """One variant with one seed.

    Args:
        variant: Method and changes.
        seed: Of the run.
        recipe: With everything applied.
        folder: Where the run lies or will lie.
        finished: Whether it is there already.
        command: The line that trains it alone.
    """

    variant: Variant
    seed: int
    recipe: Recipe
    folder: Path
    finished: bool
    command: str


@dataclass(frozen=True)
class Plan:
    """What a comparison will do.

    Args:
        runs: Seed by seed.
        variants: In the order in which they were named.
        seeds: In order.
        baseline: Label of the variant that the others are compared with.
        jobs: Runs at a time.
        share: Whether first phases in common are trained once.
        command: The line that does all this again.
        store: Where states at the ends of shared phases are kept.
    """

    runs: tuple[PlannedRun, ...]
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    baseline: str
    jobs: int
    share: bool
    command: str
    store: PhaseStore


def plan_comparison(
    name: str | None,
    overrides: Sequence[str],
    *,
    methods: str | Sequence[str],
    seeds: str | int | Iterable[int] = 5,
    baseline: str | None = None,
    jobs: int | str = "auto",
    share: bool = True,
    command: str = "",
) -> Plan:
    """Check a comparison as a whole, without training.

    Args:
        name: Of the recipe, see :func:`purenoise.recipe.load_recipe`.
        overrides: Changes for all runs.
        methods: See :func:`purenoise.variants.parse_variants`.
        seeds: See :func:`purenoise.variants.parse_seeds`.
        baseline: Label of a variant; None: ``drs`` if it is among them, else the first.
        jobs: Runs at a time; ``auto``: as many as the cores allow, or one per GPU.
        share: Whether first phases in common are trained once.
        command: The line that does all this again.

    Raises:
        PureNoiseError: Naming all that cannot be done.
    """
    variants, numbers = parse_variants(methods), parse_seeds(seeds)
    runs = _planned_runs(name, overrides, variants, numbers)
    labels = [variant.label for variant in variants]
    if baseline is not None and baseline not in labels:
        raise RecipeError(
            f"The baseline {baseline!r} is not among the methods.", did_you_mean(baseline, labels)
        )
    chosen = baseline or (FAIR_BASELINE if FAIR_BASELINE in labels else labels[0])
    first = runs[0].recipe
    return Plan(
        tuple(runs), tuple(variants), tuple(numbers), chosen, resolve_jobs(jobs, first), share,
        command, PhaseStore(Path(first.out) / "phases"),
    )  # fmt: skip


def _planned_runs(
    name: str | None, overrides: Sequence[str], variants: Sequence[Variant], seeds: Sequence[int]
) -> list[PlannedRun]:
    """Load the recipe of every run; name every fault of every variant."""
    for text in overrides:
        key = text.partition("=")[0]
        if key in ("method", "seed"):
            raise RecipeError(f"A comparison takes {key}s=, not {key}=.", f"Such as {key}s=...")
    base = plain_recipe(name, overrides)
    base = base.model_copy(update={"data": absolute_root(base.data)})
    runs, faults = [], []
    for seed in seeds:
        for variant in variants:
            changes = [*overrides, *variant.overrides(seed)]
            try:
                recipe = load_recipe(name, changes)
            except RecipeError as error:
                if seed == seeds[0]:
                    faults.append(f"{variant.label}: {error.message}")
                continue
            recipe = recipe.model_copy(update={"data": absolute_root(recipe.data)})
            folder = run_path(recipe, base)
            words = ["purenoise", "train", *([name] if name else []), *overrides,
                     *variant.changes, f"method={variant.method}", f"seed={seed}"]  # fmt: skip
            done = _is_finished(recipe, folder)
            runs.append(PlannedRun(variant, seed, recipe, folder, done, shlex.join(words)))
    if faults:
        raise RecipeError("The comparison cannot be made.\n" + "\n".join(faults))
    _refuse_same(runs)
    return runs


def _is_finished(recipe: Recipe, folder: Path) -> bool:
    """Whether the run is there; a folder of another recipe, or changed data, is refused."""
    files = RunFolder(folder)
    files.check_recipe(recipe.digest())
    summary = files.summary()
    if summary is not None:
        check_folder_unchanged(summary, recipe.data, folder)
    return summary is not None


def _refuse_same(runs: Sequence[PlannedRun]) -> None:
    """Refuse two variants that are one and the same run."""
    seen: dict[Path, PlannedRun] = {}
    for run in runs:
        if run.folder in seen:
            raise RecipeError(
                f"{seen[run.folder].variant.label} and {run.variant.label} are the same run, "
                f"{run.folder}.",
                "Leave one of them out.",
            )
        seen[run.folder] = run


def resolve_jobs(jobs: int | str, recipe: Recipe) -> int:
    """Return how many runs train at a time.

    Args:
        jobs: A number, or ``auto``: cores divided by the threads of a run, or one per GPU.
        recipe: Of the runs.

    Raises:
        RecipeError: If it is no such number, or the cores are too few for so many.
    """
    on_gpu = resolve_device(recipe.device).type != "cpu"
    threads, cores = resolve_threads(recipe.threads), available_cores()
    if str(jobs) == "auto":
        return max(1, torch.cuda.device_count() if on_gpu else cores // threads)
    if not str(jobs).isdecimal() or int(jobs) < 1:
        raise RecipeError(f"jobs={jobs} cannot be read.", "Give a whole number from 1 on, or auto.")
    if not on_gpu and int(jobs) * threads > cores:
        raise RecipeError(
            f"jobs={jobs} with {threads} threads each is more than the {cores} cores there are.",
            f"Runs at a time take threads=N each: {jobs} take threads={max(1, cores // int(jobs))}."
            if int(jobs) <= cores
            else f"At most jobs={cores} with threads=1.",
        )
    return int(jobs)


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
        PureNoiseError: If the data cannot be had, or a method does not fit them.
    """
    pending = [run for run in plan.runs if not run.finished]
    jobs = _jobs(plan, pending) if pending else []
    listener("plan", {"runs": len(plan.runs), "finished": len(plan.runs) - len(pending),
                      "jobs": jobs, "at_a_time": plan.jobs})  # fmt: skip
    on_gpu = bool(pending) and resolve_device(pending[0].recipe.device).type == "cuda"
    gpus = torch.cuda.device_count() if on_gpu else 0
    places = [{"CUDA_VISIBLE_DEVICES": str(i)} for i in range(gpus)] if gpus > 1 else []
    return Execution(jobs, plan.store, plan.jobs, listener, stopping, places).run()


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
    for run, shared in zip(pending, shared_epochs(keys), strict=True):
        jobs.append(Job(f"{run.variant.label} seed {run.seed}", run.recipe, run.folder, run.command,
                        shared))  # fmt: skip
    return jobs


def _fits(run: PlannedRun, data: Prepared) -> list[str]:
    """Build phases and network of a variant, to find now what does not fit."""
    recipe, train = run.recipe, data.dataset.train
    try:
        with torch_settings(1, torch.device("cpu")):
            phases = build_phases(
                recipe.resolved_method(), train.labels, data.dataset.n_classes,
                epochs=recipe.train.epochs, defer=recipe.defer, delta=recipe.delta,
                seed=recipe.seed,
            )  # fmt: skip
            for phase in phases:
                phase.loss(phase.first)
            model = network(recipe, data)
            if any(phase.has_noise for phase in phases):
                convert(model, recipe.stop_gradient)
    except PureNoiseError as error:
        return [f"{run.variant.label}: {error}"]
    return []


def _keys(recipe: Recipe, data: Prepared, epochs: Sequence[int]) -> dict[int, str]:
    """Name the states of a run that another might share."""
    device, threads = resolve_device(recipe.device), resolve_threads(recipe.threads)
    switches = resolve_speed(recipe.speed, device, recipe.precision)
    identity = run_identity(recipe, data, device, threads, switches)
    usable = [e for e in epochs if e <= recipe.train.epochs]
    return {e: prefix_key(recipe, identity, e) for e in usable}
