"""``purenoise compare``: shared phases change no bit, killing loses nothing, faults are named."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

import purenoise as pn
from purenoise.lab.comparison import Comparison

from .support import Command, equal_weights, program

METHODS = "erm,drs,drw,open,open:stop_gradient=affine,balanced-softmax,open+balanced-softmax"
FAST = ("epochs=6", "batch_size=128", "threads=1", "eval.every=3")


def runs(out: Path) -> dict[str, Path]:
    """Return the finished runs below a folder, by their place in it."""
    return {str(p.parent.relative_to(out)): p.parent for p in sorted(out.rglob("summary.json"))}


def results(out: Path) -> dict[str, object]:
    """Return all that the runs below a folder came to, without times."""
    found = {}
    for name, folder in runs(out).items():
        summary = json.loads((folder / "summary.json").read_text())
        rows = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()]
        column = rows[0].index("seconds")
        history = [row[:column] + row[column + 1 :] for row in rows]
        found[name] = (summary["test"], summary["optimistic_best_on_test"], history)
    return found


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, object]:
    """Compare with shared phases; return where, and the comparison."""
    out = tmp_path_factory.mktemp("shared")
    words = dict(word.split("=") for word in FAST)
    return out, pn.compare("digits", methods=METHODS, seeds="0,3", out=str(out), **words)


def test_shared_phases_change_no_bit(shared: tuple[Path, object], tmp_path: Path) -> None:
    """Weights, logits, metrics and histories equal those of runs that share nothing."""
    out, _ = shared
    words = dict(word.split("=") for word in FAST)
    pn.compare("digits", methods=METHODS, seeds=[0, 3], share=False, out=str(tmp_path), **words)
    assert not (tmp_path / "phases").exists()
    assert list((out / "phases").iterdir())
    alone, together = runs(tmp_path), runs(out)
    assert alone.keys() == together.keys()
    assert len(alone) == 14
    for name, folder in alone.items():
        assert equal_weights(folder, together[name]), name
        with (
            np.load(folder / "predictions.npz") as a,
            np.load(together[name] / "predictions.npz") as b,
        ):
            assert np.array_equal(a["logits"], b["logits"]), name
    assert results(tmp_path) == results(out)


def test_a_shared_first_phase_is_trained_once(shared: tuple[Path, object]) -> None:
    """One run trained what all begin with; the others say that they did not."""
    out, _ = shared
    taken = []
    for folder in runs(out).values():
        events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
        epochs = [e for e in events if e["event"] == "epoch"]
        assert [e["epoch"] for e in epochs] == list(range(6))
        taken.append(sum(bool(e.get("shared")) for e in epochs))
    # Two seeds; 5 runs begin plainly, 2 with balanced softmax; the first phase has 3 epochs.
    assert sorted(taken) == [0] * 4 + [3] * 10


def test_what_compare_returns(shared: tuple[Path, object]) -> None:
    """Rows, differences to DRS and notes; means are those of the runs."""
    found = shared[1]
    assert isinstance(found, Comparison)
    assert [row.label for row in found.rows] == METHODS.split(",")
    assert found.baseline == "drs"
    assert [d.label for d in found.differences] == [m for m in METHODS.split(",") if m != "drs"]
    erm = found.rows[0]
    values = [json.loads((r.folder / "summary.json").read_text())["test"]["accuracy"]
              for r in erm.records]  # fmt: skip
    assert erm.estimates["accuracy"].mean == pytest.approx(np.mean(values))
    assert any("2 seeds" in note for note in found.notes)


def test_the_command_takes_up_what_is_there(shared: tuple[Path, object], command: Command) -> None:
    """Nothing is trained again; another seed is added; the tables name every method."""
    out, _ = shared
    before = {p: p.stat().st_mtime_ns for p in out.rglob("summary.json")}
    done = command("compare", "digits", f"methods={METHODS}", "seeds=0,3", f"out={out}", *FAST)
    assert done.code == 0, done
    assert "14 runs, 14 of them there already" in done.out
    for name in METHODS.split(","):
        assert name[:12] in done.out
    assert "against drs" in done.out
    assert before == {p: p.stat().st_mtime_ns for p in out.rglob("summary.json")}


def test_runs_of_train_are_taken_up(tmp_path: Path, command: Command) -> None:
    """A run that `purenoise train` made is the comparison's run."""
    words = ["epochs=2", "batch_size=128", "threads=1", f"out={tmp_path}"]
    assert command("train", "digits", "method=erm", *words).code == 0
    done = command("compare", "digits", "methods=erm,rs", "seeds=1", *words)
    assert "2 runs, 1 of them there already" in done.out
    assert "nothing can be concluded" in done.out


@pytest.mark.parametrize("kills", [2, pytest.param(5, marks=pytest.mark.long)])
def test_killed_again_and_again_the_result_is_the_same(
    kills: int, shared: tuple[Path, object], tmp_path: Path
) -> None:
    """Kill the command at random moments; the same line then comes to the same numbers."""
    out, _ = shared
    random_ = random.Random(0)
    words = [*program(), "compare", "digits", f"methods={METHODS}", "seeds=0,3", f"out={tmp_path}",
             "save_seconds=0", *FAST]  # fmt: skip
    for _ in range(kills):
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before = len(list(tmp_path.rglob("*.pt")))
        deadline = time.monotonic() + 60
        while len(list(tmp_path.rglob("*.pt"))) == before and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(random_.uniform(0, 1.5))
        process.kill()
        process.wait()
        assert not _left_over(tmp_path), "workers outlive the command"
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert results(tmp_path) == results(out)


