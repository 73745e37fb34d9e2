"""The model zoo, broadly: an OPeN step, weights saved and loaded, and the plain network again.

Models: the smallest of every timm module with batch norm (``timm_smallest.json``), a seeded dozen
of timm's others of moderate size, and eight of torchvision. A few run ordinarily, all with ``-m
long``, which prints a table. By hand: ``python -m tests.test_zoo [NAME ...]``.

A check is a function in :data:`CHECKS`: it takes a :class:`Tried`, and raises where something is
wrong. What it returns is shown in the table. Checks run in the order in which they are listed.
"""

from __future__ import annotations

import copy
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from purenoise.auxbn import fit_batch_norm
from purenoise.checkpoint import load_weights, save_weights
from purenoise.conversion import dar_layers, revert
from purenoise.models import build_model
from purenoise.models.libraries import torchvision_weights
from purenoise.models.parts import head_names
from purenoise.models.weightsfile import load_file
from purenoise.optimizer import build_optimizer
from purenoise.speed import Switches
from purenoise.step import Step
from purenoise.trainsection import Train

from .test_timm import SMALLEST, small_input

timm = pytest.importorskip("timm")

N_CLASSES = 7
TORCHVISION = (
    "resnet18", "mobilenet_v3_small", "efficientnet_b0", "densenet121", "regnet_y_400mf",
    "shufflenet_v2_x0_5", "convnext_tiny", "swin_t",
)  # fmt: skip
DOZEN = 12
MODERATE = 30_000_000  # parameters
FEW = ["timm:test_efficientnet", "timm:test_vit", "torchvision:shufflenet_v2_x0_5"]


@dataclass
class Tried:
    """A model that is tried.

    Args:
        name: As in a recipe.
        model: Built, with a head for seven classes.
        images: Two, of a size that it takes.
        folder: For files.
    """

    name: str
    model: nn.Module
    images: Tensor
    folder: Path

    def fresh(self) -> nn.Module:
        """Return another network of this name, with other weights."""
        return quietly(self.name, seed=9)

    def outputs(self, model: nn.Module) -> Tensor:
        """Return what a model in evaluation makes of the images."""
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(1)
            out = model.eval()(self.images)
        assert isinstance(out, Tensor)
        assert out.isfinite().all(), "outputs are not finite"
        return out


@dataclass
class Outcome:
    """What came of a model: for each check ``ok`` with a remark, or the error."""

    name: str
    seconds: float = 0.0
    said: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


Check = Callable[[Tried], str]


def open_step(tried: Tried) -> str:
    """Take one step with natural and noise images through our step and optimiser."""
    model = tried.model
    kept = {n: p.detach().clone() for n, p in model.named_parameters()}
    fit_batch_norm(model, "dar")
    n_norms = sum(isinstance(m, _BatchNorm) for m in model.modules())
    assert dar_layers(model) == n_norms
    step = Step(model.train(), 6, Switches(), noisy=True)
    optimizer = build_optimizer(model, Train(lr=0.01))
    draws = torch.Generator().manual_seed(0)
    natural = torch.cat([tried.images, tried.images.flip(-1)])  # (4, C, H, W)
    noise = torch.rand(tried.images.shape, generator=draws)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        logits = step(natural, noise, phase_has_noise=True)
    assert logits.shape == (6, N_CLASSES)
    F.cross_entropy(logits, torch.arange(6)).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # some deep nets explode when they are new
    optimizer.step()
    assert all(p.isfinite().all() for p in model.parameters())
    # Below layers that begin with zeros (a last gamma, some heads) nothing has a gradient yet.
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, kept[n])}
    heads = tuple(f"{head}." for head in head_names(model))
    assert any(n.startswith(heads) for n in changed), "the head did not change"
    moved = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.norm() > 1e-3}
    assert moved <= changed, f"{len(moved - changed)} tensors with gradients did not change"
    return f"{n_norms} batch norms" if n_norms else "no batch norm"


def save_and_load(tried: Tried) -> str:
    """Weights that were saved give the same outputs in a fresh network, by both ways to load."""
    path, expected = tried.folder / "weights.safetensors", tried.outputs(tried.model)
    save_weights(path, tried.model, {})
    first, second = tried.fresh(), tried.fresh()
    key = next(k for k, v in first.state_dict().items() if v.dim() > 1)
    assert not torch.equal(first.state_dict()[key], tried.model.state_dict()[key])
    load_weights(path, first)
    assert load_file(second, path) == []
    assert torch.equal(tried.outputs(first), expected)
    assert torch.equal(tried.outputs(second), expected)
    return ""


def plain_again(tried: Tried) -> str:
    """Reverted, the network has the library's own layers and computes what it computed."""
    expected, state = tried.outputs(tried.model), copy.deepcopy(tried.model.state_dict())
    revert(tried.model)
    plain = tried.fresh()
    assert [type(m) for m in tried.model.modules()] == [type(m) for m in plain.modules()]
    assert list(tried.model.state_dict()) == list(state) == list(plain.state_dict())
    assert torch.equal(tried.outputs(tried.model), expected)
    return ""


