"""The main job on the embedded digits: it learns, and its run folder is what it should be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import purenoise as pn
from purenoise.experiment import Run
from purenoise.metrics import evaluate_logits

from .support import equal_weights, weights

FILES = {
    "recipe.yaml", "events.jsonl", "metrics.csv", "summary.json", "weights.safetensors",
    "predictions.npz", "state/state.pt",
}  # fmt: skip
KEYS = {
    "status", "recipe", "method", "seed", "digest", "command", "augment", "selection", "notes",
    "speed",
    "data", "class_names", "counts", "image_shape", "fingerprint", "subset_sha256",
    "n_train", "n_val", "n_test",
    "normalize", "noise", "test", "val", "optimistic_best_on_test", "probes", "train_seconds",
    "seconds", "environment", "sha256",
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a short run of OPeN on digits."""
    out = tmp_path_factory.mktemp("runs")
    return pn.train("digits", epochs=15, out=str(out), threads=1)


def test_it_learns(run: Run):
    """After fifteen epochs accuracy is far above chance, also of the rare classes."""
    assert run.trained
    assert run.metrics["accuracy"] > 0.75
    assert run.metrics["groups"]["few"] > 0.4


def test_folder_has_exactly_its_files(run: Run):
    """The run folder holds what the documentation lists, and nothing half-written."""
    files = {str(p.relative_to(run.folder)) for p in run.folder.rglob("*") if p.is_file()}
    boards = {f for f in files if f.startswith("tb/events.out.tfevents")}
    assert len(boards) == 1
    assert files - boards - {"state/previous.pt"} == FILES


def test_summary_has_its_keys(run: Run):
    """The summary is complete JSON and says where and how the result came about."""
    summary = json.loads((run.folder / "summary.json").read_text())
    assert summary.keys() == KEYS
    assert summary["counts"] == [124, 82, 54, 36, 24, 15, 10, 7, 4, 3]
    assert len(summary["subset_sha256"]) == 64
    assert summary["selection"] == "last epoch"
    assert summary["environment"]["threads"] == 1
    assert summary["command"].startswith("purenoise train digits epochs=15 ")


def test_predictions_give_the_summary(run: Run):
    """The metrics can be computed again from predictions.npz."""
    kept = np.load(run.folder / "predictions.npz", allow_pickle=False)
    again = evaluate_logits(kept["logits"], kept["labels"], np.array(run.summary["counts"]))
    assert again == run.metrics


def test_metrics_table_has_a_line_per_epoch(run: Run):
    """metrics.csv has all epochs, and the last line is the summary's result."""
    head, *rows = [line.split(",") for line in (run.folder / "metrics.csv").read_text().split()]
    assert [row[0] for row in rows] == [str(epoch) for epoch in range(15)]
    assert float(rows[-1][head.index("test_accuracy")]) == run.metrics["accuracy"]


def test_tensorboard_reads_its_files(run: Run):
    """TensorBoard's own reader finds the loss of every epoch and the test accuracy."""
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    board = event_accumulator.EventAccumulator(str(run.folder / "tb"))
    board.Reload()
    assert [event.step for event in board.Scalars("train/loss")] == list(range(15))
    last = board.Scalars("test/accuracy")[-1]
    assert last.step == 14
    assert last.value == pytest.approx(run.metrics["accuracy"], abs=1e-6)


def test_same_seed_same_weights(tmp_path: Path):
    """Two runs of one seed are equal bit for bit; another seed is another run."""
    options = {"epochs": 2, "threads": 1}
    first = pn.train("digits", out=str(tmp_path / "a"), **options).folder
    second = pn.train("digits", out=str(tmp_path / "b"), **options).folder
    other = pn.train("digits", out=str(tmp_path / "a"), seed=1, **options).folder
    assert equal_weights(first, second)
    assert not equal_weights(first, other)
    assert other.parent == first.parent
    assert other.name == "seed-1"
    assert all(np.isfinite(w).all() for w in weights(first).values())


def test_finished_run_is_returned(run: Run):
    """Calling it again trains nothing and returns the same summary."""
    again = pn.train("digits", epochs=15, out=str(run.folder.parents[2]), threads=1)
    assert not again.trained
    assert again.summary == json.loads((run.folder / "summary.json").read_text())


def test_loading_a_run_leaves_the_global_generator_alone(tmp_path):
    """A run is loaded without drawing from the caller's random numbers."""
    import torch

    import purenoise as pn
    from purenoise.network import load_run

    run = pn.train("digits", method="erm", epochs=1, out=str(tmp_path))
    before = torch.get_rng_state()
    load_run(run.folder)
    assert torch.equal(torch.get_rng_state(), before)


def test_probabilities_of_ldam_are_worth_something(tmp_path):
    """A cosine head's logits are scaled as its loss scales them: confidence is not 1 in C."""
    run = pn.train("digits", method="ldam", epochs=20, out=str(tmp_path))
    logits = np.load(run.folder / "predictions.npz")["logits"]
    assert 1 < np.abs(logits).max() <= 30
    assert run.metrics["ece"] < 0.3
