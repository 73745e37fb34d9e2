"""``purenoise report``: from the words of the command to the files, and what is printed of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from purenoise.errors import RunError, did_you_mean
from purenoise.lab.verdicts import verdicts
from purenoise.report.wording import clean
from purenoise.report.write import report_runs

KEYS = ("baseline", "mixed", "out", "no_class")


def run_report(console: Console, words: Sequence[str]) -> None:
    """Make a report; print what may be concluded, what was left out, and where it lies.

    Args:
        console: Where to print.
        words: Folders and options, see :func:`report_words`.

    Raises:
        PureNoiseError: What :func:`purenoise.report.report_runs` raises.
    """
    folders, options = report_words(words)
    with console.status("reading runs", spinner="line"):
        comparison, files = report_runs(folders, **options)
    lines = verdicts(comparison)
    lines += [f"left out: {path}: {why}" for path, why in comparison.left_out.items()]
    lines += [f"{file.suffix[1:]:5}{file}" for file in files]
    for line in lines:
        console.print(clean(line), markup=False, highlight=False, soft_wrap=True)


def report_words(words: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Split folders from options.

    Args:
        words: As they were typed; a folder may have ``=`` in its name.

    Returns:
        Folders, and the options of :func:`purenoise.report.report_runs`.

    Raises:
        RunError: If there is no folder, or an option is unknown, given twice or has no such value.

    Example:
        >>> report_words(["runs/a", "runs/b", "mixed=true", "baseline=drs"])
        (['runs/a', 'runs/b'], {'mixed': True, 'baseline': 'drs'})
    """
    folders: list[str] = []
    options: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or (key not in KEYS and Path(word).exists()):
            folders.append(word)
        elif key not in KEYS:
            raise RunError(f"Unknown option {key!r} in {word!r}.", did_you_mean(key, KEYS))
        elif key in options:
            raise RunError(f"{key}= is given twice.")
        elif not value:
            raise RunError(f"{key}= has no value.")
        else:
            options[key] = _switch(value) if key == "mixed" else value
    if not folders:
        raise RunError(
            "No run was named.",
            "Give folders of runs, or folders that hold some: purenoise report runs/digits",
        )
    return folders, options


def _switch(text: str) -> bool:
    known = {"true": True, "false": False}
    if text.lower() not in known:
        raise RunError(f"mixed={text} cannot be read.", "Give true or false.")
    return known[text.lower()]
