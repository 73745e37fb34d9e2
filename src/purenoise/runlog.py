"""A run's folder: what is in it, and who writes it.

    recipe.yaml   the whole recipe        events.jsonl  everything that happened, a line each
    metrics.csv   one line per epoch      summary.json  the result; there when the run is finished
    weights.safetensors                   predictions.npz  logits and labels of the test images
    state/        to continue from        tb/           TensorBoard
    report.html   its page                adjusted/     what `purenoise adjust` made of it
    lock          there while a process trains the run

Imports no torch until TensorBoard is written.
"""

from __future__ import annotations

import csv
import io
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from purenoise import yamlfile
from purenoise.data.cacheroot import LOCK, locked
from purenoise.errors import RunError

PROBE = 1 << 18  # bytes that must fit before a run begins
COLUMNS = ("epoch", "phase", "lr", "loss", "accuracy", "noise_rows", "seconds",
           "val_accuracy", "val_balanced_accuracy", "test_accuracy", "test_balanced_accuracy",
           "test_many", "test_medium", "test_few")  # fmt: skip


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in one sentence that a path cannot be written, such as on a full disk.

    Raises:
        RunError: In place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{path} cannot be written: {error.strerror or error}.",
            "Free some space or choose another place with out=FOLDER, and run the same line again.",
        ) from error


class RunFolder:
    """Paths of a run, and its summary.

    Args:
        path: The folder; need not exist.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.recipe = self.path / "recipe.yaml"
        self.events = self.path / "events.jsonl"
        self.metrics = self.path / "metrics.csv"
        self.summary_file = self.path / "summary.json"
        self.weights = self.path / "weights.safetensors"
        self.predictions = self.path / "predictions.npz"
        self.state = self.path / "state"
        self.tensorboard = self.path / "tb"

    @classmethod
    def existing(cls, path: str | Path) -> RunFolder:
        """Return the folder of a run that was begun.

        Raises:
            RunError: If there is none.
        """
        folder = cls(path)
        if not folder.recipe.is_file():
            raise RunError(
                f"{path} is not the folder of a run (it has no recipe.yaml).",
                "Give the folder that `purenoise train` named, such as runs/digits/open/seed-0.",
            )
        return folder

    def summary(self) -> dict[str, Any] | None:
        """Return the summary of a finished run, or None.

        Raises:
            RunError: If the file cannot be read.
        """
        if not self.summary_file.exists():
            return None
        try:
            summary = dict(json.loads(self.summary_file.read_text(encoding="utf-8")))
            if not {"status", "test", "class_names"} <= summary.keys():
                raise ValueError("it is no summary of a run")
            return summary
        except (OSError, ValueError, TypeError) as error:
            raise RunError(
                f"{self.summary_file} cannot be read: {error}.",
                "Remove that file and run the same line again: the end of the run is repeated.",
            ) from error

    def check_writable(self) -> None:
        """Refuse early, before data are loaded, a place where nothing can be written.

        Leaves no trace.

        Raises:
            RunError: If it cannot be written.
        """
        there = next(p for p in (self.path, *self.path.absolute().parents) if p.exists())
        try:
            with tempfile.TemporaryFile(dir=there) as probe:
                probe.write(bytes(PROBE))
        except OSError as error:
            raise RunError(
                f"{there} cannot be written: {error.strerror}.",
                "Choose another place with out=FOLDER.",
            ) from error

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder, so that no other process trains the same run; the system lets it go.

        Raises:
            RunError: If another process holds it.
        """
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self.path, wait=False))
            except BlockingIOError as error:
                raise RunError(
                    f"{self.path} is being trained by another process.",
                    "Wait for it, or choose another place with out=FOLDER.",
                ) from error
            except OSError as error:
                raise RunError(f"{self.path} cannot be written: {error.strerror}.") from error
            try:
                yield
            finally:
                with suppress(OSError):
                    (self.path / LOCK).unlink()

    def check_recipe(self, digest: str) -> None:
        """Refuse a folder that belongs to another recipe.

        Raises:
            RunError: If its recipe is not the one with this digest.
        """
        if not self.recipe.exists():
            left = [p for p in self.path.glob("*")
                    if p.name != LOCK and not p.name.endswith(".part")]  # fmt: skip
            if left or self.path.is_file():
                raise RunError(
                    f"{self.path} exists, is not empty and is not a run.",
                    "Choose another place with out=FOLDER.",
                )
            return
        found = yamlfile.load(self.recipe).get("digest")
        if found != digest:
            raise RunError(
                f"{self.path} holds a run of another recipe ({str(found)[:8]}, not {digest[:8]}).",
                "Choose another place with out=FOLDER, or move that folder away.",
            )


