"""One row per finished run, in ``results/TABLE.csv``: all that a number has to be read with.

A table holds runs by one protocol on the same images. A run that is in it already (same recipe,
seed, hardware and versions) is not added again; other machines and versions add rows of their own.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from purenoise.errors import RunError
from purenoise.lab.adjustedruns import label_of_adjusted
from purenoise.lab.comparison import analyse
from purenoise.lab.records import METHOD_KEYS, METRICS, Record, read_records, what_counts
from purenoise.recipe import Recipe, load_recipe, recipe_names

HERE = Path(__file__).parent
FIRST = ("table", "recipe", "data", "imbalance", "ratio", "subset", "subset_sha256",
         "architecture", "augmentation", "epochs", "batch", "protocol", "every", "about",
         "method", "seed")  # fmt: skip
LAST = ("optimistic", "selection", "seconds", "command", "commit", "hardware", "versions",
        "digest")  # fmt: skip
COLUMNS = (*FIRST, *METRICS, *LAST)
KEY = ("method", "digest", "seed", "hardware", "versions")  # one run may be adjusted in many ways
ONE_TABLE = ("data", "imbalance", "ratio", "subset_sha256", "architecture", "augmentation",
             "epochs", "batch", "protocol", "every", "about", "selection")  # fmt: skip
# What a machine decides, and what is looked at, is no part of a protocol.
NO_PROTOCOL = ("threads", "speed", "eval")
# Words of a command that say where files lie on one machine.
PLACES = ("out", "data.root", "root", "data.cache", "cache", "device")
Row = dict[str, str]


def collect(folders: Iterable[str | Path], table: str, place: Path = HERE) -> list[str]:
    """Add runs to a table.

    Args:
        folders: Of runs, or of folders that hold runs at any depth.
        table: Name of the table; ``place/TABLE.csv`` is made if it is not there.
        place: Folder of the tables.

    Returns:
        What was done, one sentence each.

    Raises:
        RunError: If there is no finished run, the runs are not by one protocol, or the file holds
            something else.
    """
    path = _table_path(table, place)
    # One folder may be named in two ways, and its runs must still count once.
    records, left_out = read_records([Path(folder).resolve() for folder in folders])
    analyse(records, left_out=left_out)  # refuses what is no comparison
    there = read(path)
    known = {_key(row) for row in there}
    found = [row_of(record, table) for record in records]
    new = [row for row in found if _key(row) not in known]
    _check_protocol([*there, *new], path)
    if new:
        _write(path, [*there, *new])
    said = [f"{path.name}: {len(new)} new of {len(found)} runs, {len(there) + len(new)} in all."]
    return said + [f"left out: {run}: {why}" for run, why in left_out.items()]


def row_of(record: Record, table: str) -> Row:
    """Return the row of a run."""
    recipe, summary = record.recipe, record.summary
    where = summary["environment"]
    values: dict[str, Any] = {
        "table": table, "recipe": recipe.name, "data": summary["data"],
        "imbalance": recipe.data.imbalance.type, "ratio": f"{recipe.data.imbalance.ratio:g}",
        "subset": Path(recipe.data.imbalance.subset).name,
        "subset_sha256": summary["subset_sha256"], "architecture": recipe.model.name,
        "augmentation": recipe.augment.policy, "epochs": recipe.train.epochs,
        "batch": recipe.train.batch_size, "protocol": protocol(recipe, summary),
        "every": recipe.eval.every, "about": what_counts([record]),
        "method": _name(record), "seed": recipe.seed,
        "optimistic": _number(summary["optimistic_best_on_test"]["accuracy"]),
        "selection": summary["selection"], "seconds": f"{summary['train_seconds']:.1f}",
        "command": without_places(_command(record)), "commit": where["commit"],
        "hardware": _hardware(where), "versions": _versions(where), "digest": summary["digest"],
    }  # fmt: skip
    values |= {name: _number(record.value(name)) for name in METRICS}
    return {name: "" if values[name] is None else str(values[name]) for name in COLUMNS}


def protocol(recipe: Recipe, summary: Mapping[str, Any]) -> str:
    """Return 8 hex digits of all that runs of one table have in common, images included."""
    content = recipe.content()
    for key in (*METHOD_KEYS, *NO_PROTOCOL):
        content.pop(key, None)
    content["images"] = [summary["fingerprint"], summary["subset_sha256"]]
    for key in ("subset", "seed"):
        content["data"]["imbalance"].pop(key, None)  # the images say which
    content["data"].pop("root", None)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def variant(recipe: Recipe) -> str:
    """Return a method's name and what of it is not as its recipe has it, as ``open:delta=0.5``."""
    base = load_recipe(recipe.name) if recipe.name in recipe_names() else Recipe()
    mine, usual = recipe.content(), base.content()
    changed = []
    for key in METHOD_KEYS:
        value, before = mine.get(key), usual.get(key)
        if key in ("method", "seed") or value == before:
            continue
        if isinstance(value, dict):  # a section: its keys are found by their short names
            changed += [f"{k}={_short(v)}" for k, v in value.items() if v != (before or {}).get(k)]
        else:
            changed.append(f"{key}={_short(value)}")
    return ":".join([recipe.method_name(), *changed])


