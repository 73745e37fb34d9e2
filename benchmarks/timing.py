"""Comparisons as ratios: cases take turns in one run, so that what disturbs one disturbs all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch

Times = dict[str, list[float]]


def alternate(
    cases: Mapping[str, Callable[[], object]], rounds: int, device: torch.device, warm_up: int = 2
) -> Times:
    """Time cases in turns.

    Args:
        cases: What to run, by name.
        rounds: How often; each round begins with another case, so that none always follows the
            same one.
        device: Waited for before and after each case.
        warm_up: Rounds that are not counted.

    Returns:
        Seconds, one per round, for each case.
    """
    times: Times = {name: [] for name in cases}
    names = list(cases)
    for turn in range(-warm_up, rounds):
        at = turn % len(names)
        for name in names[at:] + names[:at]:
            wait_for(device)
            start = time.perf_counter()
            cases[name]()
            wait_for(device)
            if turn >= 0:
                times[name].append(time.perf_counter() - start)
    return times


def ratios(times: Times, case: str, baseline: str) -> list[float]:
    """Return the ratio of a case to a baseline, round by round."""
    return [a / b for a, b in zip(times[case], times[baseline], strict=True)]


def wait_for(device: torch.device) -> None:
    """Wait until a device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
