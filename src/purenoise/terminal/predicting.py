"""The command ``purenoise predict``: images of one's own, by a run or an exported network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from purenoise.errors import RunError, did_you_mean
from purenoise.terminal.stopping import loading

FORMATS = ("table", "csv", "json")


def predict(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_OR_FILE",
            help="Folder of a finished run, or a .safetensors, .onnx or .pt2 file of "
            "`purenoise export`.",
        ),
    ],
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Images or folders.")],
    top: Annotated[int, typer.Option(min=1, help="Classes to name per image.")] = 3,
    output: Annotated[str, typer.Option("--format", help="table, csv or json.")] = "table",
    trust: Annotated[
        bool, typer.Option("--trust", help="Read a .pt2 file, which can run code that it holds.")
    ] = False,
) -> None:
    """Predict the class of images with a finished run or an exported network."""
    if output not in FORMATS:
        raise RunError(f"--format {output!r} is not known.", did_you_mean(output, FORMATS))
    with loading():
        from purenoise.predict import predict as predict_images
        from purenoise.terminal.tables import predictions_table, print_predictions_csv

    predictions = predict_images(run, images, top, trust=trust)
    if output == "json":
        typer.echo(json.dumps([p.as_dict() for p in predictions], indent=1))
    elif output == "csv":
        print_predictions_csv(predictions, top)
    else:
        Console(highlight=False).print(predictions_table(predictions))
    failed = sum(bool(p.error) for p in predictions)
    if failed:
        errors = Console(stderr=True, highlight=False)
        errors.print(f"{failed} of {len(predictions)} images could not be read.")
        raise typer.Exit(2)
