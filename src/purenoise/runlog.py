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
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from purenoise import yamlfile
from purenoise.checksums import event_line, sha256_fits, with_sha256
from purenoise.data.cacheroot import LOCK, locked
from purenoise.errors import RunError
from purenoise.eventlog import is_of_another, read_log
from purenoise.runlinks import refuse_links
from purenoise.smallfile import MIB, read_small
from purenoise.wholefile import make_folders, write_whole, writing

MEND = "Remove that file and run the same line again: the end of the run is repeated."
PROBE = 1 << 18  # bytes that must fit before a run begins
MOST_BYTES = 32 * MIB  # of a summary; one of 8,142 classes takes less than 1
ABOUT_LINE = ("event", "time", "shared")  # of an event, beside its content
COLUMNS = ("epoch", "phase", "lr", "loss", "accuracy", "noise_rows", "seconds",
           "val_accuracy", "val_balanced_accuracy", "test_accuracy", "test_balanced_accuracy",
           "test_many", "test_medium", "test_few")  # fmt: skip


@contextmanager
def holding(folder: Path, busy: RunError) -> Iterator[None]:
    """Make a folder and hold it against other processes; the system lets it go if this one dies.

    Args:
        folder: Need not exist.
        busy: What to raise if another process holds it.

    Raises:
        RunError: ``busy``, or that the folder cannot be written or a link leads out of it.
    """
    refuse_links(folder)
    with writing(folder):
        make_folders(folder)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder, wait=False))
        except BlockingIOError as error:
            raise busy from error
        except OSError as error:
            raise RunError(f"{folder} cannot be written: {error.strerror}.") from error
        try:
            yield
        finally:
            with suppress(OSError):
                (folder / LOCK).unlink()


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
        try:
            if not self.summary_file.exists():
                return None
            summary = dict(json.loads(read_small(self.summary_file, MOST_BYTES)))
            if not {"status", "test", "class_names"} <= summary.keys():
                raise ValueError("it is no summary of a run")
            if not sha256_fits(summary):
                raise ValueError("it was changed or damaged, its checksum does not fit")
            return summary
        except (OSError, ValueError, TypeError, RecursionError, MemoryError) as error:
            known = {RecursionError: "brackets within brackets", MemoryError: "too little memory"}
            reason = known.get(type(error)) or getattr(error, "strerror", None) or error
            raise RunError(
                f"{self.summary_file} cannot be read: {reason}.",
                MEND,
            ) from error

    def write_summary(self, summary: Mapping[str, Any]) -> str:
        """Write the summary of a finished run with its checksum; return what the file holds.

        Raises:
            RunError: If it cannot be written.
        """
        text = json.dumps(with_sha256(summary), indent=1) + "\n"
        write_whole(self.summary_file, text)
        return text

    def check_writable(self) -> None:
        """Refuse early, before data are loaded, a place where nothing can be written.

        Leaves no trace.

        Raises:
            RunError: If it cannot be written.
        """
        for folder in (self.state, self.path / "tb"):
            if os.path.lexists(folder) and not folder.is_dir():
                raise RunError(
                    f"{folder} is no folder, and this run needs one there.",
                    "Move it away, or choose another place with out=FOLDER.",
                )
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
        busy = RunError(
            f"{self.path} is being trained by another process.",
            "Wait for it, or choose another place with out=FOLDER.",
        )
        with holding(self.path, busy):
            yield

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
            short = found[:8] if isinstance(found, str) else "without a digest"  # or all aliases
            raise RunError(
                f"{self.path} holds a run of another recipe ({short}, not {digest[:8]}).",
                "Choose another place with out=FOLDER, or move that folder away.",
            )


