"""What several processes check together; started by torchrun, one line ``ok NAME`` per check.

    torchrun --standalone --nproc-per-node 2 tests/distributed/checks.py FOLDER

Every process makes the whole batch from a seed, takes its rows, and holds what comes out against
one process alone with all rows.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import purenoise as pn
from purenoise.conversion import convert
from purenoise.darbn import DARBatchNorm1d, DARBatchNorm2d
from purenoise.errors import RunError
from purenoise.experiment import run_recipe
from purenoise.losses import CrossEntropyLoss, FocalLoss, LDAMLoss
from purenoise.models import build_model
from purenoise.passes import noise_pass
from purenoise.recipe import load_recipe
from purenoise.team import Team, here, joined
from purenoise.twopass import TwoPass

RUNS = {
    "open": ["method=open", "epochs=18"],
    "tiny batches": ["method=open", "epochs=2", "batch_size=5", "delta=1", "defer=0.5"],
    "affine": ["method=open", "epochs=4", "stop_gradient=affine", "augment=flip-crop-cutout"],
    "none": ["method=open", "epochs=4", "stop_gradient=none", "augment=trivialaugment"],
    "weights and mixing": ["method=mixup-drw", "epochs=4", "augment=open"],
    "cmo with noise": ["method=open+cmo", "epochs=4", "options.prob=1", "options.skip=0"],
    "second stage": ["method=crt", "epochs=4"],
    "scales": ["method=lws", "epochs=4"],
    "shared": ["method=open", "epochs=4", "batch_norm=shared"],
    "shuffled": ["method=open", "epochs=4", "noise=shuffled"],
    "added noise": ["method=noise-augment", "epochs=3"],
    "no noise": ["method=erm", "epochs=3", "val_fraction=0.2"],
}
COMMON = ["precision=float64", "batch_size=64", "threads=1", "eval.every=2"]


def recipe_of(name: str, out: str | Path):
    """Return a recipe of ``RUNS``; what it says itself comes last."""
    return load_recipe("digits", [*COMMON, *RUNS[name], f"out={out}"])


def shares(counts: list[list[int]]) -> list[list[int]]:
    """Row counts per process, given for two processes, with one more process that has one row."""
    return [[*pair, *([1] * (here().size - 2))] for pair in counts]


def own_rows(x: Tensor, counts: list[int]) -> Tensor:
    """Return this process's rows, as a leaf."""
    start = sum(counts[: here().rank])
    return x[start : start + counts[here().rank]].clone().requires_grad_()


def check_layers(_: Path) -> None:
    """Outputs, gradients and running statistics equal those of one layer with all rows."""
    settings = [{}, {"momentum": None}, {"affine": False}, {"track_running_stats": False}]
    for kind, shape in ((DARBatchNorm2d, (3, 4, 5)), (DARBatchNorm1d, (3,))):
        for options in settings:
            for stop in ("branch", "affine", "none"):
                for counts in shares([[4, 4], [5, 2], [0, 6], [7, 0]]):
                    check_layer(kind, shape, {**options, "stop_gradient": stop}, counts)


def check_layer(kind, shape, options, counts) -> None:
    """Three passes of one layer, the second one over noise."""
    generator = torch.Generator().manual_seed(sum(counts))
    alone = kind(shape[0], dtype=torch.float64, **options)
    if alone.affine:
        alone.weight.data.uniform_(0.5, 2, generator=generator)
        alone.bias.data.uniform_(-1, 1, generator=generator)
    together = copy.deepcopy(alone)
    together.synchronised = True
    for step in range(3):
        x = 100 + torch.randn(sum(counts), *shape, dtype=torch.float64, generator=generator)
        weights = torch.randn(x.shape, dtype=torch.float64, generator=generator)
        noisy = step == 1
        whole, part = x.clone().requires_grad_(), own_rows(x, counts)
        start = sum(counts[: here().rank])
        rows = slice(start, start + counts[here().rank])
        outs = []
        for layer, rows_in in ((alone, whole), (together, part)):
            if noisy:
                with noise_pass(layer):
                    outs.append(layer(rows_in))
            else:
                outs.append(layer(rows_in))
        close(outs[1], outs[0][rows])
        if outs[0].requires_grad:
            alone.zero_grad()
            together.zero_grad()
            (outs[0] * weights).sum().backward()
            (outs[1] * weights[rows]).sum().backward()
            if whole.grad is not None:
                close(part.grad, whole.grad[rows])
            for mine, all_of_it in zip(together.parameters(), alone.parameters(), strict=True):
                if all_of_it.grad is not None:
                    close(here().sum(mine.grad), all_of_it.grad)
        for name, buffer in alone.named_buffers():
            close(dict(together.named_buffers())[name].double(), buffer.double())


