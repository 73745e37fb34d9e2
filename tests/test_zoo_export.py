"""Models of torchvision and timm: one OPeN step, a save, and their graphs against torch.

Two models run ordinarily; with ``-m long`` the smallest model of every module of timm that has
batch norm, a seeded dozen of those without, and eight models of torchvision. ``python -m
tests.test_zoo_export [PART OF A NAME]...`` prints a table of what was tried and what failed.
"""

from __future__ import annotations

import random
import sys
import tempfile
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

import purenoise as pn
from purenoise.checkpoint import load_weights, save_weights
from purenoise.errors import PureNoiseError
from purenoise.export.checking import Probe
from purenoise.export.onnxfile import check_onnx
from purenoise.export.program import traced
from purenoise.export.standalone import Standalone, answers
from purenoise.models import build_model
from purenoise.runtime import torch_settings

from .test_timm import SMALLEST, small_input

timm = pytest.importorskip("timm")

TORCHVISION = ("resnet18", "mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x0_5",
               "efficientnet_b0", "mnasnet0_5", "densenet121", "regnet_y_400mf")  # fmt: skip
ORDINARY = ("torchvision:resnet18", "timm:test_byobnet")
CLASSES = 5
LIMIT = 1e-3  # of a difference, as a share of the largest logit; random weights amplify rounding
MEAN, STD = [0.5, 0.4, 0.3], [0.25, 0.2, 0.3]


class Row(NamedTuple):
    """What became of one model: differences as shares of the largest logit, or why there are none.

    Shares, because the logits of a network with random weights can be of any size.
    """

    name: str
    parameters: int = 0
    step: str = ""
    program: str = ""
    onnx: str = ""


WITHOUT_ONNX = "timm:hiera_tiny_224"
FAILS = pytest.mark.xfail(strict=True, reason="torch cannot convert it to ONNX")


def others() -> list[str]:
    """Return a seeded dozen of timm's modules without batch norm, each by its smallest name."""
    modules = sorted(set(timm.list_modules()) - SMALLEST.keys())
    chosen = random.Random(0).sample(modules, 12)
    found = []
    for module in chosen:
        names = timm.list_models(module=module)
        found += [min(names, key=lambda name: (_size_hint(name), len(name), name))] if names else []
    return found


def _size_hint(name: str) -> int:
    order = ("test", "femto", "pico", "nano", "atto", "xxs", "tiny", "xs", "small", "_s", "base")
    return next((i for i, part in enumerate(order) if part in name), len(order))


def names() -> list[str]:
    """Return all models of the long form."""
    smallest = [row["name"] for _, row in sorted(SMALLEST.items())]
    return [*(f"torchvision:{n}" for n in TORCHVISION), *(f"timm:{n}" for n in smallest),
            *(f"timm:{n}" for n in others())]  # fmt: skip


def open_step(model: nn.Module, x: torch.Tensor) -> None:
    """Train a model for one OPeN step, in place, and make it plain again."""
    pn.convert(model).train()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = 1.0  # or one step leaves statistics with which all logits vanish
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    logits = pn.two_pass(model, x, torch.rand_like(x))
    F.cross_entropy(logits, torch.arange(len(logits)) % CLASSES).backward()
    optimizer.step()
    pn.revert(model).eval()


def try_model(name: str) -> Row:
    """Build, step, save and load strictly, then hold both graphs against torch."""
    # One thread: sums in another order are another rounding, which random weights amplify.
    with warnings.catch_warnings(), torch_settings(1, torch.device("cpu")):
        warnings.simplefilter("ignore")  # of the libraries, about themselves
        torch.manual_seed(0)
        model = build_model(name, CLASSES, generator_seed=0)
        n = sum(p.numel() for p in model.parameters())
        try:
            x = small_input(model) if name.startswith("timm:") else torch.randn(2, 3, 64, 64)
            open_step(model, torch.cat([x, x.flip(3)]))
        except Exception as error:  # a table of failures names them all
            return Row(name, n, f"{type(error).__name__}: {' '.join(str(error).split())[:90]}")
        fresh = build_model(name, CLASSES, generator_seed=1)
        with tempfile.TemporaryDirectory() as folder:
            save_weights(Path(folder) / "w.safetensors", model, {})
            load_weights(Path(folder) / "w.safetensors", fresh)
        network, shape = Standalone(fresh.eval(), MEAN, STD), tuple(x.shape[1:])
        pixels = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)
        size = float(np.abs(answers(network, pixels)).max())
        try:
            got = answers(traced(network, shape).module(), pixels)
            program = f"{np.abs(got - answers(network, pixels)).max() / size:.1g}"
        except PureNoiseError as error:
            program = error.message[:90]
        try:
            onnx = f"{check_onnx(network, shape, Probe(pixels, 'uniform noise')) / size:.1g}"
        except PureNoiseError as error:
            onnx = error.message[:90]
        return Row(name, n, "ok", program, onnx)


def check(name: str) -> None:
    """Fail if a model did not make it all the way."""
    row = try_model(name)
    print(row)
    assert row.step == "ok", row
    assert float(row.program) < LIMIT, row
    assert float(row.onnx) < LIMIT, row


@pytest.mark.parametrize("name", ORDINARY)
def test_models_go_in_and_out(name: str):
    """A model takes an OPeN step, loads its saved weights, and says the same as a graph."""
    check(name)


@pytest.mark.long
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=FAILS if n == WITHOUT_ONNX else ()) for n in names()]
)
def test_zoo_goes_in_and_out(name: str):
    """So do eight models of torchvision, one of each timm module with batch norm, and a dozen."""
    check(name)


def test_failures_are_seen(monkeypatch: pytest.MonkeyPatch):
    """A graph that answers otherwise, and a model that takes no step, are no success."""
    real = answers
    monkeypatch.setattr(
        f"{__name__}.answers", lambda model, x: real(model, x) + (type(model) is Standalone)
    )
    with pytest.raises(AssertionError):
        check(ORDINARY[1])
    monkeypatch.setattr(f"{__name__}.open_step", lambda *_: 1 / 0)
    assert "ZeroDivisionError" in try_model(ORDINARY[1]).step


if __name__ == "__main__":
    print("| model | parameters | OPeN step | torch.export | ONNX |\n|---|---:|---|---|---|")
    for wanted in names():
        if len(sys.argv) == 1 or any(part in wanted for part in sys.argv[1:]):
            print("| " + " | ".join(map(str, try_model(wanted))) + " |", flush=True)
