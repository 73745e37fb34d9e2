"""A signal during an evaluation is heard between batches, and nothing is lost by it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import purenoise as pn
from purenoise import evaluate, probes
from purenoise.checkpoint import load_state
from purenoise.errors import RunError
from purenoise.evaluate import Interrupted, predict_logits, predict_together
from purenoise.models import build_model
from purenoise.predictions import read_predictions
from purenoise.runlog import RunFolder, read_events
from purenoise.team import Team

WORDS: dict[str, Any] = {"method": "open", "model": "small_cnn", "epochs": 3, "threads": 1,
                         "batch_size": 256, "val_fraction": 0.1, "defer": 0.5}  # fmt: skip
TIMES = ("seconds", "train_seconds", "time", "sha256", "commit")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that nobody disturbed."""
    return pn.train("digits", **WORDS, out=str(tmp_path_factory.mktemp("whole"))).folder


def signalled(monkeypatch: pytest.MonkeyPatch, module: Any, at: int, number: int) -> list[int]:
    """Let a signal come while the images of some batch of evaluation are normalised."""
    seen: list[int] = []
    real: Callable[..., Any] = module.normalize

    def normalize(*args: Any) -> Any:
        seen.append(len(args[0]))
        if len(seen) == at:
            os.kill(os.getpid(), number)
        return real(*args)

    monkeypatch.setattr(module, "normalize", normalize)
    return seen


@pytest.mark.parametrize(
    ("module", "at", "number", "kept"),
    [
        (evaluate, 1, signal.SIGTERM, "mid-epoch"),  # validation after the last epoch but two
        (evaluate, 8, signal.SIGINT, "mid-epoch"),  # test images
        (evaluate, 38, signal.SIGTERM, "end"),  # the end of the run
        (probes, 2, signal.SIGINT, "end"),
    ],
)
def test_a_signal_in_an_evaluation_is_heard_at_once(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    whole: Path,
    module: Any,
    at: int,
    number: int,
    kept: str,
):
    """The evaluation is left after its batch, the state is kept, and the end is equal."""
    monkeypatch.setattr(evaluate, "MOST", 50)
    words = {**WORDS, "eval.every": 1, "out": str(tmp_path)}
    with monkeypatch.context() as patch:
        seen = signalled(patch, module, at, number)
        with pytest.raises(RunError, match="Stopped; the state is in") as stopped:
            pn.train("digits", **words)
    assert len(seen) == at
    assert stopped.value.hint.startswith("To go on: purenoise train digits ")
    (folder,) = (path.parent for path in tmp_path.rglob("recipe.yaml"))
    found = load_state(folder / "state")
    assert found is not None
    state = found[0]
    assert (state.step > 0, state.epoch == 3) == (kept == "mid-epoch", kept == "end")
    assert not (folder / "summary.json").exists()
    again = pn.train("digits", **words).folder
    assert again == folder
    reference = pn.train("digits", **{**words, "out": str(tmp_path / "reference")}).folder
    assert differences(folder, reference) == []


def differences(folder: Path, whole: Path) -> list[str]:
    """Return what differs between two finished runs, apart from times."""
    found = []
    names = ("weights.safetensors",)
    found += [n for n in names if (folder / n).read_bytes() != (whole / n).read_bytes()]
    ours, theirs = (read_predictions(f / "predictions.npz") for f in (folder, whole))
    if not all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True)):
        found.append("predictions")
    for key in ("test", "val", "probes", "optimistic_best_on_test"):
        one, other = ((RunFolder(f).summary() or {})[key] for f in (folder, whole))
        if one != other:
            found.append(key)
    logs = [[_timeless(e) for e in read_events(f / "events.jsonl") if e["event"] == "epoch"]
            for f in (folder, whole)]  # fmt: skip
    return found + ["events"] * (logs[0] != logs[1])


def _timeless(event: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key not in TIMES}


def test_asking_changes_nothing(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Smaller batches of evaluation, and the questions between them, leave the result as it is."""
    monkeypatch.setattr(evaluate, "MOST", 50)
    other = pn.train("digits", **WORDS, out=str(tmp_path)).folder
    assert (other / "weights.safetensors").read_bytes() == (
        whole / "weights.safetensors"
    ).read_bytes()


class Two(Team):
    """A process of two, of which the other one says what it is given."""

    def __init__(self, other: bool) -> None:
        super().__init__(0, 2)
        self.other, self.asked = other, 0

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Answer for both."""
        self.asked += 1
        return tuple(flag or self.other for flag in flags)

    def joined_rows(self, own: Any, n: int) -> Any:
        """Give zeros for the other's rows."""
        return np.concatenate([own, np.zeros((n - len(own), own.shape[1]), np.float32)])


@pytest.mark.parametrize(("own", "other"), [(True, False), (False, True), (False, False)])
def test_all_processes_stop_or_none(own: bool, other: bool):
    """If one process of two was told to stop, both leave the evaluation, and they ask once."""
    from purenoise.prepare import prepare
    from purenoise.recipe import load_recipe

    data = prepare(load_recipe("digits", []).data)
    model = build_model("small_cnn", 10, in_channels=1, generator_seed=0)
    team, split = Two(other), data.dataset.test
    if own or other:
        with pytest.raises(Interrupted):
            predict_together(model, split, data, team, lambda: own)
    else:
        logits = predict_together(model, split, data, team, lambda: own)
        n = len(split) // 2
        alone = predict_logits(model, split.images, data.mean, data.std)
        np.testing.assert_allclose(logits[:n], alone[:n], rtol=1e-4, atol=1e-5)
    assert team.asked == 1
    assert model.training
