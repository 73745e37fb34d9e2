"""The command line: one verb, one function; heavy imports inside, so that ``--help`` is instant."""

from __future__ import annotations

import io
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from purenoise.errors import PureNoiseError, RunError
from purenoise.terminal.adjusting import adjust
from purenoise.terminal.exporting import export
from purenoise.terminal.predicting import predict

app = typer.Typer(
    name="purenoise",
    help="Train image classifiers on imbalanced data with OPeN and DAR-BN.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
recipes_app = typer.Typer(help="Recipes: list, show, copy, check.", no_args_is_help=True)
app.add_typer(recipes_app, name="recipes")
for command in (adjust, export, predict):
    app.command()(command)

Arguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RECIPE] [KEY=VALUE]...",
        help="A recipe's name or file (default: digits), then changes such as method=drs seed=1.",
        show_default=False,
    ),
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")]


def main() -> None:
    """Run the command line; a user's mistake is one message and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal cannot show is no error
            stream.reconfigure(errors="backslashreplace")
    try:
        app(standalone_mode=True)
    except PureNoiseError as error:
        _say_error(error)
        sys.exit(130 if error.message.startswith("Stopped;") else 2)
    except KeyboardInterrupt:
        _errors().print("Stopped.")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


@app.command()
def train(arguments: Arguments = None) -> None:
    """Train by a recipe; with no arguments, OPeN on long-tailed digits.

    Examples: purenoise train | purenoise train method=drs seed=1 |
    purenoise train data=photos/ epochs=50 | purenoise train RUN (goes on with a run)
    """
    from purenoise.recipe import load_recipe

    name, overrides = _split(arguments)
    recipe = load_recipe(name, overrides)
    folder = Path(name) if name and (Path(name) / "recipe.yaml").is_file() else None
    if folder is not None and overrides:
        raise RunError(
            f"{folder} is a run; it goes on with the recipe it was begun with.",
            "Leave the changes out, or begin another run from a recipe.",
        )
    command = " ".join(["purenoise train", *map(shlex.quote, arguments or [])])
    with _console().status("loading", spinner="line"):
        from purenoise.experiment import plain_recipe
    _train(recipe, plain_recipe(name, overrides), folder, command)


def _train(recipe: Any, base: Any, folder: Path | None, command: str) -> None:
    """Train and print."""
    with _console().status("loading", spinner="line"):
        from purenoise.experiment import run_recipe
        from purenoise.runtime import keep_freed_memory
        from purenoise.terminal.progress import Display
        from purenoise.terminal.tables import print_run
    keep_freed_memory()
    display = Display(_console(), recipe.train.epochs)
    try:
        run = run_recipe(recipe, base, listeners=[display], folder=folder, command=command)
    finally:
        display.close()
    if not run.trained:
        _console().print("This run is finished; this is its result.\n")
    print_run(_console(), run.summary, str(run.folder))
    from purenoise.report.write import write_run_report  # draws: the table need not wait for that

    write_run_report(run)


@app.command()
def compare(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RECIPE] [methods=A,B,...] [seeds=N] [KEY=VALUE]...",
            help="methods=erm,drs,open (default), open:delta=0.5, A+B; seeds=5 (default), 0-4 or "
            "1,4; baseline=METHOD; jobs=N runs at a time; share=false trains every first phase "
            "anew; then changes of the recipe for all.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Train methods with several seeds and compare: intervals, paired tests, a report.

    Examples: purenoise compare | purenoise compare digits methods=erm,drs,open seeds=10 |
    purenoise compare data=photos/ methods=erm,open,open+balanced-softmax
    """
    name, given = _split(arguments, "compare")
    command = " ".join(["purenoise compare", *map(shlex.quote, arguments or [])])
    with _console().status("loading", spinner="line"):
        from purenoise.terminal.comparing import run_comparison
    if run_comparison(_console(), name, given, command):
        raise typer.Exit(2)


