"""Run folders of strangers, continued: links out of them, states, logs, false headers."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from purenoise.checksums import checksum_line

from .kind import Expected, Kind
from .networks import WEIGHTS
from .runs import ABSURD, EVENT, OTHERS, READERS, Change, fifo_for, file, folder, linked
from .warm import half_run

BILLION = b"a0: &a0 [1, 1]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (i, i, b", ".join([b"*a%d" % (i - 1)] * 9)) for i in range(1, 10)
)


def _billion_aliases(run: Path) -> None:
    own = (run / "recipe.yaml").read_bytes().partition(b"digest:")[0]
    (run / "recipe.yaml").write_bytes(BILLION + own + b"digest: *a9\n")


def _npy(shape: str, kind: str = "<f4", body: bytes = b"") -> bytes:
    """Return an array's file with any header."""
    head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + body


def _predictions(logits: bytes, labels: bytes) -> Change:
    def change(run: Path) -> None:
        how = zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(run / "predictions.npz", "w", how, compresslevel=1) as archive:
            archive.writestr("logits.npy", logits)
            archive.writestr("labels.npy", labels)

    return change


def _adjusted(content: bytes) -> Change:
    def change(run: Path) -> None:
        (run / "adjusted" / "x-1").mkdir(parents=True)
        (run / "adjusted" / "x-1" / "summary.json").write_bytes(content)

    return change


def _device_for_adjusted(run: Path) -> None:
    _adjusted(b"")(run)
    linked("adjusted/x-1/summary.json", "/dev/zero")(run)


def _itself_adjusted(run: Path) -> None:
    _adjusted((run / "summary.json").read_bytes())(run)


def _sparse(*names: str) -> Change:
    def change(run: Path) -> None:
        for name in names:
            (run / name).touch()
            os.truncate(run / name, 50 << 30)

    return change


def _folder_for(*names: str) -> Change:
    def change(run: Path) -> None:
        for name in names:
            (run / name).unlink(missing_ok=True)
            (run / name).mkdir()

    return change


def _for_all(names: tuple[str, ...], change: Callable[[str], Change]) -> Change:
    def do(run: Path) -> None:
        for name in names:
            change(name)(run)

    return do


LABELS = _npy("(4,)", "<i8", bytes(32))
FILES: dict[str, Change] = {
    "a recipe whose digest is a billion aliases": _billion_aliases,
    "predictions of 10^15 rows": _predictions(_npy("(1000000000000000, 10)"), LABELS),
    "predictions of rows below zero": _predictions(_npy("(-4, 10)"), LABELS),
    "predictions of 400 MB of zeros": lambda run: _predictions(
        _npy("(10000000, 10)", "<f4", bytes(400_000_000)), _npy("(10000000,)", "<i1"))(run),
    "predictions of objects": _predictions(_npy("(4, 10)", "|O", b"\x80\x02K\x00."), LABELS),
    "predictions of few rows": _predictions(_npy("(4, 10)", "<f4", bytes(160)), LABELS),
    "50 GiB of nothing for predictions": _sparse("predictions.npz"),
    "50 GiB of nothing for a summary": _sparse("summary.json"),
    "a summary that is a folder": _folder_for("summary.json"),
    "adjusted results of noise": _adjusted(bytes(range(256)) * 4),
    "adjusted results of brackets": _adjusted(b"[" * 100_000),
    "adjusted results of nothing": _adjusted(b"{}"),
    "adjusted results that are the run's": _itself_adjusted,
    "a device for adjusted results": _device_for_adjusted,
}  # fmt: skip
LOGS: dict[str, Change] = {
    "an event of 40 MB": lambda run: file(
        "events.jsonl", EVENT + b'{"event": "' + b"x" * 40_000_000)(run),
    "events without line ends": file("events.jsonl", EVENT.replace(b"\n", b" ") * 100_000),
    "a million empty lists in an event": file(
        "events.jsonl", EVENT + b'{"event": "epoch", "x": [' + b"[]," * 1_000_000 + b"[]]}\n"),
    "50 GiB of nothing for events": _sparse("events.jsonl"),
    "metrics that are a folder": _folder_for("metrics.csv"),
    "events that are a folder": _folder_for("events.jsonl"),
}  # fmt: skip
# By which what is written would leave the folder; `touched` by training.
LINKS: dict[str, str] = {
    **dict.fromkeys(("state", "tb", "adjusted", "export"), "../../outside"),
    **dict.fromkeys(("lock", "events.jsonl", "metrics.csv", "report.html", "report.md",
                     "report.csv", ".report.html.part", "weights.safetensors", "predictions.npz"),
                    "../../outside/victim"),
    "state/state.pt": "../../../outside/victim", "state/previous.pt": "../../../outside/new",
}  # fmt: skip
BOTH = ("state/state.pt", "state/previous.pt")


