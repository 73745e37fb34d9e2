"""Runs of the script: the files it leaves, the exact result when it goes on, what they hold."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from purenoise import yamlfile
from purenoise.ldamflags import method_of, parse, recipe_of
from purenoise.methods import build_phases
from purenoise.plan import plan_epoch
from purenoise.training import Fit

from .support import NAME, SMALL, Script, equal, weights


def counted(text: str) -> list[tuple[int, int]]:
    """Return epoch and step of every line of log_train.csv."""
    return [(int(e), int(s)) for e, s in re.findall(r"^Epoch: \[(\d+)\]\[(\d+)/", text, re.M)]


def test_resample_reaches_the_loader(
    place: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With Resample the batches of the first epoch hold all classes about equally often."""
    drawn: list[np.ndarray] = []
    step = Fit._step

    def watched(self: Fit, plan: Any, *rest: Any) -> Any:
        drawn.append(plan.labels)
        return step(self, plan, *rest)

    monkeypatch.setattr(Fit, "_step", watched)
    assert script("--train_rule", "Resample", "--epochs", "1") == 0
    phase = build_phases(
        method_of("CE", "Resample"), np.repeat(np.arange(2), (5000, 50)), 2,
        epochs=1, defer=0.8, delta=0, seed=0,
    )[0]  # fmt: skip
    many = np.concatenate([plan.labels for plan in plan_epoch(phase, 0, 128, 0)])
    weights = (1 - 0.9999) / (1 - 0.9999 ** np.array([5000, 50]))
    expected = weights * [5000, 50] / (weights @ [5000, 50])
    assert np.bincount(many) / len(many) == pytest.approx(expected, abs=0.03)
    labels = np.concatenate(drawn)
    assert len(labels) == 78
    assert np.bincount(labels, minlength=10)[:2].sum() < 30  # 35 of 78 without the sampler
    assert np.bincount(labels, minlength=10)[5:].sum() > 25  # 16 of 78 without


