"""The command line: one verb, one function; heavy imports inside, so that ``--help`` is instant."""

from __future__ import annotations

import io
import os
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from purenoise.errors import PureNoiseError, RunError
from purenoise.outofmemory import memory_told
from purenoise.terminal.adjusting import adjust
from purenoise.terminal.arguments import Arguments, split_words
from purenoise.terminal.exporting import export
from purenoise.terminal.following import FOLLOWERS_WAIT, follows, refuse_several, team_of_commands
from purenoise.terminal.outlet import Outlet, lasting_console
from purenoise.terminal.plaintext import one_line, printable
from purenoise.terminal.predicting import predict
from purenoise.terminal.recipes import recipes_app
from purenoise.terminal.stopping import STOPPED, Commands, going_on, loading, signals_interrupt
from purenoise.terminal.systemfaults import refuse_lost_folder, refused_by_system

app = typer.Typer(
    name="purenoise",
    cls=Commands,
    help="Train image classifiers on imbalanced data with OPeN and DAR-BN.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(recipes_app, name="recipes")
for command in (adjust, export, predict):
    app.command()(command)

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")]


def main() -> None:
    """Run the command line; a user's mistake is one message and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal cannot show is no error
            stream.reconfigure(errors="backslashreplace")
    try:
        refuse_lost_folder()
        with signals_interrupt(), memory_told():
            _run()
    except PureNoiseError as error:
        if not follows():
            _say_error(error)
        elif error.is_shared:
            time.sleep(FOLLOWERS_WAIT)
        else:
            error.message = f"process {os.environ['RANK']}: {error.message}"
            _say_error(error)
        sys.exit(130 if error.message.startswith(("Stopped;", STOPPED)) else 2)
    except KeyboardInterrupt:  # outside a command
        _say_error(RunError(STOPPED))
        sys.exit(130)
    except OSError as error:
        _say_error(refused_by_system(error))
        sys.exit(2)


def _run() -> None:
    """Run a command; what its output fails at would fail without a word at the very end."""
    try:
        app(standalone_mode=True)
    finally:
        if sys.stdout is not None:
            sys.stdout.flush()


@app.command()
def train(arguments: Arguments = None) -> None:
    """Train by a recipe; with no arguments, OPeN on long-tailed digits.

    Examples: purenoise train | purenoise train method=drs seed=1 |
    purenoise train data=photos/ epochs=50 | purenoise train RUN (goes on with a run)
    """
    command = shlex.join(["purenoise", "train", *(arguments or [])])
    with going_on(command), team_of_commands() as together:
        _train_words(arguments or [], command, together)


def _train_words(
    arguments: list[str], command: str, together: Callable[[Callable[[], Any]], Any]
) -> None:
    """Read the words and train."""
    with loading():
        from purenoise.recipe import load_recipe, plain_recipe

    name, overrides = together(lambda: split_words(arguments))
    recipe = together(lambda: load_recipe(name, overrides))
    folder = Path(name) if name and (Path(name) / "recipe.yaml").is_file() else None
    if folder is not None and overrides:
        raise RunError(
            f"{folder} is a run; it goes on with the recipe it was begun with.",
            "Leave the changes out, or begin another run from a recipe.",
        )
    console = lasting_console(quiet=follows())
    _train(console, recipe, plain_recipe(name, overrides), folder, command)


def _train(console: Console, recipe: Any, base: Any, folder: Path | None, command: str) -> None:
    """Train and print."""
    with console.status("loading", spinner="line"), loading():
        from purenoise.experiment import run_recipe
        from purenoise.runtime import keep_freed_memory
        from purenoise.terminal.progress import Display
        from purenoise.terminal.tables import print_run
    keep_freed_memory()
    display = Display(console, recipe.train.epochs)
    try:
        run = run_recipe(recipe, base, listeners=[display], folder=folder, command=command)
    finally:
        display.close()
    if not run.trained:
        console.print("This run is finished; this is its result.\n")
    print_run(console, run.summary, str(run.folder))
    from purenoise.report.write import write_run_report  # draws: the table need not wait for that

    if not follows():
        write_run_report(run)


@app.command()
def compare(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RECIPE] [methods=A,B,...] [seeds=N] [KEY=VALUE]...",
            help="methods=erm,drs,open (default), open:delta=0.5, A+B; seeds=5 (default), 0-4 or "
            "1,4; baseline=METHOD; jobs=N runs at a time; share=false trains every first phase "
            "anew; executor=ray trains on a Ray cluster; then changes of the recipe for all.",
            show_default=False,
        ),
    ] = None,
    print_jobs: Annotated[
        bool, typer.Option("--print-jobs", help="Print a line per run, for a batch scheduler.")
    ] = False,
) -> None:
    """Train methods with several seeds and compare: intervals, paired tests, a report.

    Examples: purenoise compare | purenoise compare digits methods=erm,drs,open seeds=10 |
    purenoise compare data=photos/ methods=erm,open,open+balanced-softmax
    """
    name, given = split_words(arguments, "compare")
    command = " ".join(["purenoise compare", *map(shlex.quote, arguments or [])])
    console = lasting_console()
    with going_on(command + " --print-jobs" * print_jobs):
        with console.status("loading", spinner="line"), loading():
            from purenoise.terminal.comparing import run_comparison
        refuse_several("compare")
        failed = run_comparison(console, name, given, command, print_jobs)
    if failed:
        raise typer.Exit(2)


@app.command()
def evaluate(
    run: RunArgument,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Evaluate a finished run on its validation and test images."""
    with loading():
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
    with _console().status("loading", spinner="line"), loading():
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
    with loading():
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
    with loading():
        from purenoise.doctor import examine

    table = Table(box=None, show_header=False)
    checks = examine(data, out)
    for check in checks:
        mark = {True: "ok", False: "BAD", None: ""}[check.ok]
        table.add_row(mark, check.name, escape(one_line(check.text)))
    _console().print(table)
    if any(check.ok is False for check in checks):
        raise typer.Exit(2)


def _console() -> Console:
    return Console(highlight=False, quiet=follows())


def _say_error(error: PureNoiseError) -> None:
    """Print without any library: one may be what could not be loaded, for lack of memory."""
    if sys.stderr is not None:
        Outlet(sys.stderr).write(printable(f"purenoise: {error}\n"))


def _print_json(content: Any) -> None:
    import json

    typer.echo(json.dumps(content, indent=1))
