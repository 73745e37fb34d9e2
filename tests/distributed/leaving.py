"""Leave the processes' group with torch's wrapper still in a variable; say how many threads stay.

torchrun --standalone --nproc-per-node 2 tests/distributed/leaving.py
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from purenoise.team import joined


def threads_of_gloo() -> int:
    """Return how many threads of this process are gloo's."""
    names = (task.joinpath("comm").read_text() for task in Path("/proc/self/task").iterdir())
    return sum("gloo" in name for name in names)


def main() -> None:
    """Average a gradient, leave, and print what was and what is."""
    with joined() as team:
        wrapper = team.wrap(nn.Linear(3, 3), torch.device("cpu"))
        wrapper(torch.ones(2, 3)).sum().backward()
        inside = threads_of_gloo()
    held = type(wrapper).__name__
    print(f"inside {inside > 0}, after {threads_of_gloo()}, held {held}\n", end="", flush=True)


if __name__ == "__main__":
    main()
