"""``purenoise recipes``: list, show, copy, check, keys."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from purenoise.errors import RunError
from purenoise.terminal.arguments import Arguments, split_words
from purenoise.terminal.plaintext import printable

recipes_app = typer.Typer(help="Recipes: list, show, copy, check, keys.", no_args_is_help=True)


@recipes_app.command("list")
def recipes_list() -> None:
    """List recipes and methods with the first sentence of their heads."""
    from purenoise.methodfile import METHODS, known_methods
    from purenoise.recipe import RECIPES, recipe_names
    from purenoise.yamlfile import head_sentence

    for title, folder, names in (
        ("recipes", RECIPES, recipe_names()),
        ("methods", METHODS, known_methods()),
    ):
        table = Table(title, "", box=None, header_style="bold")
        for name in names:
            table.add_row(name, escape(head_sentence(folder / f"{name}.yaml")))
        Console(highlight=False).print(table)
        Console(highlight=False).print()


@recipes_app.command("show")
def recipes_show(arguments: Arguments = None) -> None:
    """Print a whole recipe, with its head, defaults and changes; or a method's file."""
    from purenoise.methodfile import method_text
    from purenoise.recipe import load_recipe, recipe_path

    name, overrides = split_words(arguments)
    written = None if name is None or overrides or Path(name).exists() else method_text(name)
    if written is not None:
        typer.echo(written, nl=False)
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
    said = f"{place}: change it, then run: purenoise train {shlex.quote(str(place))}"
    typer.echo(printable(said))


@recipes_app.command("check")
def recipes_check(arguments: Arguments = None) -> None:
    """Check a recipe; every fault is named."""
    from purenoise.recipe import load_recipe

    name, overrides = split_words(arguments)
    recipe = load_recipe(name, overrides)
    typer.echo(f"{recipe.name} is fine: method {recipe.method_name()}, hash {recipe.digest()[:8]}")


@recipes_app.command("keys")
def recipes_keys(
    words: Annotated[
        list[str] | None, typer.Argument(help="Only keys that have these words.")
    ] = None,
) -> None:
    """Explain the keys of recipes: short name, values, default, meaning."""
    from purenoise.errors import did_you_mean
    from purenoise.keyhelp import key_table

    known = key_table()
    found = [k for k in known if all(w in f"{k.name} {k.meaning}" for w in words or ())]
    if not found:
        wanted = " ".join(words or [])
        near = did_you_mean(wanted, {k.name.rpartition(".")[2] for k in known})
        all_of_them = "`purenoise recipes keys` lists all of them."
        raise RunError(
            f"No key has anything to do with {wanted!r}.",
            near if near.startswith("Did") else all_of_them,
        )
    table = Table("key", "values", "default", "meaning", box=None, header_style="bold")
    for key in found:
        plain = (text.replace("`", "") for text in (key.values, key.default, key.meaning))
        table.add_row(key.name, *(escape(text) for text in plain))
    Console(highlight=False).print(table)