def check_groups(_: Path) -> None:
    """A SyncBatchNorm that was given processes takes its statistics over those alone."""
    team = here()
    groups = [torch.distributed.new_group([rank]) for rank in range(team.size)]
    rows = torch.full((4, 2, 3, 3), float(team.rank)) + torch.arange(4.0)[:, None, None, None]
    layer = convert(nn.SyncBatchNorm(2, process_group=groups[team.rank], momentum=1.0))
    layer(rows)
    close(layer.running_mean, torch.full((2,), team.rank + 1.5))
    whole = convert(nn.SyncBatchNorm(2, momentum=1.0))
    whole(rows)
    close(whole.running_mean, torch.full((2,), (team.size - 1) / 2 + 1.5))


def check_no_rows_at_all(_: Path) -> None:
    """Where no process has a natural row nothing is learnt, and gradients are zero."""
    layer = convert(nn.BatchNorm2d(2), synchronise=True)
    before = layer.running_mean.clone()
    layer(torch.zeros(0, 2, 3, 3)).sum().backward()
    assert torch.equal(layer.running_mean, before)
    assert torch.equal(layer.weight.grad, torch.zeros(2))


def check_one_value(_: Path) -> None:
    """One natural value per channel over all processes is refused in all of them, as in one."""
    layer = convert(nn.BatchNorm1d(2), synchronise=True)
    rows = torch.ones(1 if here().leads else 0, 2)
    with pytest.raises(ValueError, match="more than 1 value"):
        layer(rows)
    with noise_pass(layer):
        out = layer(rows)
    close(out, torch.zeros_like(rows))  # beta


def check_steps(_: Path) -> None:
    """Losses and gradients of whole networks equal those of one process, for several losses."""
    import timm

    team, counts = here(), np.array([50, 20, 5])
    nets: list[Callable[[], nn.Module]] = [
        lambda: build_model("resnet8", 3, in_channels=3, generator_seed=0),
        lambda: timm.create_model("test_resnet.r160_in1k", num_classes=3),
    ]
    losses = [CrossEntropyLoss([0.2, 1.0, 3.0]), FocalLoss(gamma=1.0), LDAMLoss(counts, s=3)]
    for make in nets:
        for loss in losses:
            for n, m in ((9, 5), (2, 6), (7, 1), (0, 4)):
                torch.manual_seed(1)
                net = make()
                torch.manual_seed(1)
                twin = make()
                compare_step(convert(net).double(), convert(twin, synchronise=True).double(),
                             loss, n, m, team)  # fmt: skip


def compare_step(alone: nn.Module, shared: nn.Module, loss, n: int, m: int, team: Team) -> None:
    """One step of one network, n natural and m noise rows."""
    generator = torch.Generator().manual_seed(n)
    natural = torch.randn(n, 3, 32, 32, dtype=torch.float64, generator=generator)
    noise = torch.randn(m, 3, 32, 32, dtype=torch.float64, generator=generator)
    labels = torch.randint(3, (n + m,), generator=generator)
    value = loss(TwoPass(alone)(natural, noise), labels)
    value.backward()
    step = team.wrap(TwoPass(shared), torch.device("cpu"))
    a, b = team.rows(n), team.rows(m)
    logits = step(natural[a], noise[b])
    own = torch.cat([labels[:n][a], labels[n:][b]])
    part = loss.share(logits, own, labels)
    (part * team.size).backward()
    close(team.sum(part.detach()), value.detach())
    for p, q in zip(alone.parameters(), shared.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None)
        if p.grad is not None:
            close(q.grad, p.grad, scale=max(1.0, float(p.grad.abs().max())))