@app.command()
def evaluate(
    run: RunArgument,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Evaluate a finished run on its validation and test images."""
    from purenoise.evaluate import evaluate_split
    from purenoise.network import load_run
    from purenoise.prepare import check_unchanged, prepare
    from purenoise.terminal.tables import result_table

    recipe, summary, model = load_run(run)
    data = prepare(recipe.data)
    check_unchanged(summary, data.dataset, recipe.data, run)
    results = {}
    for name in ("val", "test"):
        split = getattr(data.dataset, name)
        if split is not None and len(split):
            results[name], _ = evaluate_split(model, split, data)
    if json_output:
        _print_json(results)
        return
    if not results:
        raise RunError(f"{run} has neither validation nor test images: nothing to measure.")
    for name, metrics in results.items():
        title = f"{summary['recipe']} · {summary['method']} · seed {summary['seed']} · {name}"
        _console().print(result_table(summary, metrics, title))


@app.command()
def report(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN_OR_FOLDER... [KEY=VALUE]...",
            help="Runs, or folders that hold some; then baseline=METHOD, mixed=true (set runs of "
            "different protocols side by side), out=FILE.html, no_class=FOLDER of images that "
            "belong to no class.",
        ),
    ],
) -> None:
    """Make one page from finished runs, with its numbers as Markdown and CSV beside it.

    Examples: purenoise report runs/digits | purenoise report runs/a runs/b mixed=true out=ab.html
    """
    with _console().status("loading", spinner="line"):
        from purenoise.report.command import run_report
    run_report(_console(), arguments)


@app.command()
def inspect(
    data: Annotated[str, typer.Argument(metavar="DATA", help="A folder, digits, cifar10, ...")],
    changes: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", show_default=False)
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what is in a data set: counts, imbalance, sizes, duplicates, faults, advice."""
    from purenoise.inspection import inspect_data
    from purenoise.recipe import load_recipe

    found = inspect_data(load_recipe(None, [f"data={data}", *(changes or [])]))
    if json_output:
        _print_json(found.as_dict())
        return
    from purenoise.terminal.tables import inspection_tables

    _console().print(inspection_tables(found))


@app.command()
def doctor(
    data: Annotated[str, typer.Option(help="Where data sets lie.")] = "data",
    out: Annotated[str, typer.Option(help="Where runs are written.")] = "runs",
) -> None:
    """Check versions, devices, data sets, write access and disk."""
    from purenoise.doctor import examine

    table = Table(box=None, show_header=False)
    checks = examine(data, out)
    for check in checks:
        mark = {True: "ok", False: "BAD", None: ""}[check.ok]
        table.add_row(mark, check.name, escape(check.text))
    _console().print(table)
    if any(check.ok is False for check in checks):
        raise typer.Exit(2)


@recipes_app.command("list")
def recipes_list() -> None:
    """List recipes and methods with the first sentence of their heads."""
    from purenoise.methodfile import METHODS, known_methods
    from purenoise.recipe import RECIPES, recipe_names

    for title, folder, names in (
        ("recipes", RECIPES, recipe_names()),
        ("methods", METHODS, known_methods()),
    ):
        table = Table(title, "", box=None, header_style="bold")
        for name in names:
            table.add_row(name, escape(_head(folder / f"{name}.yaml")))
        _console().print(table)
        _console().print()


@recipes_app.command("show")
def recipes_show(arguments: Arguments = None) -> None:
    """Print a whole recipe, with its head, defaults and changes; or a method's file."""
    from purenoise.methodfile import METHODS, known_methods
    from purenoise.recipe import load_recipe, recipe_path

    name, overrides = _split(arguments)
    if name in known_methods() and not overrides and not Path(name).exists():
        typer.echo((METHODS / f"{name}.yaml").read_text(encoding="utf-8"), nl=False)
        return
    recipe = load_recipe(name, overrides)
    path = recipe_path(name or recipe.name)
    lines = path.read_text(encoding="utf-8").splitlines()
    head = [line for line in lines if line.startswith("#")]
    typer.echo("\n".join(head) + "\n" + recipe.to_yaml(), nl=False)


@recipes_app.command("copy")
def recipes_copy(
    name: Annotated[str, typer.Argument(help="Recipe to copy.")],
    target: Annotated[Path | None, typer.Argument(help="New file (default: NAME.yaml).")] = None,
) -> None:
    """Copy a recipe to a file of one's own."""
    from purenoise.recipe import recipe_path

    source, place = recipe_path(name), target or Path(f"{name}.yaml")
    if place.is_dir():
        place = place / f"{name}.yaml"
    try:
        with place.open("x", encoding="utf-8") as file:
            file.write(source.read_text(encoding="utf-8"))
    except FileExistsError as error:
        raise RunError(f"{place} exists; it was left as it is.", "Name another file.") from error
    except OSError as error:
        raise RunError(f"{place} cannot be written: {error.strerror}.") from error
    typer.echo(f"{place}: change it, then run: purenoise train {shlex.quote(str(place))}")


@recipes_app.command("check")
def recipes_check(arguments: Arguments = None) -> None:
    """Check a recipe; every fault is named."""
    from purenoise.recipe import load_recipe

    name, overrides = _split(arguments)
    recipe = load_recipe(name, overrides)
    typer.echo(f"{recipe.name} is fine: method {recipe.method_name()}, hash {recipe.digest()[:8]}")


def _split(arguments: list[str] | None, verb: str = "train") -> tuple[str | None, list[str]]:
    """Split the recipe's name from the changes."""
    words = list(arguments or [])
    names = [w for w in words if "=" not in w]
    if len(names) > 1 or (names and words[0] != names[0]):
        raise RunError(
            f"Cannot tell the recipe among {' '.join(map(repr, names))}.",
            f"Write: purenoise {verb} [RECIPE] key=value key=value, without spaces around =.",
        )
    return (names[0] if names else None), [w for w in words if "=" in w]


def _head(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    text = " ".join(line[1:].strip() for line in lines if line.startswith("#"))
    return text.split(". ")[0].rstrip(".") + "."


def _console() -> Console:
    return Console(highlight=False)


def _errors() -> Console:
    return Console(stderr=True, highlight=False)


def _say_error(error: PureNoiseError) -> None:
    console = _errors()
    from purenoise.terminal.tables import printable

    console.print(f"purenoise: {printable(error.message)}", markup=False, soft_wrap=True)
    if error.hint:
        console.print(printable(error.hint), markup=False, soft_wrap=True)


def _print_json(content: Any) -> None:
    import json

    typer.echo(json.dumps(content, indent=1))