class RunLog:
    """Writes events, metrics and TensorBoard; a listener of :class:`purenoise.training.Fit`.

    Args:
        folder: Where to write.
        next_epoch: Epoch at which the run goes on; lines of that epoch and later are dropped.
        history: Records of the epochs before, from the state: lines that are missing or damaged
            are written again from them.
        shared: Whether another run trained the epochs that have no line here; theirs say so.
    """

    def __init__(
        self,
        folder: RunFolder,
        next_epoch: int = 0,
        history: Sequence[Mapping[str, Any]] = (),
        *,
        shared: bool = False,
    ) -> None:
        self.folder = folder
        kept = [event for event in read_events(folder.events) if _stays(event, next_epoch)]
        kept, filled = _mended(kept, history[:next_epoch], shared=shared)
        self._history: list[Mapping[str, Any]] = [e for e in kept if e["event"] == "epoch"]
        self._history.sort(key=lambda e: e["epoch"])
        with writing(folder.path):
            write_whole(folder.events, "".join(map(event_line, kept)))
            self._file = folder.events.open("a", encoding="utf-8")
            self._board = _tensorboard(folder.tensorboard, next_epoch)
            try:
                for record in filled:
                    self._write_board(record)
                if self._history or folder.metrics.exists():
                    self._write_metrics()
            except BaseException:
                self.close()  # or TensorBoard's thread goes on writing
                raise

    def __call__(self, name: str, content: Mapping[str, Any]) -> None:
        """Write an event (steps are not kept)."""
        if name == "step":
            return
        event = {"event": name, "time": round(time.time(), 3), **content}
        with writing(self.folder.path):
            self._file.write(event_line(event))
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
        write_whole(self.folder.metrics, text.getvalue(), flush=False)  # the state has all of it

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
    """Return the events in a file; lines that are torn or damaged are left out."""
    return read_log(path).events


def put_aside(folder: RunFolder, digest: str) -> list[str]:
    """Rename the log of another run, which is not to be gone on with, and return what to say.

    Args:
        folder: Of the run.
        digest: Of its recipe.

    Raises:
        RunError: If the folder cannot be written.
    """
    if not is_of_another(read_events(folder.events), digest):
        return []
    place = folder.path / "events.other.jsonl"
    with writing(folder.path):
        folder.events.replace(place)
    return [f"{folder.events.name} was of another run; it is {place.name} now."]


def inherited(path: Path) -> list[str]:
    """Return a note if another run trained the first epochs, by the events in a file."""
    n = sum(bool(event.get("shared")) for event in read_events(path))
    first = "The first epoch was" if n == 1 else f"The first {n} epochs were"
    return [f"{first} trained by another run that begins alike."] * (n > 0)


def _stays(event: Mapping[str, Any], next_epoch: int) -> bool:
    """Whether an event is of what comes before an epoch; a stranger's may hold anything."""
    epoch = event.get("epoch", -1)
    least = 0 if event["event"] == "epoch" else -1
    is_number = isinstance(epoch, int) and not isinstance(epoch, bool)
    return is_number and least <= epoch < next_epoch and event["event"] != "end"


def _mended(
    events: list[dict[str, Any]], history: Sequence[Mapping[str, Any]], *, shared: bool
) -> tuple[list[dict[str, Any]], list[Mapping[str, Any]]]:
    """Return events of which every epoch says what the state says, and the records put in."""
    theirs = max((e.get("epoch", -1) for e in events if e.get("shared")), default=-1)
    logged = {e.get("epoch"): e for e in events if e["event"] == "epoch"}
    filled = []
    for record in history:
        event = logged.get(record["epoch"], {})
        said = {key: value for key, value in event.items() if key not in ABOUT_LINE}
        if json.dumps(said, sort_keys=True) != json.dumps(record, sort_keys=True):
            mark = {"shared": True} if shared or record["epoch"] <= theirs else {}
            logged[record["epoch"]] = {
                "event": "epoch", "time": round(time.time(), 3), **mark, **record,
            }  # fmt: skip
            filled.append(record)
    others = [e for e in events if e["event"] != "epoch" or logged.get(e.get("epoch")) is e]
    return others + [logged[record["epoch"]] for record in filled], filled


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
