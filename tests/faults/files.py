"""Damage each kind of file that we write: it is recognised, or harmless and the result equal.

A run in progress is damaged and goes on; the files of a finished run are damaged and read by what
reads them. Damage: empty, cut, a flipped bit, a tail of zeros (a block that never reached the
disk), zeros throughout, a block of noise, the whole file of another run.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from purenoise.checkpoint import load_plain, save_state
from purenoise.errors import RunError
from purenoise.lab.sharing import PhaseStore
from purenoise.ldamfiles import checkpoint_bytes, read_checkpoint
from purenoise.models.weightsfile import read_weights
from purenoise.network import load_run
from purenoise.predictions import are_of, read_predictions
from purenoise.runlog import RunFolder, read_events
from purenoise.summaryform import read_summary
from purenoise.training import State

from .kills import Reference
from .sabotage import Sabotage
from .tally import Row, Tally
from .warm import differences, do, train

BLOCK = 512
GOES_ON = ("state/state.pt", "state/previous.pt", "events.jsonl", "metrics.csv", "recipe.yaml")
IDENTICAL, RECOGNISED = "harmless, equal", "recognised"
BEFORE = "recognised, the state before used, equal"


def empty(content: bytes, dice: random.Random) -> bytes:
    """Nothing is left."""
    return b""


def cut(content: bytes, dice: random.Random) -> bytes:
    """The end is missing."""
    return content[: dice.randrange(len(content))]


def flipped(content: bytes, dice: random.Random) -> bytes:
    """One bit is another."""
    at = dice.randrange(len(content))
    return content[:at] + bytes([content[at] ^ (1 << dice.randrange(8))]) + content[at + 1 :]


def zero_tail(content: bytes, dice: random.Random) -> bytes:
    """The length is right, and the end never reached the disk."""
    at = dice.randrange(len(content))
    return content[:at] + bytes(len(content) - at)


def zeros(content: bytes, dice: random.Random) -> bytes:
    """Only the length is right."""
    return bytes(len(content))


def block(content: bytes, dice: random.Random) -> bytes:
    """A block holds something else."""
    at = dice.randrange(len(content))
    noise = dice.randbytes(min(BLOCK, len(content) - at))
    return content[:at] + noise + content[at + len(noise) :]


DAMAGES = (empty, cut, flipped, flipped, zero_tail, zeros, block)
ANOTHER = "another run's"


class Runs:
    """A finished run, one in the middle, a shared phase, and what they hold."""

    def __init__(self, root: Path) -> None:
        whole = Reference(root)
        self.root, self.said, self.whole, self.half = (
            root,
            root / "said",
            whole.folder,
            root / "half",
        )
        at = max(i for i, call in enumerate(whole.calls) if call == "replace state.pt") - 6

        def killed() -> None:
            Sabotage(at).install()
            train(self.half)

        do(killed, self.said)
        assert (self.half / "state" / "previous.pt").exists()
        content = load_plain(self.whole / "state" / "state.pt")
        about = content.pop("version"), content.pop("identity")
        self.state, self.identity = State(**content), about[1]
        self.other = root / "other"
        do(lambda: train(self.other, "erm"), self.said)
        self.store = root / "phases"
        save_state(self.store / "k", self.state, {**self.identity, "phase": "k"})
        self.script = root / "script"  # what cifar_train.py leaves
        self.script.mkdir()
        written = checkpoint_bytes(self.state, self.identity, {"arch": "digits"})
        (self.script / "ckpt.pth.tar").write_bytes(written)


def run(root: Path, n: int, seed: int, told: Tally) -> None:
    """Damage ``n`` files, the kinds in turn."""
    runs = Runs(root)
    dice = random.Random(seed)
    kinds: list[tuple[str, Callable[[Runs, Path], str], str]] = [
        *((name, goes_on, f"of a run in progress, {name}") for name in GOES_ON),
        *((name, check, f"of a finished run, {name}{how}") for name, check, how in READERS),
    ]
    for i in range(n):
        if told.is_over:
            break
        name, check, kind = kinds[i % len(kinds)]
        damage = dice.choice(DAMAGES)
        folder = root / "copy"
        shutil.copytree(runs.half if check is goes_on else _source(runs, name), folder)
        path, swaps = folder / name, check in SWAPPED and dice.random() < 1 / len(DAMAGES)
        if swaps:
            shutil.copy(runs.other / name, path)
        else:
            path.write_bytes(damage(path.read_bytes(), dice))
        outcome = check(runs, folder)
        known = outcome in (IDENTICAL, RECOGNISED, BEFORE)
        done = ANOTHER if swaps else damage.__name__.replace("_", " ")
        told.add(Row("files", f"{done} {kind}", outcome if known else "LOST"))
        if not known:
            told.fault(f"files seed {seed} trial {i} ({done} {kind}): {outcome}")
        shutil.rmtree(folder)


def _source(runs: Runs, name: str) -> Path:
    if name.startswith("k/"):
        return runs.store
    return runs.script if name == "ckpt.pth.tar" else runs.whole


def goes_on(runs: Runs, folder: Path) -> str:
    """Go on with a damaged run: the result is equal, or it is refused and left as it is."""
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    ended = do(lambda: train(folder), runs.said)
    if ended.code == 2 and ended.is_clean:
        after = {p: p.read_bytes() for p in before if p.exists()}
        kept = {p: c for p, c in before.items() if p.suffix != ".part" and p.name != "lock"}
        return RECOGNISED if kept.items() <= after.items() else "refused, and files changed"
    if ended.code != 0:
        return f"code {ended.code}: {ended.said[-400:]}"
    found = differences(folder, runs.whole)
    if found:
        return f"differs in {', '.join(found)}"
    events = read_events(folder / "events.jsonl")
    told = any("is damaged" in e.get("text", "") for e in events if e["event"] == "warning")
    return BEFORE if told else IDENTICAL


def _reads(runs: Runs, work: Callable[[], bool]) -> str:
    """Read in a child: an error of ours is recognised; what is read must be what was written."""

    def checked() -> None:
        if not work():
            raise AssertionError("what was read is not what was written")

    ended = do(checked, runs.said)
    if ended.code == 2 and ended.is_clean:
        return RECOGNISED
    return IDENTICAL if ended.code == 0 else f"code {ended.code}: {ended.said[-400:]}"


def summary(runs: Runs, folder: Path) -> str:
    """Ask for the result of the run, as `purenoise train` does."""
    right = json.loads((runs.whole / "summary.json").read_text())
    return _reads(runs, lambda: _same(read_summary(RunFolder(folder), right["digest"]), right))


def _same(found: Any, right: dict[str, Any]) -> bool:
    """A flipped bit in the checksum's own name leaves a key more and all values as they were."""
    return all(found.get(key) == value for key, value in right.items() if key != "sha256")