class RunLog:
    """Writes events, metrics and TensorBoard; a listener of :class:`purenoise.training.Fit`.

    Args:
        folder: Where to write.
        next_epoch: Epoch at which the run goes on; lines of that epoch and later are dropped.
        history: Records of the epochs before. Those that have no line here, because another run
            trained them, get one that says so.
    """

    def __init__(
        self, folder: RunFolder, next_epoch: int = 0, history: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        self.folder = folder
        kept = [
            event
            for event in read_events(folder.events)
            if event.get("epoch", -1) < next_epoch and event["event"] != "end"
        ]
        logged = {e["epoch"] for e in kept if e["event"] == "epoch"}
        filled = [
            {"event": "epoch", "time": round(time.time(), 3), "shared": True, **record}
            for record in history[:next_epoch]
            if record["epoch"] not in logged
        ]
        kept += filled
        self._history: list[Mapping[str, Any]] = [e for e in kept if e["event"] == "epoch"]
        self._history.sort(key=lambda e: e["epoch"])
        with writing(folder.path):
            folder.path.mkdir(parents=True, exist_ok=True)
            text = "".join(json.dumps(event) + "\n" for event in kept)
            beside = folder.events.with_name(".events.jsonl.part")
            beside.write_text(text, encoding="utf-8")
            beside.replace(folder.events)
            self._file = folder.events.open("a", encoding="utf-8")
            self._board = _tensorboard(folder.tensorboard, next_epoch)
            for record in filled:
                self._write_board(record)
            if filled:  # perhaps all there are
                self._write_metrics()

    def __call__(self, name: str, content: Mapping[str, Any]) -> None:
        """Write an event (steps are not kept)."""
        if name == "step":
            return
        event = {"event": name, "time": round(time.time(), 3), **content}
        with writing(self.folder.path):
            self._file.write(json.dumps(event) + "\n")
            self._file.flush()
            if name == "epoch":
                self._history.append(event)
                self._write_metrics()
                self._write_board(content)

    def close(self) -> None:
        """Close the files."""
        with writing(self.folder.path):
            try:
                self._file.close()
            finally:
                self._board.close()

    def _write_metrics(self) -> None:
        text = io.StringIO()
        table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(_row(event) for event in self._history)
        beside = self.folder.metrics.with_name(".metrics.csv.part")
        beside.write_text(text.getvalue(), encoding="utf-8")
        beside.replace(self.folder.metrics)

    def _write_board(self, record: Mapping[str, Any]) -> None:
        epoch = record["epoch"]
        for key in ("loss", "accuracy", "lr"):
            self._board.add_scalar(f"train/{key}", record[key], epoch)
        for split in ("val", "test"):
            for key in ("accuracy", "balanced_accuracy", "nll", "ece"):
                if split in record:
                    self._board.add_scalar(f"{split}/{key}", record[split][key], epoch)
        self._board.flush()


def read_events(path: Path) -> list[dict[str, Any]]:
    """Return the events in a file; a torn last line is left out."""
    if not path.exists():
        return []
    events = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "event" in event:
            events.append(event)
    return events


def _row(record: Mapping[str, Any]) -> dict[str, Any]:
    row = {key: record[key] for key in COLUMNS if key in record}
    for split in ("val", "test"):
        if split in record:
            row[f"{split}_accuracy"] = record[split]["accuracy"]
            row[f"{split}_balanced_accuracy"] = record[split]["balanced_accuracy"]
    if "test" in record:
        groups = record["test"]["groups"]
        row |= {f"test_{name}": groups[name] for name in ("many", "medium", "few")}
    return row


def _tensorboard(folder: Path, next_epoch: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=next_epoch)
