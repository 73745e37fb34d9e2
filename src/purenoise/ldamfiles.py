"""The files that LDAM-DRW's script leaves behind, in its places, written from the events of a run.

    root_log/NAME/    args.txt  log_train.csv  log_test.csv  TensorBoard events
                      confusion_matrix.png  confusion_matrix.csv  purenoise/ (our own run folder)
    root_model/NAME/  ckpt.pth.tar  ckpt.best.pth.tar

A checkpoint holds tensors and plain values only, so that ``torch.load(weights_only=True)`` reads
it, and besides LDAM-DRW's five entries one of ours, from which a run goes on bit for bit. A last
line holds its SHA-256; of one without that line the CRC-32 of its records is checked.

Differs from LDAM-DRW: an existing file is never overwritten by another experiment, and
``log_test.csv`` is written anew each epoch from the run's history, so that a resumed run has no
line twice. Numbers in brackets are means over the epoch so far, those before them means over the
steps since the line before. The test loss is the plain negative log-likelihood.
"""

from __future__ import annotations

import argparse
import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from purenoise import yamlfile
from purenoise.checkpoint import is_whole, load_plain, write_whole
from purenoise.checksums import checksum_line
from purenoise.confusion import Confusion
from purenoise.errors import RunError
from purenoise.runlinks import refuse_links
from purenoise.runlog import writing
from purenoise.smallfile import MIB, read_small
from purenoise.stateform import fault_of_state
from purenoise.training import State

VERSION = 1
MOST_LOG = 1024 * MIB  # of log_train.csv
OURS = "purenoise"
_LINE = re.compile(r"Epoch: \[(\d+)\]\[(\d+)/")
_MOST_LABELLED = 20  # classes, in the picture of the confusion matrix


def choose_name(name: str, digest: str, root_log: Path, root_model: Path) -> str:
    """Return ``name``, or the next of ``name_2``, ``name_3``, ... that is free or this run's own.

    Args:
        name: What LDAM-DRW would call the folders.
        digest: Of the recipe; a folder with a run of that digest is this run's own.
        root_log: Folder of the logs.
        root_model: Folder of the checkpoints.
    """
    number = 1
    while True:
        chosen = name if number == 1 else f"{name}_{number}"
        recipe = root_log / chosen / OURS / "recipe.yaml"
        if recipe.is_file() and yamlfile.load(recipe).get("digest") == digest:
            return chosen
        if not _has_files(root_log / chosen) and not _has_files(root_model / chosen):
            return chosen
        number += 1


def _has_files(folder: Path) -> bool:
    return folder.is_file() or any(path.is_file() for path in folder.rglob("*"))