CHECKS: dict[str, Check] = {
    "OPeN step": open_step, "save and load": save_and_load, "plain again": plain_again,
}  # fmt: skip


def quietly(name: str, seed: int = 3) -> nn.Module:
    """Build a model, whatever its library warns of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return build_model(name, N_CLASSES, generator_seed=seed)


def settle(model: nn.Module, images: Tensor) -> None:
    """Give batch norms the statistics of these images: without, deep untrained nets overflow."""
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    before = [m.momentum for m in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad(), torch.random.fork_rng():
        model.train()(images)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum


def images_for(name: str, model: nn.Module) -> Tensor:
    """Return two images of a size that the model takes."""
    if name.startswith("timm:"):
        return small_input(model)
    side = 64 if any(isinstance(m, _BatchNorm) for m in model.modules()) else None
    side = side or torchvision_weights(name.partition(":")[2]).transforms().crop_size[0]
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))


def attempt(name: str, checks: dict[str, Check] = CHECKS) -> Outcome:
    """Run checks on a model; after one that fails the others are tried all the same."""
    outcome, started = Outcome(name), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = quietly(name)
        tried = Tried(name, model, images_for(name, model), Path(folder))
        settle(model, tried.images)
        for title, check in checks.items():
            try:
                outcome.said[title] = check(tried)
            except Exception as error:  # whatever goes wrong in a model is what the table is for
                text = str(error).strip().partition("\n")[0][:120]
                outcome.failed[title] = f"{type(error).__name__}: {text}"
    outcome.seconds = time.perf_counter() - started
    return outcome


def the_dozen() -> list[str]:
    """Draw a dozen other models of timm of moderate size, always the same for one timm."""
    known = {row["name"] for row in SMALLEST.values()}
    names = sorted(set(timm.list_models()) - known)
    found: list[str] = []
    for name in random.Random(0).sample(names, len(names)):
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                model = timm.create_model(name)
            except Exception:  # some models cannot be built there: others are drawn
                continue
        if sum(p.numel() for p in model.parameters()) < MODERATE:
            found.append(f"timm:{name}")
        if len(found) == DOZEN:
            break
    return found


def all_names() -> list[str]:
    """Return everything that is tried in the long form."""
    found = [row["name"] for row in SMALLEST.values() if timm.is_model(row["name"])]
    names = [*(f"timm:{name}" for name in found), *the_dozen()]
    return [*names, *(f"torchvision:{name}" for name in TORCHVISION)]


def table(outcomes: Sequence[Outcome], checks: dict[str, Check] = CHECKS) -> str:
    """Write what was tried, and what failed, as a Markdown table."""
    lines = [f"| model | {' | '.join(checks)} | s |", "|---|" + "---|" * (len(checks) + 1)]
    for outcome in outcomes:
        cells = [outcome.failed.get(c) or f"ok {outcome.said[c]}".strip() for c in checks]
        cells = [cell.replace("|", "/") for cell in cells]
        lines.append(f"| {outcome.name} | {' | '.join(cells)} | {outcome.seconds:.1f} |")
    n = sum(bool(outcome.failed) for outcome in outcomes)
    return "\n".join([*lines, "", f"{len(outcomes)} models tried, {n} with a failure."])


@pytest.mark.parametrize("name", FEW)
def test_a_few_models_of_the_zoo(name: str) -> None:
    """A step, saving, loading and reverting work for one model of each kind."""
    outcome = attempt(name)
    assert not outcome.failed, table([outcome])
    assert set(outcome.said) == set(CHECKS)


def test_a_failure_is_seen() -> None:
    """A check that fails is in the table, and the checks after it are still made."""

    def wrong(tried: Tried) -> str:
        raise ValueError("a | fault\nof its own")

    checks: dict[str, Check] = {"wrong": wrong, "step": open_step}
    outcome = attempt("timm:test_vit", checks)
    assert outcome.failed == {"wrong": "ValueError: a | fault"}
    assert outcome.said == {"step": "no batch norm"}
    assert "1 models tried, 1 with a failure" in table([outcome], checks)
    assert "ValueError: a / fault" in table([outcome], checks)


@pytest.mark.long
def test_the_whole_zoo(capsys: pytest.CaptureFixture[str]) -> None:
    """Every model that is listed passes every check; the table is printed."""
    outcomes = [attempt(name) for name in all_names()]
    with capsys.disabled():
        print(f"\n{table(outcomes)}")
    assert len(outcomes) > 60
    assert not [o.name for o in outcomes if o.failed]


if __name__ == "__main__":
    print(table([attempt(name) for name in sys.argv[1:] or all_names()]))
