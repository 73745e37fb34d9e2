"""``purenoise compare``: from the words of the command to tables on the terminal and a report."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from purenoise import yamlfile
from purenoise.errors import RecipeError, RunError, did_you_mean
from purenoise.faults import keys
from purenoise.lab.planning import Plan, plan_comparison
from purenoise.lab.running import carry_out, conclude
from purenoise.lab.scheduling import Outcome
from purenoise.recipe import Recipe
from purenoise.report import write_report
from purenoise.runtime import stop_on_signal
from purenoise.terminal.comparisontables import print_comparison
from purenoise.terminal.jobs import print_jobs
from purenoise.terminal.manyprogress import Overview
from purenoise.terminal.plaintext import printable
from purenoise.terminal.tables import plural

# Of a comparison itself, and what they are if they are not given.
OWN = {"methods": "erm,drs,open", "seeds": "5", "baseline": None, "jobs": "auto", "share": "true",
       "executor": "local", "only": None}  # fmt: skip


def run_comparison(
    console: Console, name: str | None, given: Sequence[str], command: str, print_only: bool = False
) -> bool:
    """Plan, train, print and write the report.

    Args:
        console: Where to print.
        name: Of the recipe.
        given: ``key=value`` words: the comparison's own and the recipe's.
        command: The line that does this again.
        print_only: Whether to print a line per run instead of training.

    Returns:
        Whether a run failed.

    Raises:
        PureNoiseError: If it cannot be made, or was stopped.
    """
    own, overrides = own_keys(given)
    errors = Console(stderr=True, highlight=False)
    with (errors if print_only else console).status("planning", spinner="line"):
        plan = plan_comparison(
            name, overrides, methods=own["methods"] or "", seeds=own["seeds"] or "",
            baseline=own["baseline"], jobs=own["jobs"] or "auto", share=_switch(own["share"]),
            command=command, only=own["only"],
            executor=None if print_only else own["executor"] or "local",
        )  # fmt: skip
    if print_only:
        print_jobs(errors, plan, [*([name] if name else []), *given])
        return False
    outcome = _carry_out(console, plan)
    if outcome.stopped:
        raise RunError(
            f"Stopped; {len(outcome.trained)} runs were finished, the others keep their state.",
            f"To go on: {command}",
        )
    if plan.only:
        for label, reason in outcome.failed.items():
            console.print(printable(f"failed: {label}: {reason}"), markup=False, soft_wrap=True)
        _say_one(console, plan, outcome)
        return bool(outcome.failed)
    comparison = conclude(plan, outcome)
    print_comparison(console, comparison)
    page = plan.folder / "report.html"
    with console.status("writing the report", spinner="line"):
        write_report(comparison, page, beside=True)
    _say(console, plan, outcome, page)
    return bool(outcome.failed)


def own_keys(given: Sequence[str]) -> tuple[dict[str, str | None], list[str]]:
    """Split the comparison's own keys from those of the recipe.

    Raises:
        RecipeError: If one of them is given twice, or is nearly one of them.
    """
    own, rest = dict(OWN), []
    seen: set[str] = set()
    for word in given:
        key, _, value = word.partition("=")
        key = key.strip()
        if key in OWN:
            if key in seen:
                raise RecipeError(f"{key}= is given twice.")
            seen.add(key)
            own[key] = value.strip()
        elif key in ("method", "seed"):
            raise RecipeError(f"A comparison takes {key}s=, not {key}=.", f"Write {key}s={value}.")
        elif _is_near(key):
            raise RecipeError(f"Unknown key {key!r}.", did_you_mean(key, OWN))
        else:
            rest.append(word)
    return own, rest


def _is_near(key: str) -> bool:
    """Whether a key that no recipe has is more like one of the comparison's than like those."""
    known = keys(Recipe)
    short = {k.rpartition(".")[2] for k in known} - {"method", "seed"}
    if key in short or key in known:
        return False
    if not difflib.get_close_matches(key, OWN, 1):
        return False
    mine, theirs = (max(_likeness(key, name) for name in names) for names in (OWN, short))
    return mine >= theirs


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, other, one).ratio()


def _switch(text: str | None) -> bool:
    value = yamlfile.parse(text or "true", "the value of share")
    if not isinstance(value, bool):
        raise RecipeError(f"share={text} cannot be read.", "Give true or false.")
    return value


def _carry_out(console: Console, plan: Plan) -> Outcome:
    overview = Overview(console)
    try:
        with stop_on_signal() as stopping:
            return carry_out(plan, overview, stopping)
    finally:
        overview.close()


def _say_one(console: Console, plan: Plan, outcome: Outcome) -> None:
    """Say what became of one run of a comparison."""
    folder = next(run.folder for run in plan.runs if run.label == plan.only)
    if not outcome.failed:
        done = "finished" if outcome.trained else "there already"
        console.print(printable(f"{plan.only}: {done}, {folder}"), markup=False, soft_wrap=True)


def _say(console: Console, plan: Plan, outcome: Outcome, page: Path) -> None:
    """Say what was done, and where it lies."""

    def line(name: str, text: Any) -> None:
        console.print(f"{name:12}{printable(str(text))}", markup=False, soft_wrap=True)

    console.print()
    if outcome.shared_epochs:
        epochs = plural(outcome.shared_epochs, "epoch was", "epochs were")
        line("shared:", f"{epochs} taken over from another run's first phase; states in "
             f"{plan.store.folder}")  # fmt: skip
    line("runs:", plan.runs[0].folder.parents[1])
    line("report:", page)
    line("again:", plan.command)
