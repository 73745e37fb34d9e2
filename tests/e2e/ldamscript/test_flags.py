"""The script's flags: LDAM-DRW's names, defaults and rules, and what is refused."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from purenoise.ldamflags import LOSSES, RULES, build_parser, method_of, parse, recipe_of
from purenoise.methodfile import load_method
from purenoise.methods import build_phases

from .support import SCRIPT, Script


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