def _name(record: Record) -> str:
    """Name a run, or what was made of it, by what is not usual."""
    name = variant(record.recipe)
    return f"{name}:{label_of_adjusted(record.summary)}" if record.adjusted else name


def _command(record: Record) -> str:
    """Return the line that makes a result; of an adjusted one, that of its run comes first."""
    summary = record.summary
    if record.adjusted is None:
        return str(summary["command"])
    words = shlex.split(summary["command"])
    options = [word for word in words[3:] if not word.startswith("save=")]
    return f"{summary['base']['command']} && {shlex.join([*words[:2], 'RUN', *options])}"


def without_places(command: str) -> str:
    """Return a command without the words that say where files lie; a folder keeps its name."""
    words = []
    for word in shlex.split(command):
        key, equals, value = word.partition("=")
        if equals and key in PLACES:
            continue
        path = key == "data" and ("/" in value or "\\" in value)
        words.append(f"data={Path(value).name}" if path else word)
    return shlex.join(words).replace("'&&'", "&&")


def read(path: Path) -> list[Row]:
    """Return the rows of a table, none if there is no such file.

    Raises:
        RunError: If the file holds other columns.
    """
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise RunError(f"{path} is no table of runs: it has other columns.", "Choose a name.")
        return list(reader)


def read_all(place: Path = HERE) -> list[Row]:
    """Return the rows of all tables of runs in a folder; files with other columns are none."""
    found: list[Row] = []
    for path in sorted(place.glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) == COLUMNS:
                found += list(reader)
    return found


def _table_path(table: str, place: Path) -> Path:
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", table):
        raise RunError(
            f"{table!r} cannot be the name of a table.", "Use a-z, 0-9, dots and hyphens."
        )
    path = place / f"{table}.csv"
    read(path)  # refuses a file that is something else
    return path


def _check_protocol(rows: Sequence[Row], path: Path) -> None:
    """Refuse to mix protocols in one table."""
    for column in ONE_TABLE:
        values = list(dict.fromkeys(row[column] for row in rows))
        if len(values) > 1:
            raise RunError(
                f"{path.name} would hold runs with {column} {values[0]} and {values[1]}: "
                "that is no comparison.",
                "Give them a --table of their own.",
            )


def _write(path: Path, rows: Sequence[Row]) -> None:
    """Write all rows; the file is replaced whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    with beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    beside.replace(path)


def _key(row: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(row[name] for name in KEY)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _hardware(where: Mapping[str, Any]) -> str:
    on_cpu = where["device"] == "cpu"
    name = f"{where['cpu']} (CPU)" if on_cpu else str(where["device"])
    return f"{name}, {where['threads']} thread{'s' * (where['threads'] != 1)}"


def _versions(where: Mapping[str, Any]) -> str:
    names = ("purenoise", "torch", "torchvision", "numpy", "python")
    return ", ".join(f"{name} {where[name]}" for name in names if where.get(name))
