"""Measure: ``python -m benchmarks [NAME...] [--size toy|small|full]``; see ``--help``."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

from benchmarks import (
    augmenting,
    commands,
    comparing,
    epoch,
    folder,
    listed,
    memory_kept,
    processes,
    report,
    result,
    step,
    switches,
)
from benchmarks.rows import Rows
from purenoise.runtime import keep_freed_memory, resolve_device, resolve_threads, torch_settings

HERE = Path(__file__).parent
WORK = HERE / ".work"
NAMES = (
    "step", "memory", "switches", "epoch", "augmenting", "folder", "listed", "commands",
    "comparing", "processes", "result",
)  # fmt: skip
Part = tuple[str, Callable[[], bool | None]]


def parts(names: list[str], rows: Rows, data: str, deadline: float) -> Iterator[Part]:
    """Yield the parts of the chosen benchmarks: small enough to be done one by one."""
    settings = step.settings(rows.size, rows.device)
    for setting in settings:
        label = f"{setting.name} {setting.batch}x{setting.side}" + " bf16" * setting.bf16
        small = setting.side <= 32
        if "step" in names:
            yield f"step {label}", partial(step.measure, setting, rows)
        if "switches" in names and not setting.bf16:
            yield f"switches {label}", partial(switches.measure, setting, rows)
        if "memory" in names and setting is settings[0]:
            yield f"memory {label}", partial(memory_kept.measure, setting, rows)
        if "epoch" in names and small:
            yield f"epoch {label}", partial(epoch.measure, setting, rows)
    if "augmenting" in names:
        for policy in ("flip-crop", "flip-crop-cutout", "open", "autoaugment", "randaugment"):
            yield f"augmenting {policy}", partial(augmenting.measure, policy, rows)
    if "folder" in names:
        yield "folder", partial(folder.measure, rows, WORK)
    if "listed" in names:
        yield "listed", partial(listed.measure, rows, WORK)
    if "commands" in names:
        yield "commands", partial(commands.measure, rows)
    if "comparing" in names:
        yield "comparing", partial(comparing.measure, rows)
    if "processes" in names:
        yield "processes", partial(processes.measure, rows)
    if "result" in names:
        for run in result.RUNS[rows.size]:
            done = partial(result.measure, run, rows, data, WORK, deadline)
            yield f"result {run[0]}", done


def main() -> None:
    """Run what was asked for and is not there yet; stop before the time is up."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure purenoise. Rows go to benchmarks/results/; what was measured on this "
        "machine at this commit is not measured again, so several short calls add up.",
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}, or report"
    )
    parser.add_argument("--size", choices=("toy", "small", "full"), default="small",
                        help="toy: seconds; small: two CPU cores; full: a GPU")  # fmt: skip
    parser.add_argument("--minutes", type=float, default=60.0, help="begin nothing after this time")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--data", default="data", help="where cifar-10-batches-py lies")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the rows")
    parser.add_argument("--again", action="store_true", help="measure again what is there")
    args = parser.parse_args()
    unknown = set(args.names) - {*NAMES, "report"}
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}, report")
    if args.names == ["report"]:
        report.write()
        return
    deadline = time.monotonic() + 60 * args.minutes
    device, threads = resolve_device(args.device), resolve_threads("auto")
    keep_freed_memory()  # as the commands do
    rows = Rows(args.out / f"{device.type}.csv", args.size, device, threads)
    with torch_settings(threads, device):
        for name, measure in parts(args.names or list(NAMES), rows, args.data, deadline):
            if not args.again and rows.has(name):
                print(f"{name}: there already")
                continue
            if time.monotonic() > deadline:
                print(f"{name}: the time is up; call again to go on")
                continue
            print(name, flush=True)
            torch.manual_seed(0)
            if measure() is not False:
                rows.add(name, "all", "finished", "", [1.0])


if __name__ == "__main__":
    main()
