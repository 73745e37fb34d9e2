"""What a comparison will do: every run with its recipe and its folder, checked beforehand."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from purenoise.errors import RecipeError, RunError, did_you_mean
from purenoise.lab.comparison import FAIR_BASELINE
from purenoise.lab.executors import check_executor
from purenoise.lab.likeness import likeness
from purenoise.lab.sharing import PhaseStore
from purenoise.lab.variants import Variant, parse_seeds, parse_variants
from purenoise.prepare import check_folder_unchanged, placed
from purenoise.recipe import Recipe, load_recipe, plain_recipe
from purenoise.runidentity import run_path
from purenoise.runlog import RunFolder
from purenoise.runtime import available_cores, resolve_device, resolve_threads


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
        fault: Why its result cannot be read, if it is there and cannot.
    """

    variant: Variant
    seed: int
    recipe: Recipe
    folder: Path
    finished: bool
    command: str
    fault: str = ""

    @property
    def label(self) -> str:
        """Variant and seed."""
        return f"{self.variant.label} seed {self.seed}"


@dataclass(frozen=True)
class Plan:
    """What a comparison will do.

    Args:
        runs: Seed by seed.
        variants: In the order in which they were named.
        seeds: In order.
        baseline: Label of the variant that the others are compared with.
        jobs: Runs at a time; 0: as many as the executor allows.
        share: Whether first phases in common are trained once.
        command: The line that does all this again.
        store: Where states at the ends of shared phases are kept.
        folder: For the report.
        executor: Who trains: see :mod:`purenoise.lab.executors`; None: nobody, lines are printed.
        only: Label of the one run to be trained now; None: all.
    """

    runs: tuple[PlannedRun, ...]
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    baseline: str
    jobs: int
    share: bool
    command: str
    store: PhaseStore
    folder: Path
    executor: str | None = "local"
    only: str | None = None

    def pending(self) -> list[PlannedRun]:
        """Return the runs that are to be trained now, seed by seed."""
        return [
            r for r in self.runs
            if not (r.finished or r.fault) and self.only in (None, r.label)
        ]  # fmt: skip


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
    executor: str | None = "local",
    only: str | None = None,
) -> Plan:
    """Check a comparison as a whole, without training.

    Args:
        name: Of the recipe, see :func:`purenoise.recipe.load_recipe`.
        overrides: Changes for all runs.
        methods: See :func:`purenoise.lab.variants.parse_variants`.
        seeds: See :func:`purenoise.lab.variants.parse_seeds`.
        baseline: Label of a variant; None: ``drs`` if it is among them, else the first.
        jobs: Runs at a time; ``auto``: as many as the cores allow, or one per GPU.
        share: Whether first phases in common are trained once.
        command: The line that does all this again.
        executor: ``local``, ``ray``, or None if the runs will not be trained by this process.
        only: Label of the one run to be trained now, such as ``drs seed 3``; None: all.

    Raises:
        PureNoiseError: Naming all that cannot be done.
    """
    if executor is not None:
        check_executor(executor)
    variants, numbers = parse_variants(methods), parse_seeds(seeds)
    runs = _planned_runs(name, overrides, variants, numbers)
    labels = [variant.label for variant in variants]
    if baseline is not None and baseline not in labels:
        raise RecipeError(
            f"The baseline {baseline!r} is not among the methods.", did_you_mean(baseline, labels)
        )
    if only is not None and only not in [run.label for run in runs]:
        hint = did_you_mean(only, [run.label for run in runs])
        raise RecipeError(f"only={only} is no run of this comparison.", hint)
    chosen = baseline or (FAIR_BASELINE if FAIR_BASELINE in labels else labels[0])
    first = runs[0]
    out = Path(first.recipe.out)
    what = hashlib.sha256(repr((labels, numbers, chosen, [r.folder for r in runs])).encode())
    return Plan(
        tuple(runs), tuple(variants), tuple(numbers), chosen,
        resolve_jobs(jobs, first.recipe) if executor == "local" else _whole_jobs(jobs),
        share, command, PhaseStore(out / "phases"),
        out / "comparisons" / f"{first.recipe.name}-{what.hexdigest()[:8]}",
        executor, only,
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
    base = placed(base)
    runs: list[PlannedRun] = []
    found: dict[str, list[str]] = {}
    for seed in seeds:
        for variant in variants:
            changes = [*overrides, *variant.overrides(seed)]
            try:
                recipe = load_recipe(name, changes)
            except RecipeError as error:
                if seed == seeds[0]:
                    found.setdefault(error.message, []).append(variant.label)
                continue
            recipe = placed(recipe)
            folder = run_path(recipe, base)
            words = ["purenoise", "train", *([name] if name else []), *overrides,
                     *variant.changes, f"method={variant.method}", f"seed={seed}"]  # fmt: skip
            done, fault = _what_is_there(recipe, folder)
            runs.append(PlannedRun(variant, seed, recipe, folder, done, shlex.join(words), fault))
    faults = [text if len(labels) == len(variants) else f"{', '.join(labels)}: {text}"
              for text, labels in found.items()]  # fmt: skip
    faults += _other_test_images(runs)
    if faults:
        raise RecipeError("The comparison cannot be made.\n" + "\n".join(faults))
    _refuse_same(runs)
    return runs


def _other_test_images(runs: Sequence[PlannedRun]) -> list[str]:
    """Name the variants whose test images would not be those of the first."""
    keys = ("name", "root", "split_seed", "test_fraction")
    tested = {run.variant.label: [getattr(run.recipe.data, key) for key in keys] for run in runs}
    first = next(iter(tested), "")
    return [f"{label}: it would have other test images than {first}, by {' and '.join(keys)}"
            for label, values in tested.items() if values != tested[first]]  # fmt: skip


def _what_is_there(recipe: Recipe, folder: Path) -> tuple[bool, str]:
    """Say whether the run is there, and why its result cannot be read.

    A folder of another recipe, or changed data, is refused.
    """
    files = RunFolder(folder)
    files.check_recipe(recipe.digest())
    try:
        summary = files.summary()
    except RunError as error:  # one such run is no reason not to compare the others
        return False, str(error).replace("\n", " ")
    if summary is not None:
        check_folder_unchanged(summary, recipe.data, folder)
    return summary is not None, ""


def _refuse_same(runs: Sequence[PlannedRun]) -> None:
    """Refuse two variants that train the same, which would be compared with themselves."""
    seen: dict[str, PlannedRun] = {}
    for run in runs:
        if run.seed != runs[0].seed:
            return
        key = likeness(run.recipe)
        if key in seen:
            raise RecipeError(
                f"{seen[key].variant.label} and {run.variant.label} are the same run: their "
                "recipes differ in nothing that has an effect.",
                "Leave one of them out.",
            )
        seen[key] = run


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
    number = _whole_jobs(jobs)
    if not on_gpu and number * threads > cores:
        raise RecipeError(
            f"jobs={jobs} with {threads} threads each is more than the {cores} cores there are.",
            f"Runs at a time take threads=N each: {jobs} take threads={max(1, cores // number)}."
            if number <= cores
            else f"At most jobs={cores} with threads=1.",
        )
    return number


def _whole_jobs(jobs: int | str) -> int:
    """Return how many runs may train at a time, 0 for ``auto``."""
    if str(jobs) == "auto":
        return 0
    if not str(jobs).isdecimal() or int(jobs) < 1:
        raise RecipeError(f"jobs={jobs} cannot be read.", "Give a whole number from 1 on, or auto.")
    return int(jobs)
