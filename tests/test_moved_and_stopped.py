"""Runs that are stopped, moved, finished by another process, or go on from an odd place."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from purenoise import experiment
from purenoise.checkpoint import load_state, save_state
from purenoise.errors import RunError, TrainingError
from purenoise.evaluate import predict_logits
from purenoise.models import build_model
from purenoise.outofmemory import is_out_of_memory, memory_told
from purenoise.recipe import load_recipe, plain_recipe
from purenoise.runlog import RunFolder
from purenoise.runtime import stop_on_signal

RECIPE = load_recipe("digits", ["method=erm", "epochs=2", "threads=1", "save_seconds=0"])


def train(folder: Path, command: str = "", stop_at: int | None = None) -> experiment.Run:
    """Train in a folder; stopped by a signal at some step."""

    def listener(name: str, event: dict[str, Any]) -> None:
        if name == "step" and stop_at == event["step"]:
            signal.raise_signal(signal.SIGTERM)

    return experiment.run_recipe(RECIPE, plain_recipe("digits", []), folder=folder,
                                 listeners=[listener], command=command)  # fmt: skip


def test_a_run_that_was_moved_goes_on_by_the_line_of_now(tmp_path: Path) -> None:
    """The line to go on is the one that was just typed; the result names the one that began it."""
    begun, now = ("purenoise train digits out=a", "purenoise train digits out=b")
    with pytest.raises(RunError) as stopped:
        train(tmp_path / "a", begun, stop_at=2)
    assert stopped.value.hint == f"To go on: {begun}"
    shutil.move(tmp_path / "a", tmp_path / "b")
    with pytest.raises(RunError) as stopped:
        train(tmp_path / "b", now, stop_at=4)
    assert stopped.value.hint == f"To go on: {now}"
    assert train(tmp_path / "b", now).summary["command"] == begun


def test_the_log_of_another_run_does_not_name_the_line(tmp_path: Path) -> None:
    """A line of a run by another recipe is not that of this one."""
    own = "purenoise train digits out=a"
    with pytest.raises(RunError):
        train(tmp_path / "a", own, stop_at=2)
    events = tmp_path / "a" / "events.jsonl"
    events.write_text(events.read_text().replace(RECIPE.digest(), "0" * 64))
    assert train(tmp_path / "a", "purenoise train x").summary["command"] == "purenoise train x"


def test_a_run_that_another_process_finished_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that got ready meanwhile reads the result and writes nothing."""
    train(tmp_path / "a")
    before = {p: p.read_bytes() for p in (tmp_path / "a").rglob("*") if p.is_file()}
    plain, calls = experiment._finished, [0]

    def late(*given: Any) -> Any:
        calls[0] += 1
        return None if calls[0] == 1 else plain(*given)

    monkeypatch.setattr(experiment, "_finished", late)
    found = train(tmp_path / "a")
    assert (found.trained, calls) == (False, [2])
    assert {p: p.read_bytes() for p in (tmp_path / "a").rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"epoch": 2, "step": 2**39}, "none of 2 x"),
        ({"epoch": 3}, "none of 2 x"),
        ({"step": 10**6}, "none of 2 x"),
        ({"step": 3, "meters": {}}, "counts no images"),
    ],
)
def test_a_state_at_a_place_that_is_not_there_is_refused(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    """Epochs and steps that the run does not have are no place to go on from."""
    with pytest.raises(RunError):
        train(tmp_path / "a", stop_at=2)
    files = RunFolder(tmp_path / "a")
    found = load_state(files.state)
    assert found is not None
    state, identity, _ = found
    record = {"phase": 0, "lr": 0.1, "loss": 1.0, "accuracy": 0.5, "seconds": 1.0}
    history = [{"epoch": e, **record} for e in range(change.get("epoch", 0))]
    save_state(files.state, replace(state, **change, history=history), identity)
    with pytest.raises(RunError, match=said):
        train(tmp_path / "a")
    assert not files.summary_file.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_nobody_asked_about_is_sent_again(number: signal.Signals) -> None:
    """What came after the last question is not lost, and what was answered comes once."""
    heard: list[int] = []
    before = signal.signal(number, lambda n, _: heard.append(n))
    try:
        with stop_on_signal():
            signal.raise_signal(number)
            assert heard == []
        assert heard == [number]
        with stop_on_signal() as asked:
            signal.raise_signal(number)
            assert asked()
        assert heard == [number]
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_is_ignored_stays_ignored(number: signal.Signals) -> None:
    """As in a script's background job, whose Ctrl-C is meant for another."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with stop_on_signal() as asked:
            signal.raise_signal(number)
            assert not asked()
    finally:
        signal.signal(number, before)


def test_a_signal_while_the_end_is_written_ends_the_program_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result is whole, and a loop over runs does not go on."""
    plain = RunFolder.write_summary

    def struck(self: RunFolder, summary: Any) -> str:
        os.kill(os.getpid(), signal.SIGINT)
        return plain(self, summary)

    monkeypatch.setattr(RunFolder, "write_summary", struck)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "a")
    monkeypatch.undo()
    assert train(tmp_path / "a").trained is False


WORDS = "[enforce fail] DefaultCPUAllocator: can't allocate memory"


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError(WORDS), RuntimeError("could not create a primitive"),
     ImportError("lib.so: failed to map segment from shared object"),
     OSError(12, "Cannot allocate memory")],
)  # fmt: skip
def test_too_little_memory_is_a_sentence(error: Exception) -> None:
    """Whatever a library says of it; other errors stay what they are."""
    with pytest.raises(RunError, match="too little memory") as caught, memory_told():
        raise error
    assert caught.value.__cause__ is error
    with pytest.raises(ZeroDivisionError), memory_told():
        raise ZeroDivisionError
    assert not is_out_of_memory(ValueError(WORDS))


def test_too_little_memory_at_the_end_of_a_run_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state is kept, and the run goes on from it."""

    def full(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("purenoise.finishing.write_predictions", full)
    with pytest.raises(RunError, match="too little memory"):
        train(tmp_path / "a")
    monkeypatch.undo()
    assert train(tmp_path / "a").trained


def test_too_little_memory_for_images_means_smaller_batches() -> None:
    """An evaluation halves what it loads at a time, and says so where one image is too much."""
    most = [0]

    class Large:
        shape = (1, 8, 8)

        def __init__(self, room: int) -> None:
            self.room = room

        def __len__(self) -> int:
            return 40

        def load(self, rows: Any) -> Any:
            if len(rows) > self.room:
                raise MemoryError
            most[0] = max(most[0], len(rows))
            return np.zeros((len(rows), 1, 8, 8), np.uint8)

    model = build_model("small_cnn", 3, in_channels=1)
    ask: Callable[..., Any] = predict_logits
    assert ask(model, Large(5), [0.0], [1.0], 32).shape == (40, 3)
    assert most == [4]
    with pytest.raises(TrainingError, match="a single image"):
        ask(model, Large(0), [0.0], [1.0], 32)


def test_handlers_of_a_program_around_python_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python says None for a handler that is not its own, and takes none back."""
    real = signal.getsignal
    monkeypatch.setattr(signal, "getsignal", lambda n: None if n == signal.SIGTERM else real(n))
    before = real(signal.SIGTERM)
    with stop_on_signal() as should_stop:
        assert real(signal.SIGTERM) == before
        assert real(signal.SIGINT) != before
        assert not should_stop()
    assert real(signal.SIGTERM) == before
