"""``purenoise compare --print-jobs``: one line per run, for a batch scheduler.

Each line trains one run of the comparison where the comparison looks for it, and takes up or leaves
behind the states of shared first phases. The lines come in an order in which that helps: those that
train a first phase before those that go on from it. Every order, and all at once, gives the same
results; what is lost then is time.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence

import typer
from rich.console import Console

from purenoise.errors import RecipeError
from purenoise.lab.planning import Plan, PlannedRun
from purenoise.lab.running import check_runs
from purenoise.lab.sharing import alike

OF_THIS_CALL = ("jobs", "executor", "only")  # words that are no matter of a single run


def print_jobs(console: Console, plan: Plan, words: Sequence[str]) -> None:
    """Print a line for each run that is not finished, and how to use them to the error output.

    Args:
        console: Where to say what is not a line.
        plan: The comparison.
        words: Of the comparison, behind ``purenoise compare``.

    Raises:
        PureNoiseError: If a run cannot be had.
    """
    pending = plan.pending()
    check_runs(plan, pending)
    waves = in_waves(pending) if plan.share else [pending]
    for run in (run for wave in waves for run in wave):
        typer.echo(line_of(run, words))
    for text in _words(plan, waves, len(pending)):
        console.print(text, markup=False, soft_wrap=True)


def line_of(run: PlannedRun, words: Sequence[str]) -> str:
    """Return the line that trains one run, for any shell in any folder.

    Args:
        run: Which one.
        words: Of the comparison, behind ``purenoise compare``.

    Raises:
        RecipeError: If a word has a line break in it, as a line would be two.
    """
    kept = [word for word in words if word.partition("=")[0].strip() not in OF_THIS_CALL]
    line = shlex.join(["purenoise", "compare", *kept, f"only={run.label}"])
    line = f"cd {shlex.quote(os.getcwd())} && {line}"
    if len(line.splitlines()) > 1:
        raise RecipeError(f"{line!r} is no single line.", "Do without line breaks in words.")
    return line


def in_waves(runs: Sequence[PlannedRun]) -> list[list[PlannedRun]]:
    """Put runs that others can go on from before those others.

    Within one comparison, states have the same name if recipe and seed say so: the machine, which
    is not known here, is taken to be the same for all.

    Args:
        runs: In the comparison's order.

    Returns:
        Runs of the first wave share nothing; those of the next go on from states of earlier ones.
    """
    keys = alike([run.recipe for run in runs])
    made_in: dict[str, int] = {}  # the wave in which a state is there
    waves: list[list[PlannedRun]] = []
    for run, shared in zip(runs, keys, strict=True):
        there = [epoch for epoch, key in shared.items() if key in made_in]
        wave = made_in[shared[max(there)]] + 1 if there else 0
        for key in shared.values():
            made_in.setdefault(key, wave)
        while len(waves) <= wave:
            waves.append([])
        waves[wave].append(run)
    return waves


def _words(plan: Plan, waves: Sequence[Sequence[PlannedRun]], n: int) -> list[str]:
    """Say what was left out, what the order is good for, and what comes after."""
    said = []
    if finished := len(plan.runs) - n:
        said.append(f"{finished} of {len(plan.runs)} runs are finished and left out.")
    if len(waves) > 1:
        first = 1
        parts = []
        for wave in waves:
            parts.append(f"{first}-{first + len(wave) - 1}" if len(wave) > 1 else f"{first}")
            first += len(wave)
        said.append(
            f"Lines {', then '.join(parts[1:])} go on from first phases that lines before them "
            f"train: have them wait for lines {parts[0]}. Without waiting every run trains all "
            "its epochs, and the results are the same."
        )
    elif n and not plan.share:
        said.append("Every run trains all its epochs (share=false); any order will do.")
    done = "When all are finished, the" if n else "The"
    said.append(f"{done} table: {plan.command}")
    return said
