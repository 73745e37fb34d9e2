"""Our own readers of texts and files, each with good input to begin from, for `steered`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from purenoise import yamlfile
from purenoise.data.celeba import ATTRIBUTES, read_attributes
from purenoise.data.listfile import Faults, check_labels, check_repeats, class_names, read_list
from purenoise.data.npzfile import ArchiveError, ObjectsError, TooLargeError, read_npz
from purenoise.errors import PureNoiseError
from purenoise.eventlog import read_log
from purenoise.export.manifest import read_manifest
from purenoise.lab.variants import parse_seeds, parse_variants
from purenoise.longtail import read_index_file
from purenoise.ourlines import line_of
from purenoise.posthoc.priors import read_prior
from purenoise.predictions import read_predictions
from purenoise.recipe import load_recipe
from purenoise.report.command import report_words
from purenoise.runlog import RunFolder
from purenoise.summaryform import fault_of
from purenoise.terminal.arguments import split_words

from . import pixels
from .texts import CLASSES, RECIPES
from .warm import base_run, exported

Read = Callable[[bytes, Path], object]


@dataclass(frozen=True)
class Parser:
    """A reader that may be given any bytes.

    Args:
        name: Of it.
        read: Is given bytes and a folder to put them in; raises nothing but ``refusals``.
        seeds: Returns input that it takes.
        refusals: What it may raise.
    """

    name: str
    read: Read
    seeds: Callable[[], list[bytes]]
    refusals: tuple[type[Exception], ...] = (PureNoiseError,)


def _file(name: str, read: Callable[[Path], object]) -> Read:
    def take(content: bytes, folder: Path) -> object:
        (folder / name).write_bytes(content)
        return read(folder / name)

    return take


def _word(read: Callable[[str], object]) -> Read:
    return lambda content, _: read(content.decode("utf-8", "surrogateescape"))


def _list(path: Path) -> None:
    faults = Faults()
    part = read_list(path, faults)
    check_repeats({"train": part}, faults)
    n = check_labels({"train": part}, faults)
    faults.raise_any("The list has", "Mend it.")
    class_names(part.paths, part.labels, n)


def _summary(path: Path) -> None:
    found = RunFolder(path.parent).summary()
    if found is not None:
        assert isinstance(fault_of(found), str)


def _log(path: Path) -> None:
    log = read_log(path)
    assert isinstance(log.said, str)
    line_of(log.events, "own", "0" * 64)


def _shares(given: Any) -> None:
    shares = read_prior(given, CLASSES, np.ones(3), np.ones(3))[1]
    assert np.isfinite(shares).all()
    assert abs(shares.sum() - 1) < 1e-6


def _indices(path: Path) -> None:
    found = read_index_file(path, 50)
    assert len(set(found.tolist())) == len(found) > 0


def _recipe(path: Path) -> None:
    recipe = load_recipe(path)
    again = path.with_name("again.yaml")
    again.write_text(recipe.to_yaml(), encoding="utf-8", errors="surrogatepass")
    assert load_recipe(again).digest() == recipe.digest()


def _recipes() -> list[bytes]:
    from purenoise.recipe import RECIPES as OURS

    found = [path.read_bytes() for path in sorted(OURS.rglob("*.yaml"))[:12]]
    small = [text for text in RECIPES.values() if len(text) < 300]
    return found + [text if isinstance(text, bytes) else text.encode() for text in small]


def _manifest() -> list[bytes]:
    import json
    import struct

    whole = exported("model.safetensors")
    n = struct.unpack("<Q", whole[:8])[0]
    return [json.loads(whole[8 : 8 + n])["__metadata__"]["purenoise"].encode()]


def _celeba() -> list[bytes]:
    rows = [f"{i:06}.jpg " + " ".join("1" if i == j else "-1" for j in range(5)) for i in range(4)]
    return ["\n".join(["4", " ".join(ATTRIBUTES), *rows]).encode()]


OVERRIDES = [b"delta=0.5", b"data={name: folder, root: x}", b"method=open+ldam", b"train.lr=1e-3",
             b"normalize={mean: [0.5], std: [0.5]}", b"augment=[a, b]", b"imb_factor=1/3",
             b"data=photos/", b"model.pretrained=true", b"speed={compile: force}",
             b"method={loss: ce, phases: [{sampler: instance}]}"]  # fmt: skip
PARSERS: tuple[Parser, ...] = (
    Parser("recipe", _file("r.yaml", _recipe), _recipes),
    Parser("yaml", _word(lambda text: yamlfile.parse(text, "it")), _recipes),
    Parser("override", _word(lambda text: load_recipe("digits", [text])), lambda: OVERRIDES),
    Parser("list", _file("train.txt", _list),
           lambda: [b"a/0.png 0\nb/1.png 1\n", b"\xef\xbb\xbfa b.png\t0\n\n./c//d.png 1\n"]),
    Parser("index", _file("i.txt", _indices), lambda: [b"0\n1\n# x\n49\n", b"3,4 5"]),
    Parser("prior, JSON", _file("p.json", _shares),
           lambda: [b'{"cat": 0.5, "dog": 1, "eel": 2}', b"[1, 2, 3]"]),
    Parser("prior, CSV", _file("p.csv", _shares),
           lambda: [b"cat,1\ndog,2\neel,3\n", b'class,share\n"cat",1\ndog,2\neel,3\n']),
    Parser("prior, word", _word(_shares), lambda: [b"train", b"0.2,0.3,0.5", b"uniform"]),
    Parser("npz", _file("x.npz", lambda path: read_npz(path, lambda names: names, 1 << 20)),
           lambda: [pixels.npz(**pixels._arrays())],
           (PureNoiseError, ArchiveError, ObjectsError, TooLargeError)),
    Parser("npz of images", _file("x.npz", pixels.load_arrays),
           lambda: [pixels.npz(**pixels._arrays())]),
    Parser("predictions", _file("p.npz", read_predictions),
           lambda: [(base_run() / "predictions.npz").read_bytes()]),
    Parser("events", _file("e.jsonl", _log),
           lambda: [b"".join((base_run() / "events.jsonl").read_bytes().splitlines(True)[:1])]),
    Parser("summary", _file("summary.json", _summary),
           lambda: [(base_run() / "summary.json").read_bytes()]),
    Parser("manifest", _word(lambda text: read_manifest(text, "it")), _manifest),
    Parser("attributes", _file("a.txt", read_attributes), _celeba),
    Parser("methods", _word(parse_variants),
           lambda: [b"erm,open:delta=0.5", b"logit-adjustment:target=[1,2],erm"]),
    Parser("seeds", _word(parse_seeds), lambda: [b"0-4,9", b"5", b"1,2,3"]),
    Parser("words", lambda content, _: split_words(content.decode("utf-8", "ignore").split(" ")),
           lambda: [b"digits method=drs seed=1"]),
    Parser("report's words",
           lambda content, _: report_words(content.decode("utf-8", "ignore").split(" ")),
           lambda: [b"runs/a mixed=true baseline=drs out=x.html"]),
)  # fmt: skip
