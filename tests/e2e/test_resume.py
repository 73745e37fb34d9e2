"""Runs that are killed, stopped or damaged: nothing is lost, and the end is the same."""

from __future__ import annotations

import csv
import pickle
import random
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import purenoise as pn
from purenoise.recipe import load_recipe
from purenoise.runlog import read_events

from .support import Command, equal_weights, only_run, program, snapshot

WORDS = ("train", "digits", "epochs=12", "batch_size=64", "threads=1", "eval.every=4",
         "save_seconds=0")  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an uninterrupted run."""
    out = tmp_path_factory.mktemp("whole")
    options = dict(word.split("=") for word in WORDS[2:])
    return pn.train("digits", out=str(out), **options).folder


def newest(out: Path) -> int:
    """Return when the newest state below a folder was written; 0 if there is none right now."""
    try:
        return max((p.stat().st_mtime_ns for p in out.rglob("state.pt")), default=0)
    except FileNotFoundError:  # between two renames
        return 0


def begin(out: Path) -> subprocess.Popen[str]:
    """Start the run in a process of its own and wait until it has kept another state."""
    before = newest(out)
    process = subprocess.Popen(
        [*program(), *WORDS, f"out={out}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline and newest(out) <= before:
        time.sleep(0.001)
    return process


def kill_and_finish(out: Path, kills: int, seed: int) -> tuple[Path, int]:
    """Kill the run at random moments, then let it end; return its folder and the true kills."""
    moments, killed = random.Random(seed), 0
    for _ in range(kills):
        process = begin(out)
        time.sleep(moments.uniform(0, 1.5 / kills))
        process.kill()
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
    options = dict(word.split("=") for word in WORDS[2:])
    return pn.train("digits", out=str(out), **options).folder, killed


def without_times(folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Return events and metrics of a run, without times and without its starts."""
    events = [
        {k: v for k, v in event.items() if k not in ("time", "seconds")}
        for event in read_events(folder / "events.jsonl")
        if event["event"] != "start"
    ]
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        rows = [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
    return events, rows


def check_killed(whole: Path, out: Path, kills: int, seed: int) -> int:
    """Kill a run, finish it and compare; return how often it was killed before its end."""
    folder, killed = kill_and_finish(out, kills, seed)
    assert equal_weights(folder, whole)
    assert without_times(folder) == without_times(whole)
    starts = [e for e in read_events(folder / "events.jsonl") if e["event"] == "start"]
    assert len({tuple(e["resumed_at"]) for e in starts}) >= min(killed, 2)
    assert not [*folder.rglob("*.part")]
    return killed


def test_killed_three_times_ends_with_the_same_weights(whole: Path, tmp_path: Path):
    """A run killed at three random moments ends as the uninterrupted one, bit for bit."""
    assert check_killed(whole, tmp_path, 3, seed=1) >= 2


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_killed_ten_times_ends_with_the_same_weights(whole: Path, tmp_path: Path, seed: int):
    """A run killed at ten random moments ends as the uninterrupted one, bit for bit."""
    killed = check_killed(whole, tmp_path, 10, seed=seed)
    print(f"seed {seed}: killed {killed} times before its end")
    assert killed >= 8


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_run_says_how_to_go_on(
    whole: Path, tmp_path: Path, command: Command, number: signal.Signals
):
    """SIGTERM and SIGINT save the state, exit with 130 and print a command that works."""
    process = begin(tmp_path)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Stopped; the state is in" in err
    assert "Traceback" not in err
    words = shlex.split(err.partition("To go on: ")[2].strip())
    assert words[:2] == ["purenoise", "train"]
    assert command(*words[1:]).code == 0
    assert equal_weights(only_run(tmp_path), whole)


@pytest.fixture
def half(whole: Path, tmp_path: Path) -> Path:
    """Return a copy of the run as if it had been killed after its last state."""
    folder = tmp_path / "half"
    shutil.copytree(whole, folder)
    for name in ("summary.json", "weights.safetensors", "predictions.npz"):
        (folder / name).unlink()
    return folder


def test_a_run_goes_on_by_its_folder(whole: Path, half: Path, command: Command):
    """`purenoise train RUN` goes on with a run that was not finished."""
    result = command("train", half)
    assert result.code == 0
    assert "all epochs are trained; the end is done again" in result.out
    assert equal_weights(half, whole)
    assert without_times(half) == without_times(whole)


def test_other_threads_are_refused(half: Path, command: Command, monkeypatch):
    """A run begun with one number of threads does not go on with another."""
    content = torch.load(half / "state" / "state.pt", weights_only=True)
    content["identity"]["threads"] = 2
    torch.save(content, half / "state" / "state.pt")
    before = snapshot(half)
    message = command.refused("train", half)
    assert "begun with threads 2 and would go on with threads 1" in message
    assert "out=FOLDER" in message
    assert snapshot(half) == before


@pytest.mark.parametrize(("key", "value"), [("device", "cuda"), ("torch", "1.0")])
def test_other_device_or_torch_is_refused(half: Path, command: Command, key: str, value: str):
    """A run begun on another device or torch does not go on here."""
    content = torch.load(half / "state" / "state.pt", weights_only=True)
    content["identity"][key] = value
    torch.save(content, half / "state" / "state.pt")
    assert f"begun with {key} {value}" in command.refused("train", half)


def test_finished_run_is_not_trained_again(whole: Path, command: Command):
    """A finished run says so, shows its result and changes nothing, but for a page it lacks."""
    before = snapshot(whole)
    result = command("train", whole)
    assert (whole / "report.html").is_file()
    before["report.html"] = (whole / "report.html").read_bytes()
    assert result.code == 0
    assert result.out.startswith("This run is finished; this is its result.")
    assert "balanced accuracy" in result.out
    assert snapshot(whole) == before
    command("train", whole)
    assert snapshot(whole) == before


def damage(path: Path) -> None:
    """Cut a file in half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_damaged_state_falls_back_to_the_one_before(whole: Path, half: Path, command: Command):
    """With a truncated state the one before is used, with a warning, and the end is the same."""
    damage(half / "state" / "state.pt")
    result = command("train", half)
    assert result.code == 0
    assert "state.pt is damaged" in result.out
    assert "the one before is used" in result.out
    assert equal_weights(half, whole)


def test_two_damaged_states_are_refused(half: Path, command: Command):
    """With both states damaged the run says so and leaves everything as it is."""
    for name in ("state.pt", "previous.pt"):
        damage(half / "state" / name)
    before = snapshot(half)
    message = command.refused("train", half)
    assert "No state can be read" in message
    assert "previous.pt" in message
    assert "begin again" in message
    assert snapshot(half) == before


def test_state_that_would_run_code_is_not_read(half: Path, command: Command, tmp_path: Path):
    """A pickle in the place of a state does not run."""
    script = f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()"
    for name in ("state.pt", "previous.pt"):
        (half / "state" / name).write_bytes(
            b"cbuiltins\nexec\n(V" + script.encode("unicode_escape") + b"\ntR."
        )
    message = command.refused("train", half)
    assert "No state can be read" in message
    assert "Warning" not in message
    assert not (tmp_path / "ran").exists()


def test_folder_of_another_recipe_is_refused(half: Path, command: Command):
    """A run folder whose recipe was changed by hand is refused and left as it is."""
    recipe = half / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("epochs: 12", "epochs: 13"))
    before = snapshot(half)
    assert "another recipe" in command.refused("train", half)
    assert snapshot(half) == before


def test_state_of_another_recipe_is_refused(half: Path, command: Command):
    """A state that was copied from a run of another recipe is not used."""
    content = torch.load(half / "state" / "state.pt", weights_only=True)
    content["identity"]["recipe"] = "0" * 64
    torch.save(content, half / "state" / "state.pt")
    assert "begun with recipe 0000" in command.refused("train", half)


def test_strange_pickle_is_refused_without_a_warning(half: Path):
    """Of a pickle of another protocol the sentence alone is shown, and not torch's warning."""
    for name in ("state.pt", "previous.pt"):
        (half / "state" / name).write_bytes(pickle.dumps({"epoch": 3}, protocol=5))
    done = subprocess.run([*program(), "train", str(half)], capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("purenoise: No state can be read")
    assert "Warning" not in done.stderr


def test_state_of_other_data_is_refused(half: Path, command: Command):
    """A state keeps the fingerprint of its data, and goes on with no other."""
    content = torch.load(half / "state" / "state.pt", weights_only=True)
    content["identity"]["fingerprint"] = "0" * 64
    torch.save(content, half / "state" / "state.pt")
    assert "the data, digits, have changed since" in command.refused("train", half)


def test_save_seconds_is_no_part_of_a_run():
    """How often states are kept changes neither folder nor identity."""
    often = load_recipe("digits", ["save_seconds=0"])
    assert load_recipe("digits").digest() == often.digest()
