"""Hostile run folders, as a stranger may hand them over, read by every command that reads runs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from purenoise.recipe import load_recipe

from .kind import Expected, Kind, command
from .pixels import GOOD_PNG
from .warm import base_run

Change = Callable[[Path], None]
READERS: dict[str, Callable[[Path], Any]] = {
    "evaluate": lambda run: command("evaluate", run),
    "report": lambda run: command("report", run, "out=page.html"),
    "predict": lambda run: command("predict", run, "x.png"),
    "train": lambda run: command("train", run),
    "adjust": lambda run: command("adjust", run, "tau=1"),
    "export": lambda run: command("export", run, "card", "weights", "to=there/"),
}
ABSURD: dict[str, Any] = {
    "null": None, "a list": [1], "a mapping": {"a": 1}, "text": "x", "minus one": -1,
    "10^400": 10**400, "1e308": 1e308, "not a number": float("nan"), "true": True,
    "10^9": 10**9, "nothing": [], "escape sequences": "\x1b[31m\u202e\nred",
    "markup": "<script>alert(1)</script>[bold]x[/]",
}  # fmt: skip
# Keys of a summary that commands read, as paths.
KEYS = ("class_names", "image_shape", "counts", "normalize", "test", "test.accuracy",
        "test.groups", "test.per_class", "test.confusion", "test.n_test", "val", "n_val", "n_test",
        "seed", "recipe", "method", "command", "notes", "environment", "speed", "digest", "probes",
        "probes.noise", "noise", "optimistic_best_on_test", "train_seconds", "fingerprint",
        "status", "data", "augment", "subset_sha256")  # fmt: skip


def folder(change: Change, base: Callable[[], Path] = base_run) -> Callable[[Path, Any], Path]:
    """Return what copies a small run, the finished one by default, and changes it."""

    def make(inside: Path, _: Any) -> Path:
        shutil.copytree(base(), inside / "run")
        (inside / "x.png").write_bytes(GOOD_PNG)
        change(inside / "run")
        return Path("run")

    return make


def summary(key: str, value: Any) -> Change:
    """Return what puts a value into ``summary.json``."""

    def change(run: Path) -> None:
        content = json.loads((run / "summary.json").read_text())
        *parents, leaf = key.split(".")
        here = content
        for parent in parents:
            here = here[parent]
        here[leaf] = value
        (run / "summary.json").write_text(json.dumps(content))

    return change


def without(key: str) -> Change:
    """Return what takes a key out of ``summary.json``."""

    def change(run: Path) -> None:
        content = json.loads((run / "summary.json").read_text())
        del content[key]
        (run / "summary.json").write_text(json.dumps(content))

    return change


def file(name: str, content: bytes) -> Change:
    """Return what writes a file of the run."""

    def change(run: Path) -> None:
        (run / name).write_bytes(content)

    return change


def recipe(*overrides: str) -> Change:
    """Return what changes the run's recipe, its digest fitting again."""

    def change(run: Path) -> None:
        found = load_recipe(str(run / "recipe.yaml"), overrides)
        (run / "recipe.yaml").write_text(found.to_yaml() + f"digest: {found.digest()}\n")
        if (run / "summary.json").exists():
            text = json.loads((run / "summary.json").read_text())
            (run / "summary.json").write_text(json.dumps(text | {"digest": found.digest()}))

    return change


def linked(name: str, target: str) -> Change:
    """Return what puts a link in the place of a file of the run."""

    def change(run: Path) -> None:
        place = run / name
        if place.is_dir():
            shutil.rmtree(place)
        place.unlink(missing_ok=True)
        place.symlink_to(target)

    return change


def fifo_for(name: str) -> Change:
    """Return what puts a FIFO in the place of a file of the run."""

    def change(run: Path) -> None:
        (run / name).unlink(missing_ok=True)
        os.mkfifo(run / name)

    return change


def _names(*names: str) -> Change:
    return summary("class_names", [*names, *(f"c{i}" for i in range(10 - len(names)))])


