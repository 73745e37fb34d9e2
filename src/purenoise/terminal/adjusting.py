"""The command ``purenoise adjust``: a finished run before and after, side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from purenoise.errors import RecipeError, RunError, did_you_mean
from purenoise.terminal.plaintext import printable
from purenoise.terminal.stopping import loading

if TYPE_CHECKING:
    from purenoise.posthoc.running import Adjusted


def adjust(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Folder of a finished run, or of its seeds.")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="method=logit-adjustment (default), tau-norm, temperature or offsets; tau=1; "
            "prior=uniform (default), train, test, 0.5,0.3,... or a file; l2=1; save=FILE writes "
            "the adjusted network.",
            show_default=False,
        ),
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Adjust a finished run to other class shares, without training.

    Of a folder with seed-0, seed-1, ... all are adjusted, and means over seeds are shown.

    Examples: purenoise adjust RUN | purenoise adjust RUN method=offsets |
    purenoise adjust RUN prior=0.7,0.2,0.1 | purenoise adjust RUN save=adjusted.safetensors
    """
    with loading():
        from purenoise.posthoc.running import adjust_run
        from purenoise.terminal.adjustedtable import adjusted_table, seeds_table

    given = read_settings(settings or [])
    runs = find_runs(run, given)
    found = [adjust_run(one, **given) for one in runs]
    if json_output:
        content = [_content(one) for one in found]
        typer.echo(json.dumps(content if len(runs) > 1 else content[0], indent=1))
        return
    table = adjusted_table(found[0]) if len(found) == 1 else seeds_table(found)
    Console(highlight=False).print(table, soft_wrap=True)


def find_runs(folder: Path, given: Mapping[str, Any]) -> list[Path]:
    """Return the run in a folder, or the finished runs below it, which may differ in their seed.

    Raises:
        RunError: If none is finished, runs differ in more, or one file is to hold the weights of
            several.
    """
    from purenoise import yamlfile

    inside = sorted(path.parent for path in folder.glob("seed-*/recipe.yaml"))
    if (folder / "recipe.yaml").is_file() or not inside:
        return [folder]
    unfinished = [path for path in inside if not (path / "summary.json").is_file()]
    inside = [path for path in inside if path not in unfinished]
    if not inside:
        raise RunError(f"No run in {folder} is finished.", "Go on with them: purenoise train RUN")
    for path in unfinished:
        typer.echo(f"left out: {printable(str(path))} is not finished", err=True)
    kinds = []
    for path in inside:
        content = yamlfile.load(path / "recipe.yaml")
        kinds.append({k: v for k, v in content.items() if k not in ("seed", "digest", "out")})
    if any(kind != kinds[0] for kind in kinds):
        raise RunError(f"The runs in {folder} differ in more than their seed.", "Name one of them.")
    if "save" in given and len(inside) > 1:
        raise RunError(f"{folder} holds {len(inside)} runs, and save= names one file.",
                       f"Name one of them, such as {inside[0]}.")  # fmt: skip
    return inside


def _content(found: Adjusted) -> dict[str, Any]:
    summary = found.summary
    return {"folder": str(found.folder), "base": summary["base"], "adjusted": summary["adjusted"],
            "before": found.before, "after": found.metrics}  # fmt: skip


def read_settings(words: list[str]) -> dict[str, Any]:
    """Read ``key=value`` words as arguments of :func:`purenoise.posthoc.running.adjust_run`.

    Raises:
        RecipeError: If a word is not understood.
    """
    settings: dict[str, Any] = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign and Path(word).is_dir():
            raise RecipeError(f"{word!r} is a second folder, and one is adjusted at a time.",
                              "Of seeds name the folder that holds them.")  # fmt: skip
        if not sign or key not in SETTINGS:
            raise RecipeError(f"{word!r} is no setting.", did_you_mean(key, SETTINGS))
        if key in settings:
            raise RecipeError(f"{key} is given twice.", "Leave one of them out.")
        try:
            settings[key] = SETTINGS[key](value)
        except (ValueError, ZeroDivisionError):
            raise RecipeError(f"{key} must be a number, got {value!r}.") from None
    return settings


def _number(text: str) -> float:
    return float(Fraction(text)) if "/" in text else float(text)


SETTINGS: dict[str, Callable[[str], Any]] = {
    "method": str, "tau": _number, "prior": str, "l2": _number, "save": str,
}  # fmt: skip
