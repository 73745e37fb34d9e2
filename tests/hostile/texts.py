"""Hostile texts: recipes, overrides, lists of images, index files, class shares."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from purenoise.longtail import read_index_file
from purenoise.posthoc.priors import read_prior
from purenoise.recipe import load_recipe

from .kind import Expected, Kind, command

CLASSES = ("cat", "dog", "eel")
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 10)
)
ALIASES = "a0: &a0 [1, 1]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)
)

RECIPES: dict[str, str | bytes] = {
    "python tag": "name: !!python/object/apply:os.system ['touch ran']\n",
    "python module": "name: !!python/module:os\n",
    "python name": "name: !!python/name:os.system\n",
    "merge keys that grow a billionfold": MERGES,
    "aliases that grow a billionfold": ALIASES,
    "aliases in a known key": ALIASES + "data: {normalize: {mean: *a9, std: *a9}}\n",
    "a list that holds itself": "data: &a [*a]\n",
    "a mapping that holds itself": "data: &a {root: *a}\n",
    "a key that is a list": "? [1, 2]\n: 3\n",
    "a key that is a number": "1: 2\n",
    "a timestamp that is none": "name: !!timestamp never\n",
    "a truth that is none": "seed: !!bool maybe\n",
    "a number that is none": "seed: !!int ''\n",
    "a mapping that is a list": "data: !!map [1]\n",
    "an omap": "data: !!omap 3\n",
    "bytes": "name: !!binary YWJj\n",
    "binary that is none": "name: !!binary '*'\n",
    "a set": "data: !!set {a, b}\n",
    "ten thousand brackets": "data: " + "[" * 10_000,
    "ten thousand braces": "data: " + "{a: " * 10_000,
    "a number of 10,000 digits": "seed: " + "9" * 10_000,
    "a number beyond floats": "delta: 1e999\n",
    "not a number": "delta: .nan\n",
    "infinite": "train: {lr: .inf}\n",
    "epochs of 10^18": "train: {epochs: 1000000000000000000000}\n",
    "ten thousand unknown keys": "".join(f"k{i}: 1\n" for i in range(10_000)),
    "ten thousand phases": "method: {loss: ce, phases: ["
    + ", ".join(["{sampler: nothing}"] * 10_000) + "]}\n",
    "a long key": "k" * 100_000 + ": 1\n",
    "a long value": "name: " + "k" * 100_000 + "/\n",
    "control characters": b"name: \"\\e[31m\\a\\u202e\"\nseed: x\n",
    "raw escape characters": b"name: \x1b[31mred\n",
    "a name that leads away": "name: ../../outside/x\n",
    "a name of dots": "name: ..\n",
    "not UTF-8": b"name: \xff\xfe\n",
    "UTF-16": "name: x\n".encode("utf-16"),
    "zeros": bytes(1000),
    "nothing": "",
    "two documents": "name: a\n---\nname: b\n",
    "an error with markup": "epochs: '[bold red]x[/]'\n",
    "a method with a path": "method: ../../../etc/passwd\n",
    "a data set of another kind": "data: {name: 'torchvision:../../x'}\n",
    "a null byte in a path": 'data: {name: folder, root: "a\\0b"}\n',
}  # fmt: skip

OVERRIDES = {
    "python tag": "name=!!python/object/apply:os.system ['touch ran']",
    "ten thousand brackets": "epochs=" + "[" * 10_000,
    "a list that holds itself": "epochs=&a [*a]",
    "a data set that holds itself": "data=&a {root: *a}",
    "a timestamp that is none": "seed=!!timestamp never",
    "a number of 10,000 digits": "seed=" + "9" * 10_000,
    "a long key": "k" * 100_000 + "=1",
    "a key of dots": "...=1",
    "a hidden attribute": "model.__class__=1",
    "an escape sequence": "\x1b[31mred=1",
    "surrogates": "device=\udcff\udcfe",
    "an empty value": "data.imbalance=",
    "merge keys": "data={<<: {name: digits}, <<: {root: x}}",
}

LISTS: dict[str, bytes] = {
    "paths out of the folder": b"../outside/victim 0\na/../../outside/victim 1\n",
    "an absolute path": b"/etc/passwd 0\n/etc/hosts 1\n",
    "a drive": b"C:/x.png 0\nc:x.png 1\n",
    "backslashes": b"..\\..\\x.png 0\n",
    "control characters": b"a\x1b[31m.png 0\nb\x07.png 1\n",
    "right to left": "a\u202egnp.exe 0\nb\u2066.png 1\n".encode(),
    "labels beyond all": b"0.png 999999999999999999999\n1.png 1e5\n",
    "labels below zero": b"0.png -1\n1.png 0\n",
    "a label of a billion": b"0.png 0\n1.png 999999\n",
    "digits of another script": "0.png \u0661\n1.png \u0660\n".encode(),
    "zeros": bytes(10_000),
    "zeros further on": b"0.png 0\n" * 1000 + bytes(1000) + b"\n",
    "a line of 1 MB": b"a" * 1_000_000 + b" 0\n",
    "a million empty lines": b"\n" * 1_000_000,
    "a hundred thousand bad lines": b"x\n" * 100_000,
    "not UTF-8": b"\xff\xfe.png 0\n\xff.png 1\n",
    "a missing file": b"0.png 0\nnothing.png 1\n",
    "a link out of the folder": b"0.png 0\nlink.png 1\n",
    "a folder": b"0.png 0\nfolder.png 1\n",
    "a FIFO": b"0.png 0\nfifo.png 1\n",
    "one image of each class": b"0.png 0\n1.png 1\n",
    "the same image twice": b"0.png 0\n./0.png 1\n",
    "a name of 300 letters": b"0.png 0\n" + b"n" * 300 + b".png 1\n",
}
INDICES: dict[str, bytes] = {
    "an index beyond the images": b"0\n50\n",
    "a negative index": b"-1\n",
    "an index of 10,000 digits": b"9" * 10_000,
    "digits of another script": "\u0661\n\u00b2\n".encode(),
    "twice": b"3\n3\n",
    "a hundred thousand faults": b"x\n" * 100_000,
    "zeros": bytes(1000),
    "escape sequences": b"\x1b[31m1\n",
    "not UTF-8": b"\xff\n",
    "nothing": b"",
}
PRIORS: dict[str, tuple[str, bytes]] = {
    "ten thousand brackets": ("p.json", b"[" * 100_000),
    "a number beyond floats": ("p.json", b'{"cat": 1e999, "dog": 1, "eel": 1}'),
    "an integer beyond floats": ("p.json", b'{"cat": ' + b"9" * 400 + b', "dog": 1, "eel": 1}'),
    "not a number": ("p.json", b'{"cat": NaN, "dog": 1, "eel": 1}'),
    "sums beyond floats": ("p.json", b'{"cat": 1e308, "dog": 1e308, "eel": 1e308}'),
    "a class that is there twice": ("p.json", b'{"cat": 1, "cat": 2, "dog": 1, "eel": 1}'),
    "a list for a share": ("p.json", b'{"cat": [1], "dog": 1, "eel": 1}'),
    "a formula": ("p.csv", b"=cmd(),1\ndog,1\neel,1\n"),
    "a field of 200 kB": ("p.csv", b'"' + b"a" * 200_000 + b'",1\n'),
    "zeros": ("p.csv", bytes(1000)),
    "a quote without end": ("p.csv", b'"cat,1\ndog,1\n'),
    "a hundred thousand classes": ("p.csv", b"".join(b"%d,1\n" % i for i in range(100_000))),
    "not UTF-8": ("p.csv", b"\xff,1\n"),
    "escape sequences": ("p.csv", b"\x1b[31mcat,1\ndog,1\neel,1\n"),
}  # fmt: skip


def written(name: str, content: str | bytes) -> Callable[[Path, Any], Path]:
    """Return what writes a file and gives its path."""

    def make(folder: Path, _: Any) -> Path:
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return make


def fifo(name: str) -> Callable[[Path, Any], Path]:
    """Return what makes a FIFO, at which a reader waits for ever."""

    def make(folder: Path, _: Any) -> Path:
        os.mkfifo(folder / name)
        return folder / name

    return make


def sparse(name: str, size: int = 50 << 30) -> Callable[[Path, Any], Path]:
    """Return what makes a file that is huge and takes no room."""

    def make(folder: Path, _: Any) -> Path:
        with open(folder / name, "wb") as file:
            file.truncate(size)
        return folder / name

    return make


def image_list(content: bytes) -> Callable[[Path, Any], Path]:
    """Return what writes a list beside some images, links and what is no file."""

    def make(folder: Path, _: Any) -> Path:
        for i in range(4):
            Image.new("L", (8, 8), 60 * i).save(folder / f"{i}.png")
        (folder / "link.png").symlink_to("../outside/victim")
        (folder / "folder.png").mkdir()
        os.mkfifo(folder / "fifo.png")
        (folder / "train.txt").write_bytes(content)
        return folder / "train.txt"

    return make


def read_recipe(path: Path) -> Any:
    """Load a recipe."""
    return load_recipe(path)


def check_recipe(path: Path) -> Any:
    """Check a recipe by the command."""
    return command("recipes", "check", path)


def read_list_set(path: Path) -> Any:
    """Inspect the images of a list."""
    return command("inspect", path, "test_fraction=0.5")


def indices(path: Path) -> Any:
    """Read an index file of 50 images."""
    return read_index_file(path, 50)


def inspect_recipe(path: Path) -> Any:
    """Look at the images of a recipe."""
    from purenoise.inspection import inspect_data

    return inspect_data(load_recipe(path))


def shares(given: Any) -> Any:
    """Read class shares."""
    return read_prior(given, CLASSES, np.ones(3), np.ones(3))


def override(text: str) -> Any:
    """Load a recipe with an override."""
    return load_recipe("digits", [text])


def _kinds() -> list[Kind]:
    found: list[Kind] = []
    harmless: dict[str, Expected] = {
        "list: one image of each class": "harmless",
        "recipe: bytes": "either",  # pydantic reads them as text
        "recipe: epochs of 10^18": "harmless",  # nobody has to wait for them
        "recipe: a null byte in a path": "refused",
        "override: a data set that holds itself": "harmless",  # it is read as a path
        "override: merge keys": "either", "prior: sums beyond floats": "either",
    }  # fmt: skip

    def add(group: str, what: str, make: Any, read: Any) -> None:
        name = f"{group}: {what}"
        found.append(Kind(name, make, read, harmless.get(name, "refused")))

    for what, text in RECIPES.items():
        add("recipe", what, written("r.yaml", text), check_recipe)
    for what, word in OVERRIDES.items():
        add("override", what, lambda *_, w=word: w, override)
    for what, content in LISTS.items():
        add("list", what, image_list(content), read_list_set)
    for what, content in INDICES.items():
        add("index", what, written("i.txt", content), indices)
    for what, (file, content) in PRIORS.items():
        add("prior", what, written(file, content), shares)
    for group, file, read in (
        ("recipe", "r.yaml", check_recipe), ("list", "train.txt", read_list_set),
        ("index", "i.txt", indices), ("prior", "p.json", shares),
    ):  # fmt: skip
        add(group, "a FIFO for a file", fifo(file), read)
        add(group, "50 GiB of nothing", sparse(file), read)
    for group, read in (("recipe", check_recipe), ("index", indices), ("prior", shares)):
        add(group, "a name of 5,000 letters", lambda *_: "n" * 5000, read)
        add(group, "a null byte in a name", lambda *_: "a\0b", read)
        add(group, "another user's home", lambda *_: "~nobody-at-all/x", read)
        add(group, "a device without end", lambda *_: Path("/dev/zero"), read)

    def named(path: str) -> Any:
        return command("inspect", "digits", "data.name=list", f"train_list={path}")

    add("list", "a device without end", lambda *_: "/dev/zero", named)
    folders = {"a null byte": "a\0b", "5,000 letters": "n" * 5000, "300 letters": "n" * 300,
               "another user's home": "~nobody-at-all/x"}  # fmt: skip
    for name in ("folder", "npz", "hf", "list", "celeba5", "torchvision:SVHN", "cifar10"):
        for what, root in folders.items():
            key = "train_list" if name == "list" else "root"
            content = json.dumps({"data": {"name": name, key: root, "download": False}})
            add("place", f"{name} in {what}", written("r.yaml", content), inspect_recipe)
    for key in ("out", "model.weights", "noise.source", "data.cache"):
        word = f"{key}=" + "n" * 5000
        add("place", f"{key} of 5,000 letters", lambda *_, w=word: w, override)
    return found


KINDS = _kinds()
