"""Check that a wheel holds all that is read at run time, and that it is what is imported.

``python tests/wheel_is_whole.py WHEEL``, from a folder without ``src``. Leaves with 1 and what is
missing.
"""

from __future__ import annotations

import sys
import zipfile
from importlib.resources import files
from pathlib import Path

HELD = {  # what the folder must hold, and how many of these at least
    "purenoise/recipes/*.yaml": 10,
    "purenoise/recipes/methods/*.yaml": 15,
    "purenoise/report/templates/*": 3,
    "purenoise/py.typed": 1,
}


def missing(wheel: Path) -> list[str]:
    """Return a sentence for each kind of file of which a wheel has too few."""
    with zipfile.ZipFile(wheel) as archive:
        names = [Path(name) for name in archive.namelist()]
    counts = {kind: sum(name.match(kind) for name in names) for kind in HELD}
    return [f"{wheel.name} has {n} of {kind}, not {HELD[kind]} or more"
            for kind, n in counts.items() if n < HELD[kind]]  # fmt: skip


def not_usable() -> list[str]:
    """Load every recipe, method and template of what is installed; return what is wrong."""
    import purenoise
    from purenoise.methodfile import known_methods
    from purenoise.recipe import load_recipe, recipe_names

    place = Path(purenoise.__file__).resolve()
    wrong = [] if place.is_relative_to(Path(sys.prefix).resolve()) else [f"{place} was imported"]
    for name in recipe_names():
        load_recipe(name)
    if len(known_methods()) < HELD["purenoise/recipes/methods/*.yaml"]:
        wrong.append(f"only {len(known_methods())} methods are known")
    templates = files("purenoise.report") / "templates"
    names = ("report.html.j2", "report.css", "sort.js")
    return wrong + [f"{name} is empty" for name in names if not (templates / name).read_text()]


if __name__ == "__main__":
    found = [*missing(Path(sys.argv[1])), *not_usable()]
    print("\n".join(found) or f"{Path(sys.argv[1]).name} holds all that is read")
    sys.exit(bool(found))