def check_team(_: Path) -> None:
    """What processes tell one another arrives whole."""
    team = here()
    assert team.any(team.rank == 1, False) == (True, False)
    assert float(team.sum(torch.tensor(float(team.rank)))) == sum(range(team.size))
    for n in (0, 1, 7, 64):
        rows = team.rows(n)
        whole = np.arange(2 * n, dtype=np.float32).reshape(n, 2)
        assert np.array_equal(team.joined_rows(whole[rows], n), whole)
    for content in (None, b"", b"x" * 100_000):
        assert team.sent(content if team.leads else b"nothing") == content

    def fails_in_one() -> int:
        if team.rank == 1:
            raise RunError("it is broken here.")
        return 3

    with pytest.raises(RunError, match="it is broken here") as error:
        team.together(fails_in_one)
    assert ("Process 1 of" in str(error.value)) == (team.rank != 1)
    with pytest.raises(OSError if team.rank == 1 else RunError, match="no disk"):
        team.together(lambda: open_nothing() if team.rank == 1 else 3)
    assert team.together(lambda: 3) == 3
    team.refuse_differing({"the recipe": 1})
    with pytest.raises(RunError, match="recipe: it is 0 in process 0 and 1 in process 1"):
        team.refuse_differing({"the recipe": team.rank})
    settings = f"train:\n  epochs: 3\n  lr: {0.1 + team.rank}\n"
    with pytest.raises(RunError, match=r"is lr: 0\.1 in process 0 and lr: 1\.1 in process 1"):
        team.refuse_differing({"the recipe": team.rank}, settings)


def open_nothing() -> int:
    """Fail in a way that is no user's mistake."""
    raise OSError("no disk")


def check_runs(folder: Path) -> None:
    """Train every run of ``RUNS``; the test compares the folders with those of one process."""
    for name in RUNS:
        recipe = recipe_of(name, folder / "together")
        run = run_recipe(recipe, recipe, folder=folder / "together" / name)
        assert run.metrics  # in every process


def check_differing_recipes(folder: Path) -> None:
    """Processes with different recipes all refuse, and name what differs."""
    recipe = load_recipe("digits", [f"epochs={2 + here().rank}", f"out={folder}"])
    with pytest.raises(RunError, match="differ in the recipe"):
        run_recipe(recipe, recipe, folder=folder / "differing")


def check_mistakes(folder: Path) -> None:
    """What only one process can do is refused in all, with one sentence."""
    for words, said in (
        (["speed.step=masked"], "speed.step=masked"),
        (["batch_norm=auxiliary"], "batch_norm=auxiliary"),
        (["epochs=1", "lr=1e30"], "loss is"),
    ):
        recipe = load_recipe("digits", [*words, f"out={folder}"])
        with pytest.raises(pn.PureNoiseError, match=said):
            run_recipe(recipe, recipe, folder=folder / "mistake" / words[0])


CHECKS = {name.removeprefix("check_"): f for name, f in list(globals().items())
          if name.startswith("check_") and name != "check_layer"}  # fmt: skip


def close(a: Tensor, b: Tensor, scale: float = 1.0) -> None:
    """Assert equality to 1e-10 of the scale."""
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10 * scale)


def main() -> None:
    """Run the checks that are named, or all."""
    folder = Path(sys.argv[1])
    names = sys.argv[2:] or list(CHECKS)
    torch.set_num_threads(1)
    with joined() as team:
        for name in names:
            CHECKS[name](folder)
            if team.leads:
                print(f"ok {name}", flush=True)


if __name__ == "__main__":
    main()