def test_files(place: Path, script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    """The old places hold the old files, in the old form; the last epoch is the result."""
    assert script("--train_rule", "DAR-BN", "--epochs", "2", "-j", "8", "--gpu", "None") == 0
    out = capsys.readouterr().out
    name = NAME.replace("None", "DAR-BN")
    log, model = place / "log" / name, place / "checkpoint" / name
    assert sorted(p.name for p in model.iterdir()) == ["ckpt.best.pth.tar", "ckpt.pth.tar"]
    files = sorted(p.name for p in log.iterdir() if not p.name.startswith("events"))
    assert files == ["args.txt", "confusion_matrix.csv", "confusion_matrix.png", "log_test.csv",
                     "log_train.csv", "purenoise"]  # fmt: skip
    args = (log / "args.txt").read_text()
    assert "train_rule='DAR-BN'" in args
    assert "cls_num_list=[20, 15, 11, 9, 7, 5, 4, 3, 2, 2]" in args
    _check_logs(log, json.loads((log / "purenoise" / "summary.json").read_text()), out)
    assert (log / "confusion_matrix.png").read_bytes()[:4] == b"\x89PNG"
    rows = (log / "confusion_matrix.csv").read_text().splitlines()
    assert len(rows) == 11
    assert sum(int(n) for row in rows[1:] for n in row.split(",")[1:]) == 20
    assert re.search(r"^subset sha256 [0-9a-f]{64}$", out, re.M)
    assert "from epoch 1 on (counted from 0): class-balanced sampling, class weights: none, " \
        "noise: open" in out  # fmt: skip
    _check_board(log)


def _check_logs(log: Path, summary: dict[str, Any], out: str) -> None:
    """log_train.csv has every second step of 3; log_test.csv three lines per epoch."""
    trained = (log / "log_train.csv").read_text()
    assert counted(trained) == [(0, 0), (0, 2), (1, 0), (1, 2)]
    number = r"\d+\.\d+"
    pair = rf"{number} \({number}\)"
    form = rf"Epoch: \[\d\]\[\d/3\], lr: {number}\tTime {pair}\tLoss {pair}\tPrec@1 {pair}\t"
    assert all(re.fullmatch(form + f"Prec@5 {pair}", line) for line in trained.splitlines())
    tested = (log / "log_test.csv").read_text().split("\n\n")[:-1]
    assert len(tested) == 2
    form = rf"val Results: Prec@1 {number} Prec@5 {number} Loss {number}\n"
    form += rf"val Class Accuracy: \[{number}(,{number}){{9}}\]\nBest Prec@1: {number} \(optim.*\)"
    assert all(re.fullmatch(form, entry) for entry in tested)
    accuracy = f"Prec@1 {100 * summary['test']['accuracy']:.3f}"
    assert accuracy in tested[-1]
    assert f"{accuracy} (last epoch: the result)" in out
    assert "(optimistic: the best epoch on the test images" in out


def _check_board(log: Path) -> None:
    """TensorBoard finds the old tags in the log folder."""
    board = EventAccumulator(str(log)).Reload()
    tags = {"loss/train", "acc/train_top1", "acc/train_top5", "lr", "loss/test_val",
            "acc/test_val_top1", "acc/test_val_top5", "acc/test_top1_best"}  # fmt: skip
    assert tags <= set(board.Tags()["scalars"])
    for tag in tags:
        assert [event.step for event in board.Scalars(tag)] == [0, 1]


def test_same_line_again_and_other_settings(
    place: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same line says that it is finished; other settings get the next free name."""
    assert script("--epochs", "1") == 0
    path = place / "checkpoint" / NAME / "ckpt.pth.tar"
    before = path.stat().st_mtime_ns
    capsys.readouterr()
    assert script("--epochs", "1", "--data-dir", str(place / "data")) == 0
    assert "This run is finished; nothing was trained." in capsys.readouterr().out
    assert path.stat().st_mtime_ns == before
    for number, lr in ((2, "0.2"), (3, "0.3"), (2, "0.2")):
        assert script("--epochs", "1", "--lr", lr) == 0
        out = capsys.readouterr().out
        assert f"{NAME} holds a run with other settings; this one is called {NAME}_{number}" in out
        assert (
            f"store_name='{NAME}_{number}'" in (place / f"log/{NAME}_{number}/args.txt").read_text()
        )
    assert path.stat().st_mtime_ns == before
    assert sorted(p.name for p in (place / "checkpoint").iterdir()) == [
        NAME, f"{NAME}_2", f"{NAME}_3"]  # fmt: skip


def test_files_of_the_old_script_are_left_alone(place: Path, script: Script) -> None:
    """A folder that LDAM-DRW's own script wrote is not touched."""
    old = place / "checkpoint" / NAME / "ckpt.pth.tar"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"theirs")
    assert script("--epochs", "1") == 0
    assert old.read_bytes() == b"theirs"
    assert (place / "checkpoint" / f"{NAME}_2" / "ckpt.pth.tar").is_file()


def stop_at(monkeypatch: pytest.MonkeyPatch, epoch: int, step: int) -> None:
    """Make training stop after a step, as a signal would."""
    after = Fit._after_step

    def stopping(self: Fit, at: int, done: int, *rest: Any) -> None:
        if (at, done) == (epoch, step):
            self.should_stop = lambda: True
        after(self, at, done, *rest)

    monkeypatch.setattr(Fit, "_after_step", stopping)


@pytest.mark.parametrize("rule", ["DAR-BN", "DRW"])
def test_resume_is_exact(
    rule: str, place: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same line, or --resume elsewhere, ends with the weights of an uninterrupted run."""
    line = ["--train_rule", rule, "--epochs", "3"]
    name = NAME.replace("None", rule)
    whole = ["--root_log", "whole/log", "--root_model", "whole/model"]
    assert script(*line, *whole) == 0
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 1, 1)
        assert script(*line) == 130
    said = capsys.readouterr().err
    assert "Stopped; the state is in" in said
    assert "To go on: python cifar_train.py --arch resnet20" in said
    ckpt = place / "checkpoint" / name / "ckpt.pth.tar"
    assert torch.load(ckpt, weights_only=True)["epoch"] == 1
    moved = ["--root_log", "moved/log", "--root_model", "moved/model", "--resume", str(ckpt)]
    assert script(*line, *moved, "--start-epoch", "1") == 0
    assert "=> goes on at epoch 1, step 0" in capsys.readouterr().out
    assert script(*line) == 0
    assert "=> goes on at epoch 1, step 2" in capsys.readouterr().out
    wanted = weights(place / "whole/log" / name)
    tested = (place / "whole/log" / name / "log_test.csv").read_text()
    for log in (place / "log", place / "moved/log"):
        assert equal(weights(log / name), wanted)
        assert (log / name / "log_test.csv").read_text() == tested
    steps = counted((place / "log" / name / "log_train.csv").read_text())
    assert steps == [(e, s) for e in range(3) for s in (0, 2)]


def test_recipe_of_the_run_is_kept(place: Path, script: Script) -> None:
    """The run folder inside the log folder holds the whole recipe, by which others can run it."""
    assert script("--epochs", "1") == 0
    content = yamlfile.load(place / "log" / NAME / "purenoise" / "recipe.yaml")
    del content["digest"]
    words = [*SMALL, "--epochs", "1"]
    assert content == recipe_of(parse(words), "auto").model_dump(mode="json")
