"""Two processes that share each batch against one: OPeN steps, one thread each, on the CPU.

Both take turns in one start of torchrun: while the first process steps alone, the second waits.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import torch
import torch.distributed as dist
import torch.nn.functional as F

from benchmarks.forms import NOISE_SHARE
from benchmarks.rows import Rows
from purenoise.conversion import convert
from purenoise.models import build_model
from purenoise.network import lay_out
from purenoise.team import Team, joined
from purenoise.twopass import TwoPass

ROUNDS = {"toy": 2, "small": 15, "full": 15}
NETWORKS = {"toy": (("resnet8", 16),), "small": (("resnet32", 128), ("wide_resnet16_4", 128)),
            "full": (("resnet32", 128), ("wide_resnet16_4", 128))}  # fmt: skip


def measure(rows: Rows) -> None:
    """Measure how much faster two processes are than one."""
    for name, batch in NETWORKS[rows.size]:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone",
                   "--nproc-per-node=2", "-m", "benchmarks.processes", name, str(batch),
                   str(ROUNDS[rows.size])]  # fmt: skip
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=env)
        times = json.loads(done.stdout.splitlines()[-1])
        case = f"{name} {batch}x32, float32"
        for key, seconds in times.items():
            rows.add("processes", case, f"{key}: images", "img/s", [batch / s for s in seconds])
        pairs = zip(times["1 process"], times["2 processes"], strict=True)
        rows.add("processes", case, "2 processes / 1: images", "", [a / b for a, b in pairs])


def main() -> None:
    """Time both in turns; the first process prints the seconds of each step."""
    name, batch, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    with joined() as team:
        alone, together = _step(name, batch, Team()), _step(name, batch, team)
        times: dict[str, list[float]] = {"1 process": [], "2 processes": []}
        for turn in range(-2, rounds):
            for key, step, steps in (
                ("1 process", alone, team.leads),
                ("2 processes", together, True),
            ):
                dist.barrier()
                start = time.perf_counter()
                if steps:
                    step()
                seconds = time.perf_counter() - start
                if turn >= 0:
                    times[key].append(seconds)
        if team.leads:
            print(json.dumps(times))


def _step(name: str, batch: int, team: Team):
    """Return a whole OPeN step of this process's rows of a made-up batch."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, 32, 32, generator=draw)
    labels = torch.randint(10, (batch,), generator=draw)
    m = round(NOISE_SHARE * batch)
    n = batch - m
    a, b = team.rows(n), team.rows(m)
    natural, noise = images[:n][a], images[n:][b]
    own = torch.cat([labels[:n][a], labels[n:][b]])
    model = lay_out(convert(build_model(name, 10, generator_seed=0), synchronise=not team.is_alone))
    forward = team.wrap(TwoPass(model), torch.device("cpu"))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        logits = forward(natural, noise)
        (F.cross_entropy(logits, own, reduction="sum") / batch * team.size).backward()
        optimizer.step()

    return step


if __name__ == "__main__":
    main()