EVENT = b'{"event": "epoch", "epoch": 0, "loss": 1.0, "accuracy": 0.5}\n'
OTHERS: dict[str, Change] = {
    "names of markup": _names("<img src=x onerror=alert(1)>", "[red]x[/red]", "{{ 7 * 7 }}",
                              "$\\frac{1}{0$", "</svg><script>", "]]>", "&#60;"),
    "names of escape sequences": _names("\x1b[31mred", "\x07", "a\nb", "\u202eevil", "\u2066",
                                        "\r", "\x9b31m", "\ufeff", "\u0085"),
    "names of formulas": _names("=cmd()", "+1", "@x", "-1", "\t=1", " =1", "a;=1", "b| +1",
                                "\uff1d1"),
    "names of half letters": _names("\ud800", "\udfff"),
    "a name of 1 MB": _names("n" * 1_000_000),
    "one name for two classes": _names("a", "a"),
    "empty names": _names("", " "),
    "events of noise": file("events.jsonl", os.urandom(100_000)),
    "a hundred thousand events": file("events.jsonl", EVENT * 100_000),
    "events of brackets": file("events.jsonl", EVENT + b"[" * 100_000 + b"\n"),
    "events of other types": file("events.jsonl", b'{"event": 1}\n{"event": "epoch"}\n'
                                  b'{"event": "epoch", "epoch": "x", "loss": "y"}\n'
                                  b'{"event": "epoch", "epoch": 1e999, "loss": 1e999}\n'
                                  b'{"event": "phase", "epoch": true}\n' + EVENT),
    "an epoch of 10^18": file("events.jsonl", EVENT.replace(b"0,", b"1000000000000000000,", 1)),
    "a loss of 1e308": file("events.jsonl", EVENT.replace(b"1.0", b"1e308") + EVENT.replace(
        b"0,", b"1,", 1)),
    "a summary of brackets": file("summary.json", b"[" * 100_000),
    "a summary of zeros": file("summary.json", bytes(1000)),
    "a summary of 10,000 digits": file("summary.json", b'{"status": ' + b"9" * 10_000 + b"}"),
    "a recipe of noise": file("recipe.yaml", os.urandom(1000)),
    "predictions of noise": file("predictions.npz", os.urandom(1000)),
    "weights of another network": file("weights.safetensors", os.urandom(1000)),
    "a report that is a link": linked("report.html", "../../outside/victim"),
    "a summary that is a link": linked("summary.json", "../../outside/victim"),
    "a device for a summary": linked("summary.json", "/dev/zero"),
    "a device for events": linked("events.jsonl", "/dev/zero"),
    "a FIFO for a summary": fifo_for("summary.json"),
    "a FIFO for events": fifo_for("events.jsonl"),
    "a FIFO for predictions": fifo_for("predictions.npz"),
    "a FIFO for weights": fifo_for("weights.safetensors"),
    "a recipe that writes elsewhere": recipe("out=/outside"),
    "a recipe for other images": recipe("data=/etc"),
    "a recipe of a huge model": recipe("model=wide_resnet28_10"),
}  # fmt: skip
REFUSALS = {"evaluate", "predict", "train", "adjust", "export"}


def _kinds() -> list[Kind]:
    found = []

    def add(verb: str, what: str, change: Change, wanted: Expected = "either") -> None:
        found.append(Kind(f"{verb}: {what}", folder(change), READERS[verb], wanted))

    for verb in READERS:
        add(verb, "good", lambda run: None, "harmless")
        for what, change in OTHERS.items():
            add(verb, what, change)
        for key in KEYS:
            if "." not in key:
                add(verb, f"a summary without {key}", without(key))
        for key in KEYS:
            for what, value in ABSURD.items():
                add(verb, f"{key} is {what}", summary(key, value))
    return found


ALL = _kinds()
KINDS = [kind for kind in ALL if " is " not in kind.name or kind.name.endswith(
    ("is 10^400", "is text", "is null", "is escape sequences"))]  # fmt: skip
