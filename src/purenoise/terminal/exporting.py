"""The command ``purenoise export``: a finished run as files for use elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from purenoise.errors import RecipeError, did_you_mean
from purenoise.terminal.plaintext import printable
from purenoise.terminal.stopping import loading


def export(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="Folder of a finished run, or of an adjusted one."),
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FORMAT]... [to=PLACE]",
            help="weights (default: safetensors for the plain model), onnx, pt2 (torch.export), "
            "card (a model card); to=FILE or to=FOLDER, else RUN/export.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:
    """Export a finished run: plain weights, ONNX, torch.export, a model card.

    Each network is read again and compared with the run's on test images before it is written.

    Examples: purenoise export RUN | purenoise export RUN onnx to=model.onnx |
    purenoise export RUN weights onnx pt2 card to=delivery/ | purenoise export RUN/adjusted/NAME
    """
    formats, to = read_words(words or [])
    console = Console(highlight=False)
    with console.status("exporting", spinner="line"):
        with loading():
            from purenoise.export.running import export_all
        made = export_all(run, formats, to, force=force)
    for one in made:
        lines = [f"{one.format:8} {one.path}", *(f"         {note}" for note in one.notes)]
        for line in lines:
            console.print(printable(line), markup=False, soft_wrap=True)


def read_words(words: list[str]) -> tuple[list[str], str | None]:
    """Split formats from ``to=``.

    Raises:
        RecipeError: If a word is neither, or something is given twice.

    Example:
        >>> read_words(["onnx", "to=model.onnx"])
        (['onnx'], 'model.onnx')
    """
    formats: list[str] = []
    given: dict[str, Any] = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign:
            if key in formats:
                raise RecipeError(f"{key} is given twice.", "Leave one of them out.")
            formats.append(key)
        elif key != "to":
            raise RecipeError(f"{word!r} is no setting.", did_you_mean(key, ("to",)))
        elif key in given:
            raise RecipeError("to is given twice.", "Leave one of them out.")
        elif not value:
            raise RecipeError("to= has no value.", "Give a file or a folder: to=model.onnx")
        else:
            given[key] = value
    return formats or ["weights"], given.get("to")
