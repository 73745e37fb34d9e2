"""Several processes that share each batch compute what one computes alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from purenoise import runtime
from purenoise.errors import RecipeError
from purenoise.experiment import run_recipe

from .checks import CHECKS, RUNS, recipe_of

SCRIPT = Path(__file__).with_name("checks.py")
ROOT = SCRIPT.parents[2]


def torchrun(processes: int, *words: str | Path, options: tuple[str, ...] = ("--standalone",)):
    """Start processes with torchrun; return what they printed and the exit status."""
    command = [sys.executable, "-m", "torch.distributed.run", *options,
               f"--nproc-per-node={processes}", *map(str, words)]  # fmt: skip
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(
        [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}  # fmt: skip
    return subprocess.run(
        command, capture_output=True, text=True, timeout=600, check=False, cwd=ROOT, env=env
    )


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run all checks in two processes; return their folder and what was printed."""
    folder = tmp_path_factory.mktemp("together")
    done = torchrun(2, SCRIPT, folder)
    return folder, done.stdout + done.stderr


@pytest.mark.parametrize("name", CHECKS)
def test_two_processes(name: str, together: tuple[Path, str]) -> None:
    """Each check of checks.py holds in two processes."""
    assert f"ok {name}\n" in together[1], together[1][-3000:]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are read from /proc")
def test_no_thread_of_gloo_outlives_the_group() -> None:
    """One that lets go of a value while Python ends would abort the process now and then."""
    done = torchrun(2, SCRIPT.with_name("leaving.py"))
    assert done.stdout.count("inside True, after 0, held DistributedDataParallel") == 2, done


@pytest.mark.long
@pytest.mark.parametrize("name", CHECKS)
def test_three_processes(name: str, tmp_path: Path) -> None:
    """Each check holds in three processes, of which some have no rows."""
    done = torchrun(3, SCRIPT, tmp_path, name)
    assert f"ok {name}\n" in done.stdout, done.stderr[-3000:]


@pytest.mark.parametrize("name", RUNS)
def test_runs_equal_those_of_one_process(
    name: str, together: tuple[Path, str], tmp_path: Path
) -> None:
    """Losses of all epochs, weights and predictions of a run equal those of one process, to 1e-10.

    In float64, from the recipe on: batches, noise, augmentation and mixing are those of one.
    """
    alone = recipe_of(name, tmp_path)
    one, two = run_recipe(alone, alone, folder=tmp_path / "one").folder, together[0] / "together"
    two = two / name
    losses = [
        [(e["loss"], e["accuracy"], e["noise_rows"]) for e in map(json.loads, lines) if
         e["event"] == "epoch"]
        for lines in ((f / "events.jsonl").read_text().splitlines() for f in (one, two))
    ]  # fmt: skip
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-10, atol=1e-10)
    a, b = (load_file(f / "weights.safetensors") for f in (one, two))
    assert a.keys() == b.keys()
    for key, value in a.items():
        torch.testing.assert_close(b[key], value, rtol=1e-10, atol=1e-10, msg=f"{name}: {key}")
    with np.load(one / "predictions.npz") as p, np.load(two / "predictions.npz") as q:
        np.testing.assert_allclose(q["logits"], p["logits"], rtol=1e-5, atol=1e-5)
    summary = json.loads((two / "summary.json").read_text())
    assert summary["environment"]["processes"] == 2
    assert any("2 processes share each batch" in note for note in summary["notes"])


@pytest.mark.parametrize(
    ("cores", "processes", "threads", "expected"),
    [(2, 1, 2, 2), (2, 1, 3, None), (8, 3, 2, 2), (8, 3, 3, None), (2, 3, 1, 1), (2, 3, 2, None),
     (2, 3, "auto", 1), (8, 3, "auto", 2), (64, 1, "auto", 8)],
)  # fmt: skip
def test_threads_of_processes_that_share_cores(
    monkeypatch: pytest.MonkeyPatch,
    cores: int, processes: int, threads: int | str, expected: int | None,
) -> None:  # fmt: skip
    """No more threads than cores, all processes together; but one each is never refused."""
    monkeypatch.setattr(runtime, "available_cores", lambda: cores)
    monkeypatch.setattr(runtime, "beside", lambda: processes)
    if expected is None:
        with pytest.raises(RecipeError, match=f"may use {cores} cores"):
            runtime.resolve_threads(threads)
    else:
        assert runtime.resolve_threads(threads) == expected
