"""LDAM-DRW's command line: its flags, its files, its rules, on tiny files in CIFAR's layout."""

from __future__ import annotations

import ast
import hashlib
import json
import pickle
import random
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torchvision import datasets

from purenoise import yamlfile
from purenoise.checkpoint import load_weights
from purenoise.checksums import TAIL, checksum_line
from purenoise.errors import RunError
from purenoise.ldamfiles import read_checkpoint
from purenoise.ldamflags import LOSSES, RULES, build_parser, method_of, parse, recipe_of
from purenoise.methodfile import load_method
from purenoise.methods import build_phases
from purenoise.models import build_model
from purenoise.plan import plan_epoch
from purenoise.training import Fit

SCRIPT = Path(__file__).parents[2] / "cifar_train.py"
NAME = "cifar10_resnet20_CE_None_exp_0.1_0"
PER_CLASS = 20
# 20, 15, 11, 9, 7, 5, 4, 3, 2, 2: 78 training images
SMALL = ["--arch", "resnet20", "--imb_factor", "0.1", "-b", "26", "-p", "2"]

Script = Callable[..., int]


def batch(seed: int, n_classes: int, n: int, key: str) -> dict[str, Any]:
    """Return ``n`` random images per class in the form of a CIFAR file."""
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(n_classes), n))
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    return {"data": pixels, key: labels.tolist()}


