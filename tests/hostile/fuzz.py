"""Generated hostile input: good files, changed at random places, by a seeded generator."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from purenoise.predictions import read_predictions
from purenoise.recipe import RECIPES, recipe_names

from . import networks, pixels, runs, strangers, texts
from .kind import Kind
from .warm import base_run, exported, half_run

TOKENS = (
    *(b"\0", b"\xff", b"\x1b[31m", b"[" * 50, b"{" * 50, b"&a", b"*a", b"<<:", b"!!int"),
    *(b"!!python/name:os.system", b"!!timestamp", b"9" * 60, b"-1", b"1e999", b".nan", b"null"),
    *(b"../..", b"\xe2\x80\xae", b"PK\x03\x04", b"\x80\x02cos\nsystem\n", b"=cmd()", b"\r\n"),
    *(b'"', b"'", b": ", b",", b"~"),
)
LEAVES: tuple[Any, ...] = tuple(runs.ABSURD.values())


def changed(content: bytes, random: np.random.Generator) -> bytes:
    """Return bytes with one to five changes: flips, tokens, cuts, repeats, extreme numbers."""
    found = bytearray(content)
    for _ in range(int(random.integers(1, 6))):
        at = int(random.integers(0, len(found) + 1))
        match int(random.integers(0, 6)):
            case 0 if at < len(found):
                found[at] ^= 1 << int(random.integers(8))
            case 1:
                found[at:at] = TOKENS[int(random.integers(len(TOKENS)))]
            case 2:
                del found[at : at + int(random.integers(1, 64))]
            case 3:
                found[at:at] = found[at : at + int(random.integers(1, 64))]
            case 4:
                found[at : at + 4] = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\x80")[at % 3]
            case _:
                del found[at : at + 1 if random.random() < 0.8 else None]
    return bytes(found)


def _changed_file(name: str, source: Callable[[np.random.Generator], bytes]) -> Any:
    return lambda folder, random: texts.written(name, changed(source(random), random))(folder, None)


def _any_recipe(random: np.random.Generator) -> bytes:
    names = recipe_names()
    return (RECIPES / f"{names[int(random.integers(len(names)))]}.yaml").read_bytes()


def _any_image(random: np.random.Generator) -> bytes:
    kinds = list(pixels.IMAGES.values())
    good = [make for _, make, wanted in kinds if wanted == "harmless"]
    return good[int(random.integers(len(good)))]()


def _changed_list(folder: Path, random: np.random.Generator) -> Path:
    return texts.image_list(changed(b"0.png 0\n1.png 1\n2.png 0\n3.png 1\n", random))(folder, None)


def _changed_summary(folder: Path, random: np.random.Generator) -> Path:
    """Put something absurd in the place of one to three values of a summary, at any depth."""

    def change(run: Path) -> None:
        content = json.loads((run / "summary.json").read_text())
        for _ in range(int(random.integers(1, 4))):
            _replace(content, random)
        (run / "summary.json").write_text(json.dumps(content))

    return runs.folder(change)(folder, None)


def _changed_state(folder: Path, random: np.random.Generator) -> Path:
    """Put something absurd in the place of one to three values of a state, its checksum fitting."""

    def change(content: dict[str, Any]) -> None:
        for _ in range(int(random.integers(1, 4))):
            _replace(content, random)

    return runs.folder(strangers.rewritten(change), half_run)(folder, None)


def _changed_log(folder: Path, random: np.random.Generator) -> Path:
    """Change the log of a run that goes on."""

    def change(run: Path) -> None:
        path = run / "events.jsonl"
        path.write_bytes(changed(path.read_bytes(), random))

    return runs.folder(change, half_run)(folder, None)


def _replace(content: Any, random: np.random.Generator) -> None:
    here = content
    while True:
        keys: list[Any] = list(here) if isinstance(here, dict) else list(range(len(here)))
        if not keys:
            return
        key = keys[int(random.integers(len(keys)))]
        inner = here[key]
        if isinstance(inner, dict | list) and inner and random.random() < 0.8:
            here = inner
            continue
        here[key] = copy.deepcopy(LEAVES[int(random.integers(len(LEAVES)))])
        return


def _word(_: Path, random: np.random.Generator) -> str:
    good = (b"delta=0.5", b"data={name: folder, root: x}", b"method=open+ldam", b"train.lr=1e-3",
            b"normalize={mean: [0.5], std: [0.5]}", b"augment=[a, b]",
            b"imb_factor=1/3")  # fmt: skip
    word = good[int(random.integers(len(good)))]
    return changed(word, random).decode("utf-8", "surrogateescape")


def _kinds() -> list[tuple[Kind, float]]:
    prior = b'{"cat": 0.5, "dog": 0.25, "eel": 0.25}'

    def file(name: str, *args: Any) -> Any:
        return _changed_file(name, *args)

    table: list[tuple[str, Any, Any, float]] = [
        ("recipe", file("r.yaml", _any_recipe), texts.read_recipe, 5),
        ("override", _word, texts.override, 4),
        ("list", _changed_list, texts.read_list_set, 1),
        ("index", file("i.txt", lambda _: b"0\n1\n2\n30\n# x\n49\n"), texts.indices, 2),
        ("prior", file("p.json", lambda _: prior), texts.shares, 2),
        ("prior", file("p.csv", lambda _: b"cat,1\ndog,2\neel,3\n"), texts.shares, 2),
        ("npz", file("x.npz", lambda _: pixels.npz(**pixels._arrays())), pixels.load_arrays, 3),
        ("predictions", file("p.npz", lambda _: (base_run() / "predictions.npz").read_bytes()),
         read_predictions, 2),
        ("image", file("x.png", _any_image), pixels.decoded, 6),
        ("weights", file("w.pth", lambda _: networks.torch_file(networks.state())),
         networks.into_model, 3),
        ("weights", file("w.safetensors", lambda _: (
            base_run() / "weights.safetensors").read_bytes()), networks.into_model, 2),
        ("run's weights", file("w.safetensors", lambda _: (
            base_run() / "weights.safetensors").read_bytes()), networks.into_run, 2),
        ("export", file("m.onnx", lambda _: exported("model.onnx")), networks.asked, 1),
        ("export", file("m.safetensors", lambda _: exported("model.safetensors")),
         networks.asked, 1),
        ("report", _changed_summary, runs.READERS["report"], 0.3),
        ("evaluate", _changed_summary, runs.READERS["evaluate"], 1),
        ("adjust", _changed_summary, runs.READERS["adjust"], 1),
        ("export", _changed_summary, runs.READERS["export"], 0.5),
        ("goes on", _changed_state, runs.READERS["train"], 1),
        ("goes on", _changed_log, runs.READERS["train"], 0.5),
    ]  # fmt: skip
    return [(Kind(f"{group}: changed at random", make, read, "either"), weight)
            for group, make, read, weight in table]  # fmt: skip


def generated(n: int, random: np.random.Generator) -> list[Kind]:
    """Return ``n`` kinds, drawn by their weights."""
    table = _kinds()
    weights = np.array([weight for _, weight in table])
    chosen = random.choice(len(table), n, p=weights / weights.sum())
    return [table[i][0] for i in chosen]