def _left_over(out: Path) -> bool:
    """Whether files below ``out`` go on changing."""
    time.sleep(0.5)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.exists()}
    time.sleep(0.7)
    return before != {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.exists()}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_the_states_and_says_how_to_go_on(number: int, tmp_path: Path) -> None:
    """The command ends with 130 and names the line; what was begun goes on."""
    words = ["compare", "digits", "methods=erm,rs", "seeds=2", "epochs=400", f"out={tmp_path}"]
    process = subprocess.Popen(
        [*program(), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.rglob("events.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)
    os.kill(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "To go on: purenoise compare digits methods=erm,rs seeds=2" in err
    assert list(tmp_path.rglob("state.pt"))


def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    """Kill the training process: another goes on with its run, and the numbers are there."""
    words = ["compare", "digits", "methods=erm,rs", "seeds=1", "epochs=60", "jobs=1",
             f"out={tmp_path}"]  # fmt: skip
    process = subprocess.Popen([*program(), *words], stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.rglob("events.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        process.kill()
        pytest.skip("this system does not name the children of a process")
    for pid in children.read_text().split():
        os.kill(int(pid), signal.SIGKILL)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    assert "its process ended (signal 9" in out
    assert len(runs(tmp_path)) == 2


def test_a_run_that_fails_is_named_and_the_others_are_compared(
    tmp_path: Path, command: Command
) -> None:
    """One diverges; the rest make a table, and the command ends with 2."""
    done = command("compare", "digits", "methods=erm,erm:lr=1e30,rs", "seeds=1", f"out={tmp_path}",
                   *FAST)  # fmt: skip
    assert done.code == 2
    assert done.out.count("failed: erm:lr=1e30 seed 0: ") == 1
    assert "left out: erm:lr=1e30 seed 0" in done.out
    assert "rs against erm" in done.out


def test_a_result_that_cannot_be_read_blocks_no_other(tmp_path: Path, command: Command) -> None:
    """The run is named with what to do, the others are compared, and its file is left as it is."""
    words = ["compare", "digits", "methods=erm,rs", "seeds=2", f"out={tmp_path}", *FAST]
    assert command(*words).code == 0
    (torn,) = tmp_path.glob("digits*/rs/seed-1/summary.json")
    torn.write_text('{"status": "fin')
    done = command(*words)
    assert done.code == 2
    said = " ".join(done.out.split())
    assert "left out: rs seed 1: " in said
    assert "summary.json cannot be read" in said
    assert "Remove that file" in said
    assert "left out: rs seed 1" in said
    assert "rs against erm" in said
    assert torn.read_text() == '{"status": "fin'
    torn.unlink()
    assert command(*words).code == 0


def test_methods_that_are_added_later_share_too(tmp_path: Path, command: Command) -> None:
    """A lone method keeps the state at its boundary; one that is added goes on from there."""
    words = ["compare", "digits", "seeds=1", f"out={tmp_path}", *FAST]
    assert command(*words, "methods=drs").code == 0
    done = command(*words, "methods=drs,open")
    assert "3 epochs to train" in done.out
    assert "3 epochs were taken over from another run" in " ".join(done.out.split())
    (summary,) = [json.loads((f / "summary.json").read_text())
                  for name, f in runs(tmp_path).items() if "/open/" in name]  # fmt: skip
    assert any("The first 3 epochs were trained by another run" in n for n in summary["notes"])


def test_a_baseline_without_a_finished_run_is_replaced_with_a_word(
    tmp_path: Path, command: Command
) -> None:
    """If the baseline fails the tables say against what they are."""
    done = command("compare", "digits", "methods=erm:lr=1e30,erm,rs", "baseline=erm:lr=1e30",
                   "seeds=1", f"out={tmp_path}", *FAST)  # fmt: skip
    assert done.code == 2
    said = " ".join(done.out.split())
    assert "The baseline erm:lr=1e30 has no finished run: differences are to erm." in said


def test_a_damaged_summary_is_named_and_left_out(tmp_path: Path, command: Command) -> None:
    """A finished run whose summary lost a part is no traceback: the others are compared."""
    words = ["compare", "digits", "methods=erm,rs,drs", "seeds=1", f"out={tmp_path}", *FAST]
    assert command(*words).code == 0
    (path,) = tmp_path.rglob("rs/seed-0/summary.json")
    content = json.loads(path.read_text())
    del content["sha256"]  # with which any change is refused before it is looked at
    for change in ({"environment": None}, {"counts": "many"}, {"test": {"accuracy": "high"}}):
        path.write_text(json.dumps({**content, **change}))
        done = command(*words)
        assert "Traceback" not in done.err + done.out
        assert "left out: rs seed 0: its summary.json is not used" in " ".join(done.out.split())
        assert "erm against drs" in done.out


def test_a_run_that_inherits_all_has_its_files_and_no_best_epoch(
    tmp_path: Path, command: Command
) -> None:
    """An adjusted network trains nothing of its own: metrics.csv is there, a best epoch is not."""
    words = ["compare", "digits", "methods=erm,tau-norm", "seeds=1", f"out={tmp_path}", *FAST]
    assert command(*words).code == 0
    found = {name.split("/")[1]: folder for name, folder in runs(tmp_path).items()}
    lines = [(folder / "metrics.csv").read_text().splitlines() for folder in found.values()]
    assert [len(rows) for rows in lines] == [7, 7]
    best = {
        name: json.loads((folder / "summary.json").read_text())["optimistic_best_on_test"]
        for name, folder in found.items()
    }
    assert best["tau-norm"] == {"accuracy": None, "epoch": None}
    assert best["erm"]["accuracy"] > 0
