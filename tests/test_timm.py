"""Every architecture of timm that has batch norm, through ``convert`` and back.

``timm_smallest.json`` names the model with the fewest parameters of each timm module that has batch
norm. It is written by :func:`find_smallest`: ``python -m tests.test_timm`` (some minutes; models
are built on the meta device, without weights). A seeded sample runs ordinarily, all with ``-m
long``.
"""

from __future__ import annotations

import copy
import json
import random
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves

from purenoise.conversion import convert, dar_layers, revert
from purenoise.passes import noise_pass

timm = pytest.importorskip("timm")

TABLE = Path(__file__).with_name("timm_smallest.json")
SMALLEST: dict[str, dict[str, Any]] = json.loads(TABLE.read_text())["modules"]
CHEAP = [m for m, row in sorted(SMALLEST.items()) if row["parameters"] < 15_000_000]
SAMPLE = random.Random(0).sample(CHEAP, 12)


def build(name: str, device: str = "cpu") -> nn.Module:
    """Build a timm model without weights of its own, whatever it warns of."""
    with warnings.catch_warnings(), torch.device(device):
        warnings.simplefilter("ignore")
        return timm.create_model(name, pretrained=False)


def find_smallest() -> dict[str, Any]:
    """Find, for each module of timm, the smallest model that has batch norm."""
    modules: dict[str, dict[str, Any]] = {}
    unbuilt = []
    for module in timm.list_modules():
        rows = []
        for name in timm.list_models(module=module):
            try:
                model = build(name, "meta")
            except Exception as error:  # a model that cannot be built there is listed, not lost
                unbuilt.append(f"{name}: {type(error).__name__}: {error}"[:150])
                continue
            norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
            if norms:
                rows.append((sum(p.numel() for p in model.parameters()), name, norms))
        if rows:
            size, name, norms = min(rows, key=lambda row: row[:2])
            modules[module] = {
                "name": name,
                "parameters": size,
                "norm_act": sum(type(n).__name__ == "BatchNormAct2d" for n in norms),
                "batch_norm_1d": sum(isinstance(n, nn.BatchNorm1d) for n in norms),
            }
    return {"timm": timm.__version__, "modules": modules, "not_built_on_meta": unbuilt}


def small_input(model: nn.Module) -> Tensor:
    """Return two images of the smallest size that the model takes."""
    config = model.pretrained_cfg
    channels, *default = config["input_size"]
    for size in () if config.get("fixed_input_size") else (64, 96, 128, 160, 192):
        x = torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0))
        try:
            with torch.no_grad():
                model.eval()(x)
            return x
        except Exception:  # too small; models say so in many ways
            continue
    return torch.randn(2, channels, *default, generator=torch.Generator().manual_seed(0))


def run(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Run a model with the same random numbers each time."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        return tree_leaves(model(x))


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    """Whether all tensors are equal bit for bit (a NaN equals a NaN)."""
    pairs = zip(first, second, strict=True)
    return all(torch.equal(torch.nan_to_num(a), torch.nan_to_num(b)) for a, b in pairs)


def check(name: str) -> None:
    """Hold a converted and a reverted model against the plain one."""
    model = build(name)
    x = small_input(model)
    start = copy.deepcopy(model.state_dict())
    kinds = [type(m) for m in model.modules()]
    evaluated, trained = run(model.eval(), x), run(model.train(), x)
    stepped = copy.deepcopy(model.state_dict())
    model.load_state_dict(start)

    assert convert(model) is model
    assert dar_layers(model) == sum(isinstance(m, _BatchNorm) for m in model.modules()) > 0
    assert same(run(model.eval(), x), evaluated)
    assert same(run(model.train(), x), trained)
    assert list(model.state_dict()) == list(stepped)
    assert same(list(model.state_dict().values()), list(stepped.values()))

    with noise_pass(model):
        noise = run(model, torch.rand_like(x))
    assert len(noise) == len(trained)
    assert same(list(model.state_dict().values()), list(stepped.values()))

    revert(model)
    assert [type(m) for m in model.modules()] == kinds
    assert same(list(model.state_dict().values()), list(stepped.values()))
    model.load_state_dict(start)
    assert same(run(model.eval(), x), evaluated)


def check_module(module: str) -> None:
    """Check the smallest model of a module of timm, if the installed timm has it."""
    name = SMALLEST[module]["name"]
    if not timm.is_model(name):
        made_with = json.loads(TABLE.read_text())["timm"]
        pytest.skip(f"{name} of timm {made_with} is not in timm {timm.__version__}")
    check(name)


@pytest.mark.parametrize("module", SAMPLE)
def test_sample_of_timm_converts_and_reverts(module):
    """A model of timm computes the same bits converted, and is itself again reverted."""
    check_module(module)


@pytest.mark.long
@pytest.mark.parametrize("module", sorted(SMALLEST))
def test_all_of_timm_converts_and_reverts(module):
    """The smallest model of every module of timm with batch norm converts and reverts."""
    check_module(module)


def test_table_covers_layers_with_an_activation():
    """The table holds modules whose batch norms hide an activation, and 1-D batch norms."""
    assert sum(row["norm_act"] > 0 for row in SMALLEST.values()) >= 20
    assert sum(row["batch_norm_1d"] > 0 for row in SMALLEST.values()) >= 5


if __name__ == "__main__":
    TABLE.write_text(json.dumps(find_smallest(), indent=1, sort_keys=True) + "\n")