def rewritten(change: Callable[[dict[str, Any]], object]) -> Change:
    """Return what changes the content of a run's state, whose checksum fits again."""

    def do(run: Path) -> None:
        path = run / BOTH[0]
        content = torch.load(path, weights_only=True)
        change(content)
        buffer = io.BytesIO()
        torch.save(content, buffer)
        path.write_bytes(buffer.getvalue() + checksum_line(buffer.getbuffer()))
        (run / BOTH[1]).unlink(missing_ok=True)

    return do


def _bytes(make: Callable[[], bytes]) -> Change:
    return lambda run: _for_all(BOTH, lambda name: file(name, make()))(run)


def _put(key: str, value: Any, of: str = "") -> Change:
    def change(content: dict[str, Any]) -> None:
        here: Any = content
        if of == "history":
            here = content["history"][0]
        if of == "optimizer":
            here = next(iter(content["optimizer"]["state"].values()))
        if of == "model":
            key_of_model = next(iter(content["model"]))
            content["model"][key_of_model] = value
            return
        here[key] = value

    return rewritten(change)


def _not_finite(content: dict[str, Any]) -> None:
    for weight in content["model"].values():
        weight.copy_(torch.full_like(weight, float("nan")) if weight.is_floating_point() else 0)


SOME = {what: ABSURD[what] for what in ("text", "minus one", "null", "nothing", "10^9",
                                        "a mapping", "not a number")}  # fmt: skip
OF_STATE = ("epoch", "step", "model", "optimizer", "meters", "history", "identity", "version", "x")
OF_EPOCH = ("epoch", "phase", "loss", "lr", "test", "seconds", "accuracy", "x")
STATES: dict[str, Change] = {
    **{f"a state that is {what}": _bytes(make) for what, (_, make, _) in WEIGHTS.items()},
    **{f"{key} of a state is {what}": _put(key, value)
       for key in OF_STATE for what, value in SOME.items()},
    **{f"{key} of an epoch is {what}": _put(key, value, "history")
       for key in OF_EPOCH for what, value in SOME.items()},
    "a momentum of text": _put("momentum_buffer", "x", "optimizer"),
    "a momentum of another shape": _put("momentum_buffer", torch.zeros(3, 5), "optimizer"),
    "a momentum of one number": _put("momentum_buffer", torch.zeros(1), "optimizer"),
    "a momentum of whole numbers": _put(
        "momentum_buffer", torch.zeros(1, dtype=torch.int64), "optimizer"),
    "weights of another shape": _put("", torch.ones(2), "model"),
    "weights that are text": _put("", "x", "model"),
    "weights that are not finite": rewritten(_not_finite),
    "a history of a million epochs": rewritten(
        lambda content: content["history"].extend(content["history"] * 1_000_000)),
    "a FIFO for a state": _for_all(BOTH, fifo_for),
    "a device for a state": _for_all(BOTH, lambda name: linked(name, "/dev/zero")),
    "50 GiB of nothing for a state": _sparse(*BOTH),
    "a state that is a folder": _folder_for(*BOTH),
}  # fmt: skip
UNFINISHED = ("events", "an event", "a recipe", "a FIFO for e", "a device for e", "an epoch")


def _kinds() -> list[Kind]:
    found = []

    def add(verb: str, what: str, change: Change, wanted: Expected = "either") -> None:
        found.append(Kind(f"{verb}: {what}", folder(change), READERS[verb], wanted))

    def go_on(what: str, change: Change, wanted: Expected = "either") -> None:
        found.append(Kind(f"goes on: {what}", folder(change, half_run), READERS["train"], wanted))

    for verb in READERS:
        for what, change in {**FILES, **LOGS}.items():
            add(verb, what, change)
        for what, to in LINKS.items():
            add(verb, f"a link out for {what}", linked(what, to))
    go_on("good", lambda run: None, "harmless")
    for what, change in {**STATES, **LOGS}.items():
        go_on(what, change)
    for what, change in {**OTHERS, **FILES}.items():
        if what.startswith(UNFINISHED):
            go_on(what, change)
    for what, to in LINKS.items():
        go_on(f"a link out for {what}", linked(what, to), "refused")
    return found


KINDS = _kinds()