class LdamFiles:
    """Writes the files; a listener of a run, and its hook after each epoch.

    Args:
        log: The folder ``root_log/NAME``.
        model: The folder ``root_model/NAME``.
        flags: All flags by name, for ``args.txt``; every ``print_freq`` steps there is a line.
        settings: Those that make the experiment, for the checkpoint.
        say: Prints a line.

    Raises:
        RunError: If a folder has a link that leads out of it; when the run starts, if a folder
            cannot be made; later, if a file cannot be written.
    """

    def __init__(
        self,
        log: Path,
        model: Path,
        flags: Mapping[str, Any],
        settings: Mapping[str, Any],
        say: Callable[[str], None],
    ) -> None:
        refuse_links(log)
        refuse_links(model)
        self.log, self.flags, self.settings, self.say = log, flags, settings, say
        self.checkpoint = model / "ckpt.pth.tar"
        self.best = model / "ckpt.best.pth.tar"
        self._board: Any = None
        self._before: dict[str, float] = {}

    def __call__(self, name: str, event: dict[str, Any]) -> None:
        """Take an event of the run."""
        handler = getattr(self, f"_on_{name}", None)
        if handler is not None:
            handler(event)

    def close(self) -> None:
        """Close TensorBoard's file."""
        if self._board is not None:
            with writing(self.log):
                self._board.close()

    def _on_start(self, event: dict[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        for folder in (self.log, self.checkpoint.parent):  # not before the data were loaded
            with writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
        counts, where = event["counts"], event["environment"]
        self.say(f"=> model {self.settings['arch']!r} on {where['device']}, {where['threads']} "
                 f"thread{'s' * (where['threads'] > 1)}; {event['augment']}")  # fmt: skip
        self.say(f"cls num list:\n{counts}")
        self.say(f"subset sha256 {event['subset_sha256']}")
        for note in event["notes"]:
            self.say(f"note: {note}")
        epoch, step = event["resumed_at"]
        if (epoch, step) != (0, 0):
            self.say(f"=> goes on at epoch {epoch}, step {step}")
        flags = argparse.Namespace(**self.flags, cls_num_list=counts)
        write_whole(self.log / "args.txt", f"{flags}\n")
        _keep_lines(self.log / "log_train.csv", (epoch, step))
        with writing(self.log):
            self._board = SummaryWriter(str(self.log), purge_step=epoch)

    def _on_warning(self, event: dict[str, Any]) -> None:
        self.say(f"warning: {event['text']}")

    def _on_phase(self, event: dict[str, Any]) -> None:
        self.say(
            f"from epoch {event['epoch']} on (counted from 0): {event['sampler']} sampling, "
            f"class weights: {event['weights']}, noise: {event['noise']}"
        )

    def _on_step(self, event: dict[str, Any]) -> None:
        if event["step"] == 0:
            self._before = {}
        if event["step"] % self.flags["print_freq"]:
            return
        sums = event["meter"].sums()
        since = {key: value - self._before.get(key, 0.0) for key, value in sums.items()}
        now, means = _rates(since), _rates(sums)
        seconds = (since["seconds"] / max(1, event["step"] - self._before.get("step", -1)),
                   sums["seconds"] / (event["step"] + 1))  # fmt: skip
        line = (
            f"Epoch: [{event['epoch']}][{event['step']}/{event['steps']}], lr: {event['lr']:.5f}\t"
            f"Time {seconds[0]:.3f} ({seconds[1]:.3f})\tLoss {now[0]:.4f} ({means[0]:.4f})\t"
            f"Prec@1 {now[1]:.3f} ({means[1]:.3f})\tPrec@5 {now[2]:.3f} ({means[2]:.3f})"
        )
        self._before = {**sums, "step": float(event["step"])}
        self.say(line)
        path = self.log / "log_train.csv"
        with writing(path), path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def _on_epoch(self, record: dict[str, Any]) -> None:
        epoch, test = record["epoch"], record["test"]
        scalars = {
            "loss/train": record["loss"], "acc/train_top1": 100 * record["accuracy"],
            "acc/train_top5": 100 * record["top5"], "lr": record["lr"],
            "loss/test_val": test["nll"], "acc/test_val_top1": 100 * test["accuracy"],
            "acc/test_val_top5": 100 * test["top5"],
        }  # fmt: skip
        for c, accuracy in enumerate(test["per_class"]):
            scalars[f"acc/test_val_cls_acc/{c}"] = accuracy
        with writing(self.log):
            for tag, value in scalars.items():
                self._board.add_scalar(tag, value, epoch)

    def after_epoch(self, state: State, identity: Mapping[str, Any]) -> None:
        """Write checkpoint and test log of an epoch."""
        scores = [record["test"]["accuracy"] for record in state.history]
        entries = [test_lines(state.history[: n + 1]) for n in range(len(scores))]
        write_whole(self.log / "log_test.csv", "".join(entries))
        self.say(entries[-1].rstrip())
        with writing(self.log):
            self._board.add_scalar("acc/test_top1_best", 100 * max(scores), state.epoch - 1)
            self._board.flush()
        content = checkpoint_bytes(state, identity, self.settings)
        if scores.index(max(scores)) == len(scores) - 1:
            write_whole(self.best, content)
        write_whole(self.checkpoint, content)

    def write_confusion(self, summary: Mapping[str, Any]) -> None:
        """Write the confusion matrix of the last epoch as a picture and as numbers."""
        names = summary["class_names"]
        matrix = Confusion.read(summary["test"]["confusion"], len(names)).matrix().tolist()
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["true \\ predicted", *names])
        writer.writerows([name, *row] for name, row in zip(names, matrix, strict=True))
        write_whole(self.log / "confusion_matrix.csv", text.getvalue())
        write_whole(self.log / "confusion_matrix.png", _picture(matrix, names))


def test_lines(history: Sequence[Mapping[str, Any]]) -> str:
    """Return what ``log_test.csv`` says about the last epoch of a history."""
    test = history[-1]["test"]
    best = max(record["test"]["accuracy"] for record in history)
    classes = ",".join("nan" if a is None else f"{a:.3f}" for a in test["per_class"])
    return (
        f"val Results: Prec@1 {100 * test['accuracy']:.3f} Prec@5 {100 * test['top5']:.3f} "
        f"Loss {test['nll']:.5f}\nval Class Accuracy: [{classes}]\n"
        f"Best Prec@1: {100 * best:.3f} (optimistic: the best epoch on the test images)\n\n"
    )


def checkpoint_bytes(
    state: State, identity: Mapping[str, Any], settings: Mapping[str, Any]
) -> bytes:
    """Return LDAM-DRW's five entries and ours as a file holds them, all tensors on the CPU."""
    best = max(record["test"]["accuracy"] for record in state.history)
    ours = {"version": VERSION, "identity": dict(identity), "settings": dict(settings),
            "history": state.history}  # fmt: skip
    buffer = io.BytesIO()
    torch.save({
        "epoch": state.epoch, "arch": settings["arch"], "state_dict": _on_cpu(state.model),
        "best_acc1": 100 * best, "optimizer": _on_cpu(state.optimizer), OURS: ours,
    }, buffer)  # fmt: skip
    buffer.write(checksum_line(buffer.getbuffer()))
    return buffer.getvalue()


def read_checkpoint(path: Path, arch: str) -> dict[str, Any]:
    """Read a checkpoint; nothing in it is executed.

    Args:
        path: Of ``ckpt.pth.tar`` or ``ckpt.best.pth.tar``.
        arch: The network that it must be of.

    Raises:
        RunError: If it is missing, truncated, changed, holds more than tensors and plain values,
            is no checkpoint, or is of another network.
    """
    if not path.is_file():
        raise RunError(f"There is no checkpoint {path}.", "Give the path of a ckpt.pth.tar.")
    try:
        if not is_whole(path):
            raise ValueError("its checksum does not fit")
        content = load_plain(path)
    except Exception as error:  # strangers' bytes: torch raises a dozen types, none in common
        raise RunError(
            f"{path} is damaged, no checkpoint, or holds objects that would run code; nothing in "
            "it was executed.",
            "Take another copy, such as ckpt.best.pth.tar beside it, or train again.",
        ) from error
    entries = ("epoch", "arch", "state_dict", "optimizer", "best_acc1")
    if not isinstance(content, dict) or any(entry not in content for entry in entries):
        raise RunError(f"{path} is no checkpoint: it lacks {', '.join(entries)}.")
    if content["arch"] != arch:
        raise RunError(
            f"{path} is a checkpoint of {content['arch']!r}, and --arch is {arch!r}.",
            f"Add --arch {content['arch']}.",
        )
    return content


def resumable(
    content: Mapping[str, Any], path: Path, digest: str, settings: Mapping[str, Any]
) -> tuple[State, dict[str, Any]]:
    """Return the state and the identity in a checkpoint of the same settings.

    Raises:
        RunError: If it was written by another script or with other settings (named).
    """
    ours = content.get(OURS)
    form = {"version": int, "identity": dict, "settings": dict, "history": list}
    is_form = isinstance(ours, dict) and all(isinstance(ours.get(k), t) for k, t in form.items())
    if not isinstance(ours, dict) or not is_form or ours["version"] != VERSION:
        raise RunError(
            f"{path} was not written by this script, so a run cannot go on from it exactly.",
            "-e evaluates it, if the network is the same.",
        )
    if ours["identity"].get("recipe") != digest:
        was = ours["settings"]
        found = [f"{key} was {was.get(key)!r} and is {value!r}"
                 for key, value in settings.items() if was.get(key) != value]  # fmt: skip
        raise RunError(
            f"{path} was written with other settings: {'; '.join(found) or 'another version'}.",
            "Give the flags of that run, or leave --resume out to begin another.",
        )
    kept = {"epoch": content["epoch"], "step": 0, "model": content["state_dict"], "meters": {},
            "optimizer": content["optimizer"], "history": ours["history"],
            "identity": ours["identity"]}  # fmt: skip
    if fault := fault_of_state(kept):
        raise RunError(f"{path} is damaged: {fault}.", "Take another copy, or train again.")
    state = State(content["epoch"], 0, content["state_dict"], content["optimizer"], {},
                  list(ours["history"]))  # fmt: skip
    return state, dict(ours["identity"])


def _keep_lines(path: Path, until: tuple[int, int]) -> None:
    """Drop the lines of steps that will be taken (again)."""
    lines: list[str] = []
    if path.exists():
        with writing(path):
            lines = read_small(path, MOST_LOG).decode("utf-8", "replace").splitlines()
    found = ((_LINE.match(line), line) for line in lines)
    kept = [line for m, line in found if m and (int(m[1]), int(m[2])) < until]
    write_whole(path, "".join(f"{line}\n" for line in kept))


def _rates(sums: Mapping[str, float]) -> tuple[float, float, float]:
    """Mean loss over all rows, Prec@1 and Prec@5 in percent over natural rows."""
    natural = max(1.0, sums["natural"]) / 100
    return sums["loss"] / max(1.0, sums["rows"]), sums["correct"] / natural, sums["top5"] / natural


def _on_cpu(content: Any) -> Any:
    if isinstance(content, torch.Tensor):
        return content.detach().cpu()
    if isinstance(content, Mapping):
        return {key: _on_cpu(value) for key, value in content.items()}
    return [_on_cpu(item) for item in content] if isinstance(content, list) else content


def _picture(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> bytes:
    """Draw a confusion matrix; few classes are named, and their numbers written."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.subplots()
    figure.colorbar(axes.imshow(matrix, cmap="Blues"))
    axes.set(xlabel="predicted", ylabel="true", title="Confusion matrix, test images, last epoch")
    if len(names) <= _MOST_LABELLED:
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axes.set_yticks(range(len(names)), names)
        middle = max(map(max, matrix)) / 2
        for i, row in enumerate(matrix):
            for j, n in enumerate(row):
                color = "white" if n > middle else "black"
                axes.text(j, i, str(n), ha="center", va="center", color=color)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


__all__ = ["LdamFiles", "choose_name", "read_checkpoint", "resumable"]
