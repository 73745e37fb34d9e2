"""The end of a run: predictions and weights written, the network measured, the summary made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from purenoise.checkpoint import save_weights
from purenoise.evaluate import Question, evaluate_split, never
from purenoise.predictions import write_predictions
from purenoise.prepare import Prepared
from purenoise.probes import probe
from purenoise.runlog import RunFolder


def finish(
    model: nn.Module,
    history: list[dict[str, Any]],
    data: Prepared,
    files: RunFolder,
    head: Mapping[str, Any],
    stopping: Question = never,
    *,
    adjusted: bool = False,
) -> dict[str, Any]:
    """Write predictions and weights; return the summary, which is to be written last of all.

    Args:
        model: Trained, plain.
        history: One record per epoch.
        data: Prepared data.
        files: The run's folder.
        head: What the summary says of the run beside its numbers.
        adjusted: Whether the network is another one than the last epoch's, so that the epochs'
            numbers say nothing of it.
        stopping: Asked between batches.

    Raises:
        Interrupted: If it was told to stop; the run goes on from its last state.
        RunError: If a file cannot be written.
    """
    split = data.dataset.test
    summary: dict[str, Any] = {"status": "finished", "selection": "last epoch", **head}
    summary["test"], logits = None, None
    if len(split):
        summary["test"], logits = evaluate_split(model, split, data, stopping)
        write_predictions(files.predictions, logits, split.labels)
    val = data.dataset.val
    summary["val"] = evaluate_split(model, val, data, stopping)[0] if val and len(val) else None
    summary["probes"] = probe(model, data, logits, stopping)
    tested = [] if adjusted else [h for h in history if "test" in h]
    scores = [(h["test"]["accuracy"], h["epoch"]) for h in tested]
    best = max(scores, default=(None, None))
    summary["optimistic_best_on_test"] = {"accuracy": best[0], "epoch": best[1]}
    summary["train_seconds"] = sum(h["seconds"] for h in history)
    save_weights(files.weights, model, {"recipe": head["digest"]})
    return summary