def weights(runs: Runs, folder: Path) -> str:
    """Load the run, as `purenoise evaluate` does."""
    tensors = {k: v.clone() for k, v in runs.state.model.items()}
    return _reads(runs, lambda: _equal(load_run(folder)[2].state_dict(), tensors))


def weights_as_beginning(runs: Runs, folder: Path) -> str:
    """Begin another run with its weights."""
    tensors = dict(runs.state.model)
    return _reads(runs, lambda: _equal(read_weights(folder / "weights.safetensors"), tensors))


def _equal(found: Any, right: Any) -> bool:
    return found.keys() == right.keys() and all(torch.equal(found[k], v) for k, v in right.items())


def recipe(runs: Runs, folder: Path) -> str:
    """Load the run by its recipe: what changes the result is recognised."""
    right = load_run(runs.whole)[0].digest()
    return _reads(runs, lambda: load_run(folder)[0].digest() == right)


def predictions(runs: Runs, folder: Path) -> str:
    """Read what the run said of its test images, as `purenoise adjust` does."""
    right = read_predictions(runs.whole / "predictions.npz")
    about = json.loads((runs.whole / "summary.json").read_text())

    def equal() -> bool:
        found = read_predictions(folder / "predictions.npz")
        if not are_of(about["test"], *found, about["counts"]):
            raise RunError("They are another run's.")
        return all(map(np.array_equal, found, right))

    return _reads(runs, equal)


def events(runs: Runs, folder: Path) -> str:
    """Read the events: each is one that was written; lines that are not are left out."""
    right = read_events(runs.whole / "events.jsonl")
    found: list[Any] = []

    def whole() -> bool:
        found.extend(read_events(folder / "events.jsonl"))
        return all(_known(event, right) for event in found)

    outcome = _reads(runs, whole)
    n = len(read_events(folder / "events.jsonl"))
    return RECOGNISED if outcome == IDENTICAL and n < len(right) else outcome


def _known(event: dict[str, Any], right: list[dict[str, Any]]) -> bool:
    """Whether an event was written; its checksum's name may be another by one bit."""
    return any(all(event.get(k) == v for k, v in one.items()) for one in right)


def phase(runs: Runs, folder: Path) -> str:
    """Load a phase that runs share: a damaged one is not used, and trained again."""
    (found,) = [PhaseStore(folder).load("k")]
    if found is None:
        return RECOGNISED
    return IDENTICAL if _equal(found.model, runs.state.model) else "another state was loaded"


def checkpoint(runs: Runs, folder: Path) -> str:
    """Read the checkpoint of cifar_train.py, as ``--resume`` does."""

    def equal() -> bool:
        found = read_checkpoint(folder / "ckpt.pth.tar", "digits")
        return _equal(found["state_dict"], runs.state.model) and (
            found["purenoise"]["history"] == runs.state.history
        )

    return _reads(runs, equal)


READERS: tuple[tuple[str, Callable[[Runs, Path], str], str], ...] = (
    ("summary.json", summary, ""),
    ("weights.safetensors", weights, ""),
    ("weights.safetensors", weights_as_beginning, ", as a beginning"),
    ("recipe.yaml", recipe, ""),
    ("predictions.npz", predictions, ""),
    ("events.jsonl", events, ""),
    ("k/state.pt", phase, " of a shared phase"),
    ("ckpt.pth.tar", checkpoint, " of cifar_train.py"),
)
# What notices the whole file of another run, or is not harmed by it.
SWAPPED = (goes_on, summary, weights, recipe, predictions)