def fake(root: Path, source: Any, patch: pytest.MonkeyPatch, n_classes: int, key: str) -> None:
    """Write a tiny set, and teach torchvision its MD5 sums."""
    folder = root / source.base_folder
    folder.mkdir(parents=True)
    contents: dict[str, Any] = {
        source.meta["filename"]: {source.meta["key"]: [f"class {i}" for i in range(n_classes)]}
    }
    for i, (file, _) in enumerate(source.train_list):
        contents[file] = batch(i, n_classes, PER_CLASS // len(source.train_list), key)
    contents[source.test_list[0][0]] = batch(99, n_classes, 2, key)
    sums = {}
    for file, content in contents.items():
        (folder / file).write_bytes(pickle.dumps(content))
        sums[file] = hashlib.md5((folder / file).read_bytes()).hexdigest()
    patch.setattr(source, "train_list", [[f, sums[f]] for f, _ in source.train_list])
    patch.setattr(source, "test_list", [[f, sums[f]] for f, _ in source.test_list])
    patch.setattr(source, "meta", {**source.meta, "md5": sums[source.meta["filename"]]})


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory whose ``data`` holds a tiny CIFAR-10 and CIFAR-100."""
    fake(tmp_path / "data", datasets.CIFAR10, monkeypatch, 10, "labels")
    fake(tmp_path / "data", datasets.CIFAR100, monkeypatch, 100, "fine_labels")
    monkeypatch.setattr("purenoise.runtime.available_cores", lambda: 1)  # quicker than two here
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def script() -> Script:
    """The script's ``main``, with the small network added to the words."""
    main = runpy.run_path(str(SCRIPT))["main"]
    return lambda *words: main([*SMALL, *words])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return the final weights of a run."""
    model = build_model("resnet20", 10)
    load_weights(folder / "purenoise" / "weights.safetensors", model)
    return model.state_dict()


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether two state dicts are equal bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def counted(text: str) -> list[tuple[int, int]]:
    """Return epoch and step of every line of log_train.csv."""
    return [(int(e), int(s)) for e, s in re.findall(r"^Epoch: \[(\d+)\]\[(\d+)/", text, re.M)]


def test_defaults_are_those_of_ldam_drw() -> None:
    """Every flag of the old script is there, with its aliases and its default."""
    args = vars(build_parser().parse_args([]))
    old = {
        "dataset": "cifar10", "arch": "resnet32", "loss_type": "CE", "imb_type": "exp",
        "imb_factor": 0.01, "train_rule": "None", "rand_number": 0, "exp_str": "0", "workers": 4,
        "epochs": 200, "start_epoch": 0, "batch_size": 128, "lr": 0.1, "momentum": 0.9,
        "weight_decay": 2e-4, "print_freq": 10, "resume": "", "evaluate": False,
        "pretrained": False, "seed": None, "gpu": None, "root_log": "log",
        "root_model": "checkpoint",
    }  # fmt: skip
    assert args == old | {"data_dir": "./data", "augment": "flip-crop"}
    known = {option for action in build_parser()._actions for option in action.option_strings}
    assert known >= {"-a", "-j", "-b", "-p", "-e", "--learning-rate", "--weight-decay", "--workers",
                     "--batch-size", "--print-freq", "--evaluate", "--start-epoch"}  # fmt: skip


def test_flags_become_a_recipe() -> None:
    """Each flag that is an experiment's reaches its key."""
    words = "--dataset cifar100 -a wide_resnet16_2 --imb_type step --imb_factor 0.02 -b 64 --lr .2"
    words += " --rand_number 3 --epochs 10 --momentum .8 --wd 1e-3 --seed 5 --augment open"
    recipe = recipe_of(parse([*words.split(), "--data-dir", "there"]), "cpu")
    assert (recipe.data.name, recipe.data.root, recipe.data.normalize) == (
        "cifar100", "there", "auto")  # fmt: skip
    assert recipe.data.imbalance.model_dump() == {
        "type": "step", "ratio": 50.0, "subset": "ldam", "seed": 3}  # fmt: skip
    model = recipe.model
    assert (model.name, model.dropout, model.pretrained) == ("wide_resnet16_2", 0.3, False)
    train = recipe.train
    assert (train.epochs, train.batch_size, train.lr, train.momentum) == (10, 64, 0.2, 0.8)
    assert (train.weight_decay, train.schedule, train.warmup) == (1e-3, "step", None)
    assert (recipe.seed, recipe.augment.policy, recipe.eval.every) == (5, "open", 1)
    assert recipe_of(parse([]), "cpu").model.dropout == 0


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("rule", RULES)
def test_rules_become_phases(rule: str, loss: str) -> None:
    """Each rule with each loss gives the phases that its name promises, from the right epoch on."""
    method = method_of(loss, rule)
    labels = np.repeat(np.arange(3), (40, 20, 10))
    phases = build_phases(method, labels, 3, epochs=200, defer=0.8, delta=1 / 3, seed=0)
    seen = [(p.first, p.spec.sampler, p.spec.weights, p.spec.noise) for p in phases]
    plain = (0, "instance", "none", "none")
    assert (
        seen
        == {
            "None": [plain],
            "Resample": [(0, "effective-number", "none", "none")],
            "Reweight": [(0, "instance", "effective-number", "none")],
            "DRW": [plain, (160, "instance", "effective-number", "none")],
            "DAR-BN": [plain, (160, "class-balanced", "none", "open")],
            "OPeN": [plain, (160, "class-balanced", "none", "open")],
        }[rule]
    )
    named = {"CE": {}, "LDAM": {"max_m": 0.5, "s": 30.0}, "Focal": {"gamma": 1.0}}
    assert method.loss.options() == named[loss]


def test_rules_that_have_a_name_are_those_methods() -> None:
    """The named methods of the package are what the flags compose."""
    named = {("CE", "None"): "erm", ("CE", "Reweight"): "rw", ("CE", "DRW"): "drw",
             ("LDAM", "None"): "ldam", ("LDAM", "DRW"): "ldam-drw", ("Focal", "None"): "focal",
             ("CE", "DAR-BN"): "open", ("LDAM", "OPeN"): "open+ldam"}  # fmt: skip
    for (loss, rule), name in named.items():
        assert method_of(loss, rule) == load_method(name)


@pytest.mark.parametrize("epochs", [1, 2, 5, 7, 33, 200, 320, 400])
def test_deferred_from_four_fifths(epochs: int) -> None:
    """The deferred phase begins at int(0.8 * epochs), also where the old index broke."""
    labels = np.repeat(np.arange(2), (8, 4))
    method = method_of("CE", "DRW")
    phases = build_phases(method, labels, 2, epochs=epochs, defer=0.8, delta=0, seed=0)
    assert phases[-1].first == int(0.8 * epochs)
    assert phases[-1].end == epochs


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


def test_checkpoint_is_plain_and_that_of_the_last_epoch(place: Path, script: Script) -> None:
    """``weights_only`` reads the checkpoint; it has the old entries and the final weights."""
    assert script("--epochs", "2") == 0
    path = place / "checkpoint" / NAME / "ckpt.pth.tar"
    content = torch.load(path, weights_only=True)
    assert content["epoch"] == 2
    assert content["arch"] == "resnet20"
    assert equal(content["state_dict"], weights(place / "log" / NAME))
    assert content["optimizer"]["param_groups"][0]["momentum"] == 0.9
    history = content["purenoise"]["history"]
    scores = [100 * record["test"]["accuracy"] for record in history]
    assert content["best_acc1"] == max(scores)
    best = torch.load(path.with_name("ckpt.best.pth.tar"), weights_only=True)
    assert best["epoch"] == scores.index(max(scores)) + 1


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


def test_evaluate(place: Path, script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    """-e prints what the run printed, per class and overall, and trains nothing."""
    assert script("--epochs", "1", "--loss_type", "LDAM") == 0
    said = re.findall(r"^Prec@1 (\S+) \(last", capsys.readouterr().out, re.M)
    ckpt = str(place / "checkpoint" / NAME.replace("CE", "LDAM") / "ckpt.pth.tar")
    before = sorted(place.rglob("*"))
    assert script("-e", "--resume", ckpt, "--loss_type", "LDAM") == 0
    out = capsys.readouterr().out
    assert re.findall(r"^Prec@1 (\S+) Prec@5", out, re.M) == said
    assert all(f"class {c}" in out for c in range(10))
    assert sorted(place.rglob("*")) == before
    assert script("-e", "--resume", ckpt) == 2
    assert "do not fit resnet20 with --loss_type CE" in capsys.readouterr().err


class Harmful:
    """An object whose unpickling would leave a file behind."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("harm"),))


@pytest.mark.parametrize("with_line", [True, False])
def test_flipped_bits_of_a_checkpoint_are_recognised(
    place: Path, script: Script, with_line: bool
) -> None:
    """A flipped bit is refused, or did not touch what is read; also before there was a line."""
    assert script("--epochs", "1") == 0
    path = place / "checkpoint" / NAME / "ckpt.pth.tar"
    good = path.read_bytes()
    assert checksum_line(good[:-TAIL]) == good[-TAIL:]
    right = torch.load(path, weights_only=True)["state_dict"]
    end = len(good) - (0 if with_line else TAIL)
    dice, refused = random.Random(3), []
    for _ in range(40):
        bad = bytearray(good[:end])
        bad[dice.randrange(end)] ^= 1 << dice.randrange(8)
        path.write_bytes(bad)
        try:
            assert equal(read_checkpoint(path, "resnet20")["state_dict"], right)
        except RunError as error:
            refused.append(error.message)
    assert len(refused) >= 35
    assert all(message.startswith(f"{path} is damaged") for message in refused)
    path.write_bytes(good[:end])
    assert equal(read_checkpoint(path, "resnet20")["state_dict"], right)


def test_checkpoints_that_are_refused(
    place: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    """A truncated, foreign, harmful, missing or unfitting checkpoint is one message and 2."""
    assert script("--epochs", "2") == 0
    good = (place / "checkpoint" / NAME / "ckpt.pth.tar").read_bytes()
    before = sorted(place.glob("*"))
    content = torch.load(place / "checkpoint" / NAME / "ckpt.pth.tar", weights_only=True)
    capsys.readouterr()
    bad = place / "data" / "bad.pth.tar"

    def refused(*words: str) -> str:
        assert script("--epochs", "2", "--resume", str(bad), *words) == 2
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return captured.err

    assert "There is no checkpoint" in refused()
    for damaged in (good[: len(good) // 2], good[:-90], b"", b"not a checkpoint", b"\x80\x04."):
        bad.write_bytes(damaged)
        assert "nothing in it was executed" in refused()
        assert "nothing in it was executed" in refused("-e")
    bad.write_bytes(pickle.dumps(Harmful()))
    assert "nothing in it was executed" in refused()
    torch.save({**content, "best_acc1": Harmful()}, bad)
    assert "nothing in it was executed" in refused()
    assert not (place / "harm").exists()
    torch.save([1], bad)
    assert "is no checkpoint" in refused()
    bad.write_bytes(good)
    assert "is a checkpoint of 'resnet20', and --arch is 'resnet32'" in refused("-a", "resnet32")
    assert "lr was 0.1 and is 0.5" in refused("--lr", "0.5")
    assert "--start-epoch is 1" in refused("--start-epoch", "1")
    del content["purenoise"]
    torch.save(content, bad)
    assert "was not written by this script" in refused()
    assert sorted(place.glob("*")) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--arch resnet33", "Did you mean 'resnet32'? Allowed: resnet20, "),
        ("--arch wide_resnet27_10", "depth 6n + 4"),
        ("--train_rule Resampel", "Did you mean 'Resample'? Allowed: None, Resample, "),
        ("--loss_type ce", "'ce' is not known. Did you mean 'CE'? Allowed: CE, LDAM, Focal"),
        ("--dataset cifar11", "Did you mean 'cifar10'"),
        ("--imb_type long", "'long' is not known. Allowed: exp, step"),
        ("--imb_factor 0", "must be above 0 and at most 1, got '0'"),
        ("--imb_factor nan", "must be above 0 and at most 1, got 'nan'"),
        ("--epochs 0", "must be a whole number from 1 on, got '0'"),
        ("--lr fast", "must be above 0, got 'fast'"),
        ("--momentum 1", "at least 0 and below 1, got '1'"),
        ("--seed -1", "from 0 to 2^32 - 1, got '-1'"),
        ("--gpu x", "the number of a GPU"),
        ("--exp_str ../up", "part of a folder's name"),
        ("--trainrule DRW", "'--trainrule' is no flag. Did you mean '--train_rule'?"),
        ("--pretrained", "no published weights"),
        ("-e", "name it with --resume"),
        ("--start-epoch 5", "Add --resume"),
        ("--epochs", "expected one argument"),
    ],
)
def test_flags_that_are_refused(
    words: str, said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A wrong flag or value is one line that says what is allowed; nothing is written."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        parse(words.split())
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_cifar100_has_its_own_constants(place: Path, script: Script) -> None:
    """CIFAR-100 is normalised with CIFAR-100's constants, not CIFAR-10's."""
    assert script("--dataset", "cifar100", "--epochs", "1", "-b", "400") == 0
    log = place / "log" / "cifar100_resnet20_CE_None_exp_0.1_0"
    summary = json.loads((log / "purenoise" / "summary.json").read_text())
    assert summary["normalize"][0] == [0.5071, 0.4867, 0.4408]
    assert len((log / "confusion_matrix.csv").read_text().splitlines()) == 101


def test_no_gpu_and_no_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: Script,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Without a GPU --gpu 0 says so in a line; without data and network, a sentence and 2."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    def no_network(*args: Any, **kwargs: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    assert script("--gpu", "0") == 2
    captured = capsys.readouterr()
    assert captured.out.count("there is no GPU that torch can use; this runs on the CPU") == 1
    assert "CIFAR-10 is not in 'data'" in captured.err
    assert not [path for path in tmp_path.rglob("*") if path.name != "data"]


def test_a_place_that_cannot_be_written(
    place: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file in the way of a folder is one message and 2, before training begins."""
    (place / "file").write_text("in the way")
    for flag in ("--root_log", "--root_model"):
        assert script("--epochs", "1", flag, "file") == 2
        error = capsys.readouterr().err
        assert "cannot be written" in error
        assert "--root_log and --root_model" in error
    assert (place / "file").read_text() == "in the way"


def test_help_is_quick_and_complete() -> None:
    """``--help`` names all flags, and says of -j that it has no effect, without loading torch."""
    code = (
        "import sys, runpy; sys.argv = ['cifar_train.py', '--help']\n"
        f"try: runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
        "except SystemExit: print(sorted(set(sys.modules) & set(('torch', 'torchvision'))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert ast.literal_eval(done.stdout.splitlines()[-1]) == []
    for flag in ("--root_model", "--train_rule", "--data-dir", "--augment", "--start-epoch"):
        assert flag in done.stdout
    assert "without effect" in " ".join(done.stdout.split())


def test_recipe_of_the_run_is_kept(place: Path, script: Script) -> None:
    """The run folder inside the log folder holds the whole recipe, by which others can run it."""
    assert script("--epochs", "1") == 0
    content = yamlfile.load(place / "log" / NAME / "purenoise" / "recipe.yaml")
    del content["digest"]
    words = [*SMALL, "--epochs", "1"]
    assert content == recipe_of(parse(words), "auto").model_dump(mode="json")
