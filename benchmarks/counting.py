"""What a step costs besides time: memory, waits for the device, operations and bytes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

WAITS = {"aten::_local_scalar_dense", "aten::nonzero"}  # operations that bring values to the host


def peak_memory(step: Callable[[], object], device: torch.device) -> int:
    """Return the most bytes that tensors took during a step, above what they took before it."""
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        step()
    results = found.profiler.kineto_results  # type: ignore[union-attr]
    changes = sorted(
        (event.start_ns(), event.nbytes())
        for event in results.events()
        if event.name() == "[memory]"
    )
    now = most = 0
    for _, n in changes:
        now += n
        most = max(most, now)
    return most


def waits(step: Callable[[], object], device: torch.device) -> int:
    """Return how often a step makes the host wait for values of the device.

    On a GPU torch counts; on a CPU, where nothing waits, the operations that would are counted.
    """
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                step()
            finally:
                torch.cuda.set_sync_debug_mode("default")
        return sum("synchroniz" in str(warning.message) for warning in caught)
    with profile(activities=[ProfilerActivity.CPU]) as found:
        step()
    return sum(event.name in WAITS for event in found.events() or ())


class _Bytes(TorchDispatchMode):
    """Adds up what every operation reads and writes."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = function(*args, **(kwargs or {}))
        if not function.is_view:
            tensors = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, torch.Tensor)]
            self.total += sum(t.numel() * t.element_size() for t in tensors)
        return out


def work(step: Callable[[], object]) -> tuple[int, int]:
    """Return the floating-point operations of a step, and the bytes that its operations touch.

    Bytes are those of operations run one by one: what a cache keeps or a compiler fuses is less.
    """
    step()
    with FlopCounterMode(display=False) as flops:
        step()
    with _Bytes() as touched:
        step()
    return flops.get_total_flops(), touched.total


def ceilings(device: torch.device, dtype: torch.dtype) -> tuple[float, float]:
    """Measure what the device can do at best: FLOP/s of a matrix product, bytes/s of a copy."""
    from benchmarks.timing import alternate

    on_gpu = device.type == "cuda"
    side, n = (8192, 2**30) if on_gpu else (1024, 2**26)
    a = torch.randn(side, side, device=device).to(dtype)
    source = torch.empty(n, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    times = alternate(
        {"product": lambda: a @ a, "copy": lambda: target.copy_(source)}, 9, device, 3
    )
    return 2 * side**3 / min(times["product"]), 2 * n / min(times["copy"])
